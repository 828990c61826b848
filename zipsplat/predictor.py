"""`ZipSplat`, the main class: weights, preprocessing and network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike

import torch
from torch import Tensor, nn

from zipsplat import weights as weights_files
from zipsplat.camera import Camera
from zipsplat.devices import choose_device, choose_dtype
from zipsplat.float32_products import fastest, width_of
from zipsplat.gaussians import Gaussians
from zipsplat.masks import kept_patches
from zipsplat.model.checkpoint_layout import network_from_tensors, trained_size
from zipsplat.model.compression import check_compression
from zipsplat.model.network import Features, ZipSplatNetwork
from zipsplat.model.priors import Priors
from zipsplat.pose import Pose
from zipsplat.preprocess import Images, ImageSize, Inputs, Preprocessor, scenes_of

__all__ = ["ZipSplat", "choose_device", "choose_dtype"]


class ZipSplat(nn.Module):
    """Reconstructs a 3D Gaussian scene from a few images in one forward pass.

    The scene is in the camera frame of the first view: x right, y down, z forward. Its scale is
    arbitrary; the network was trained on scenes scaled so that the median distance from the first
    camera is 1.

    Args:
        weights: a name ("zipsplat", the released weights of the paper, or "zipsplat-504", the newer
            ones), a path, an http(s) URL, or a Hugging Face repository "organisation/repository".
            They define the architecture.
        device: "auto" selects CUDA, else MPS (untested), else the CPU.
        dtype: "float32" (exact), "bfloat16" (half the memory, and faster on recent GPUs and CPUs),
            or "auto": bfloat16 on CUDA devices that support it, and for networks of ViT-B's
            width or more on CPUs that support it and are faster with it, else float32; see
            `zipsplat.devices.choose_dtype`.
        image_size: size to crop and resize images to: a side in pixels, or (height, width);
            multiples of 14. None is the training size of the weights: 252 for "zipsplat"; for
            "zipsplat-504" a long side of 504 with the aspect ratio of the first image.

    Attributes:
        model: the network.
        preprocessor: resizes images to the network's input size.
        width: D of the network.
    """

    model: ZipSplatNetwork
    preprocessor: Preprocessor

    def __init__(
        self,
        weights: str | PathLike[str] = "zipsplat",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        checkpoint = weights_files.load(weights)
        try:
            network = network_from_tensors(checkpoint.tensors, checkpoint.conf)
        except ValueError as error:
            raise ValueError(f"{checkpoint.path}: {error}") from error
        size: ImageSize | None = image_size
        if size is None:
            size = trained_size(checkpoint.conf, weights_files.usual_size(weights))
        self._assemble(network, device, dtype, size)

    @classmethod
    def from_network(
        cls,
        network: ZipSplatNetwork,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        image_size: ImageSize = 252,
    ) -> ZipSplat:
        """Wrap an existing network, e.g. one just trained; see the class.

        The network is moved, cast and set to evaluation mode in place.
        """
        predictor = cls.__new__(cls)
        predictor._assemble(network, device, dtype, image_size)
        return predictor

    def _assemble(
        self,
        network: ZipSplatNetwork,
        device: str | torch.device,
        dtype: str | torch.dtype,
        image_size: ImageSize,
    ) -> None:
        super().__init__()
        where = choose_device(device)
        self.preprocessor = Preprocessor(image_size, network.backbone.patch_size)
        self.width = width_of(network)
        self.model = network.set_precision(choose_dtype(dtype, where, self.width)).to(where)
        self.eval()

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def forward(
        self,
        images: Images,
        cameras: Camera | Sequence[Camera] | None = None,
        poses: Pose | Sequence[Pose] | None = None,
        use_priors: bool = False,
        compression: float = 1.0,
        *,
        relative_priors: bool = True,
        prior_scale: float = 1.0,
        masks: Sequence[Tensor] | None = None,
    ) -> Gaussians:
        """Reconstruct one scene, or a batch of scenes.

        Args:
            images: list of (3, H, W) of any sizes, (V, 3, H, W), or (B, V, 3, H, W); RGB in [0, 1].
            cameras: of the input images, used with `use_priors`: (V,), a list of V, or (B, V).
            poses: camera-to-world in any common frame; shapes as for `cameras`.
            use_priors: give cameras and poses to the network; both are needed.
            compression: share of the tokens to keep, in (0, 1]; the number of Gaussians follows.
            relative_priors: convert poses to be relative to the first view, as in training. False
                passes them unchanged.
            prior_scale: multiplies the translations of the poses. Training scaled scenes so that
                the median distance of their points from the first camera is 1; so with metric
                poses, choose 1 / (typical distance in metres).
            masks: of one scene, V of (H, W) bool as `zipsplat.masks` loads them. A patch with less
                than half unmasked gives no Gaussians.

        Returns:
            (B, N) Gaussians, B = 1 unless a batch was given.

        Raises:
            TypeError: if the images are not floating-point tensors.
            ValueError: if shapes or values do not match; the message says what was wanted.
        """
        check_compression(compression)
        features = self.encode(
            images,
            cameras,
            poses,
            use_priors,
            relative_priors=relative_priors,
            prior_scale=prior_scale,
            masks=masks,
        )
        return self.decode(features, compression)

    @torch.no_grad()
    def encode(
        self,
        images: Images,
        cameras: Camera | Sequence[Camera] | None = None,
        poses: Pose | Sequence[Pose] | None = None,
        use_priors: bool = False,
        *,
        relative_priors: bool = True,
        prior_scale: float = 1.0,
        masks: Sequence[Tensor] | None = None,
    ) -> Features:
        """Run everything that does not depend on the compression; arguments as for `forward`.

        Returns:
            The input of `decode`. Decoding again at another compression is cheap.
        """
        if (cameras is not None or poses is not None) != use_priors or (
            (cameras is None) != (poses is None)
        ):
            raise ValueError(_prior_problem(cameras is not None, poses is not None, use_priors))
        inputs = self.preprocessor(images, cameras, poses)
        priors = _priors(inputs, relative_priors, prior_scale)
        if priors is not None:
            priors = priors.to(self.device)
        if masks is not None:
            _check_masks(masks, scenes_of(images))
        with fastest(self.width, self.device):
            features = self.model.encode(inputs.images.to(self.device), priors)
        if masks is None:
            return features
        height, width = inputs.images.shape[-2:]
        patch = self.model.backbone.patch_size
        return features.keep(kept_patches(masks, height, width, patch).flatten())

    @torch.no_grad()
    def decode(self, features: Features, compression: float = 1.0) -> Gaussians:
        """Decode encoded images to Gaussians (B, N).

        Args:
            features: from `encode`.
            compression: share of the tokens to keep, in (0, 1].
        """
        with fastest(self.width, self.device):
            return self.model.decode(features, compression)

    @torch.no_grad()
    def cameras(self, features: Features) -> tuple[Camera, Pose]:
        """Predict the cameras of encoded images, if the weights have a camera decoder.

        Args:
            features: from `encode`.

        Returns:
            (B, V) cameras in pixels of the network's input, and (B, V) camera-to-world poses in
            the frame of the first view.

        Raises:
            ValueError: if the weights have no camera decoder.
        """
        cameras, poses = self.model.cameras(features)
        return cameras, poses[:, :1].inv().compose(poses)


def _check_masks(masks: Sequence[Tensor], scenes: list[list[Tensor]]) -> None:
    if len(scenes) != 1:
        raise ValueError(f"masks are for one scene at a time, got {len(scenes)} scenes")
    wanted = [tuple(image.shape[1:]) for image in scenes[0]]
    given = [tuple(mask.shape) for mask in masks]
    if given != wanted:
        raise ValueError(f"masks must have the sizes of the images, {wanted}, got {given}")


def _prior_problem(has_cameras: bool, has_poses: bool, use_priors: bool) -> str:
    if not use_priors:
        return (
            "cameras and poses are only used with use_priors=True; pass that as well, or omit them"
        )
    given = "cameras" if has_cameras else "poses" if has_poses else "neither"
    return f"use_priors=True needs both cameras and poses, got {given}"


def _priors(inputs: Inputs, relative: bool, scale: float) -> Priors | None:
    if inputs.cameras is None or inputs.poses is None:
        return None
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"prior_scale must be positive, got {scale}")
    poses = inputs.poses
    if relative:
        poses = poses[:, :1].inv().compose(poses)
    return Priors.from_cameras(inputs.cameras, Pose(poses.R, poses.t * scale))
