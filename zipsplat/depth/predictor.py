"""`DepthAnything`: weights, preprocessing, network and alignment in one public class.

Letters: V views, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np
import torch
from torch import Tensor, nn

from zipsplat import weights as weights_files
from zipsplat.camera import Camera
from zipsplat.depth.network_inputs import DepthInputs, DepthPreprocessor
from zipsplat.devices import choose_device, choose_dtype
from zipsplat.float32_products import fastest, width_of
from zipsplat.model.depth_layout import depth_network_from_tensors
from zipsplat.model.depth_network import DepthMaps, DepthPredictor
from zipsplat.model.priors import Priors
from zipsplat.pose import Pose
from zipsplat.preprocess import Images
from zipsplat.similarity import align_centres

MIN_EXTENT = 0.1
"""Scenes smaller than this are not scaled up for the network."""


@dataclass(frozen=True)
class Depth:
    """Depth maps of V views, with what is known of their cameras; None is what is not known.

    Args:
        images: (V, 3, H, W) what the network saw, RGB in [0, 1].
        depth: (V, H, W) distance along the optical axis, in the units of the poses.
        confidence: (V, H, W), above 1, larger is surer.
        cameras: (V,) in pixels of `images`.
        poses: (V,) camera-to-world; the first camera is the origin unless poses were given.
        picture_cameras: (V,) the same cameras in pixels of the pictures as they were given.
        sky: (V, H, W) from 0; from 0.3 on, the network takes a pixel for sky.
    """

    images: Tensor
    depth: Tensor
    confidence: Tensor | None
    cameras: Camera | None
    poses: Pose | None
    picture_cameras: Camera | None
    sky: Tensor | None


class DepthAnything(nn.Module):
    """Depth, confidence and cameras of a few pictures, by the networks of Depth Anything 3.

    Any-view networks (da3-small to da3-giant) predict depth up to one scale for all views, and the
    cameras; with da3nested-giant-large both are in metres. Monocular networks (da3mono-large,
    da3metric-large) predict depth and sky of each picture by itself, no confidence and no cameras;
    depth of da3metric-large, times the focal length in pixels, divided by 300, is in metres.

    Args:
        weights: a name ("da3-small", see `zipsplat.weights.names`), a path, an http(s) address, or
            a Hugging Face repository "organisation/repository". The network is read from it.
        device: where to compute: "auto" takes CUDA, else MPS (untested), else the CPU.
        dtype: of the transformer: "float32", "bfloat16", or "auto", see
            `zipsplat.devices.choose_dtype`. Heads and cameras are computed in float32.
        image_size: long side in pixels that pictures are resampled to, their shape kept; or
            (height, width), to which they are cropped. Multiples of 14.

    Attributes:
        model: the network.
        preprocessor: brings pictures to the network's input size.
        width: D of the network.
    """

    def __init__(
        self,
        weights: str | PathLike[str] = "da3-small",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        image_size: int | tuple[int, int] = 504,
    ) -> None:
        checkpoint = weights_files.load(weights)
        try:
            network = depth_network_from_tensors(checkpoint.tensors, checkpoint.conf)
        except ValueError as error:
            raise ValueError(f"{checkpoint.path}: {error}") from error
        self._assemble(network, device, dtype, image_size)

    @classmethod
    def from_network(
        cls,
        network: DepthPredictor,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        image_size: int | tuple[int, int] = 504,
    ) -> DepthAnything:
        """Wrap a network that is there already; it is moved and cast itself, not a copy."""
        predictor = cls.__new__(cls)
        predictor._assemble(network, device, dtype, image_size)
        return predictor

    def _assemble(
        self,
        network: DepthPredictor,
        device: str | torch.device,
        dtype: str | torch.dtype,
        image_size: int | tuple[int, int],
    ) -> None:
        super().__init__()
        where = choose_device(device)
        self.preprocessor = DepthPreprocessor(image_size, network.patch_size)
        self.width = width_of(network)
        self.model = network.set_precision(choose_dtype(dtype, where, self.width)).to(where)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        parameter = next(self.model.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @torch.no_grad()
    def forward(
        self,
        images: Images,
        cameras: Camera | Sequence[Camera] | None = None,
        poses: Pose | Sequence[Pose] | None = None,
    ) -> Depth:
        """Predict depth of the views of one scene.

        Cameras and poses are inputs of the network, and depth is brought to their scale by
        the similarity between given and predicted camera centres. That takes three views or more
        whose centres are not on a line.

        Args:
            images: list of (3, H, W) of any sizes, (V, 3, H, W), or (1, V, 3, H, W); RGB in [0, 1].
            cameras: of the pictures as given: (V,), or a list of V. Needs `poses`.
            poses: camera-to-world in any common frame: (V,), or a list of V. Needs `cameras`.

        Raises:
            TypeError: if the images are not floating-point tensors.
            ValueError: if something does not fit, or the scale of given poses cannot be found.
        """
        if (cameras is None) != (poses is None):
            given, wanted = ("cameras", "poses") if poses is None else ("poses", "cameras")
            raise ValueError(f"{given} are of use only together with {wanted}; give both or none")
        inputs = self.preprocessor(images, cameras, poses)
        priors = None
        if inputs.cameras is not None and inputs.poses is not None:
            if not self.model.has_cameras:
                raise ValueError(
                    "this network predicts each picture by itself; it takes no cameras"
                )
            seen = seen_from_first(inputs.poses)
            priors = Priors.from_transforms(inputs.cameras, seen)[None].to(self.device)
        with fastest(self.width, self.device):
            maps = self.model(inputs.images[None].to(self.device), priors)
        return _aligned(maps, inputs) if priors is not None else _as_predicted(maps, inputs)


def seen_from_first(poses: Pose) -> Pose:
    """Poses as the networks are told: relative to the first, in units of the scene's extent.

    The extent is the median distance of the camera centres from the first, the lower one of two
    middle ones, and at least 0.1.

    Args:
        poses: (V,) camera-to-world.
    """
    relative = poses[:1].inv().compose(poses)
    extent = relative.t.norm(dim=-1).median().clamp_min(MIN_EXTENT)
    return Pose(relative.R, relative.t / extent)


def _as_predicted(maps: DepthMaps, inputs: DepthInputs) -> Depth:
    """Everything in the frame of the first camera."""
    poses = None if maps.poses is None else maps.poses[0]
    if poses is not None:
        poses = poses[:1].inv().compose(poses)
    cameras = None if maps.cameras is None else maps.cameras[0]
    return _result(maps, inputs, maps.depth[0], cameras, poses)


def _aligned(maps: DepthMaps, inputs: DepthInputs) -> Depth:
    """Depth in the units of the given poses, which replace the predicted ones."""
    assert inputs.poses is not None
    assert inputs.cameras is not None
    assert maps.poses is not None
    given, predicted = (
        t.detach().cpu().double().numpy() for t in (inputs.poses.t, maps.poses.t[0])
    )
    scale = align_centres(np.asarray(given), np.asarray(predicted)).scale
    device = maps.depth.device
    cameras, poses = inputs.cameras.to(device), inputs.poses.to(device)
    return _result(maps, inputs, maps.depth[0] / scale, cameras, poses)


def _result(
    maps: DepthMaps, inputs: DepthInputs, depth: Tensor, cameras: Camera | None, poses: Pose | None
) -> Depth:
    return Depth(
        images=inputs.images.to(depth.device),
        depth=depth,
        confidence=None if maps.confidence is None else maps.confidence[0],
        cameras=cameras,
        poses=poses,
        picture_cameras=None if cameras is None else inputs.in_pictures(cameras),
        sky=None if maps.sky is None else maps.sky[0],
    )
