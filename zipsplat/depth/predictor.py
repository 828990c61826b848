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
"""Smallest scene extent that poses are divided by; smaller scenes are not scaled up."""


@dataclass(frozen=True)
class Depth:
    """Depth maps of V views with their cameras; unknown fields are None.

    Args:
        images: (V, 3, H, W) the network inputs, RGB in [0, 1].
        depth: (V, H, W) distance along the optical axis, in the units of the poses.
        confidence: (V, H, W), above 1, larger is more certain.
        cameras: (V,) in pixels of `images`.
        poses: (V,) camera-to-world; the first camera is the origin unless poses were given.
        input_cameras: (V,) the same cameras in pixels of the input images.
        sky: (V, H, W), at least 0; values from 0.3 mean sky.
    """

    images: Tensor
    depth: Tensor
    confidence: Tensor | None
    cameras: Camera | None
    poses: Pose | None
    input_cameras: Camera | None
    sky: Tensor | None


class DepthAnything(nn.Module):
    """Predicts depth, confidence and cameras of a few images with Depth Anything 3.

    Any-view networks (da3-small to da3-giant) predict depth up to one scale for all views, and the
    cameras; with da3nested-giant-large both are in metres. Monocular networks (da3mono-large,
    da3metric-large) predict depth and sky of each image independently, without confidence and
    cameras; depth of da3metric-large, times the focal length in pixels, divided by 300, is in
    metres.

    Args:
        weights: a name ("da3-small", see `zipsplat.weights.names`), a path, an http(s) URL, or a
            Hugging Face repository "organisation/repository". They define the architecture.
        device: "auto" selects CUDA, else MPS (untested), else the CPU.
        dtype: of the transformer: "float32", "bfloat16", or "auto", see
            `zipsplat.devices.choose_dtype`. Heads and cameras are computed in float32.
        image_size: long side in pixels to resize images to, keeping their aspect ratio; or (height,
            width) to crop and resize them to. Multiples of 14.

    Attributes:
        model: the network.
        preprocessor: resizes images to the network's input size.
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
        """Wrap an existing network, which is moved and cast in place."""
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
        """The device of the network."""
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

        Given cameras and poses are inputs of the network, and depth is scaled to them by the
        similarity between given and predicted camera centres. That needs three or more views whose
        centres are not collinear.

        Args:
            images: list of (3, H, W) of any sizes, (V, 3, H, W), or (1, V, 3, H, W); RGB in [0, 1].
            cameras: of the input images: (V,), or a list of V. Needs `poses`.
            poses: camera-to-world in any common frame: (V,), or a list of V. Needs `cameras`.

        Raises:
            TypeError: if the images are not floating-point tensors.
            ValueError: if shapes do not match, or the scale of given poses cannot be determined.
        """
        if (cameras is None) != (poses is None):
            given, wanted = ("cameras", "poses") if poses is None else ("poses", "cameras")
            raise ValueError(f"{given} must be given together with {wanted}; give both or none")
        inputs = self.preprocessor(images, cameras, poses)
        priors = None
        if inputs.cameras is not None and inputs.poses is not None:
            if not self.model.has_cameras:
                raise ValueError(
                    "this network predicts each image independently; it takes no cameras"
                )
            seen = seen_from_first(inputs.poses)
            priors = Priors.from_transforms(inputs.cameras, seen)[None].to(self.device)
        with fastest(self.width, self.device):
            maps = self.model(inputs.images[None].to(self.device), priors)
        return _aligned(maps, inputs) if priors is not None else _as_predicted(maps, inputs)


def seen_from_first(poses: Pose) -> Pose:
    """Normalise poses for the networks: relative to the first, in units of the scene's extent.

    The extent is the lower median distance of the camera centres from the first, at least 0.1.

    Args:
        poses: (V,) camera-to-world.
    """
    relative = poses[:1].inv().compose(poses)
    extent = relative.t.norm(dim=-1).median().clamp_min(MIN_EXTENT)
    return Pose(relative.R, relative.t / extent)


def _as_predicted(maps: DepthMaps, inputs: DepthInputs) -> Depth:
    """The prediction in the frame of the first camera."""
    poses = None if maps.poses is None else maps.poses[0]
    if poses is not None:
        poses = poses[:1].inv().compose(poses)
    cameras = None if maps.cameras is None else maps.cameras[0]
    return _result(maps, inputs, maps.depth[0], cameras, poses)


def _aligned(maps: DepthMaps, inputs: DepthInputs) -> Depth:
    """The prediction scaled to the given poses, which replace the predicted ones."""
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
        input_cameras=None if cameras is None else inputs.in_input_pixels(cameras),
        sky=None if maps.sky is None else maps.sky[0],
    )
