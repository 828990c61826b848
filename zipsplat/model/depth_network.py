"""The networks of Depth Anything 3: images in, depth maps and cameras out.

Letters: B scenes, V views, H W pixels, D width.

    images ─ normalise ─ backbone ─► tokens of 4 layers ─ dense head ─► depth, confidence or sky
                            │                └ special token ─ camera decoder ─► cameras, poses
    priors ─ camera encoder ┘

The backbone is the one that ZipSplat uses (`backbones/dav3.py`). There are three kinds: any-view
networks, monocular ones (a plain transformer with a head for depth and sky), and one of each that
together give metric depth (`NestedDepthNetwork`). See Lin et al., "Depth Anything 3" (2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from zipsplat.camera import Camera
from zipsplat.model.architecture import BackboneConfig
from zipsplat.model.backbones.dav3 import LayerTokens, MultiViewViT
from zipsplat.model.camera_decoder import CameraDecoder, decode_cameras
from zipsplat.model.depth_head import DenseMaps, DualDpt, HeadConfig, SkyDpt
from zipsplat.model.layers import without_autocast
from zipsplat.model.metric_depth import fill_sky, metric_scale, without_sky
from zipsplat.model.priors import CameraEncoder, Priors
from zipsplat.pose import Pose

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VIEWS_AT_ONCE = 8
"""Views per batch of the head, which treats them independently and has large maps."""
MAX_SKY_DEPTH = 200.0
"""Metres."""


@dataclass(frozen=True)
class DepthConfig:
    """The architecture of an any-view or monocular network.

    Args:
        backbone: the vision transformer.
        head: the dense head.
        has_cameras: whether there are a camera encoder and a camera decoder.
    """

    backbone: BackboneConfig
    head: HeadConfig
    has_cameras: bool


@dataclass(frozen=True)
class DepthMaps:
    """Outputs of a network; None if it has no such branch, or it was not requested.

    Args:
        depth: (B, V, H, W) along the optical axis.
        confidence: (B, V, H, W), above 1.
        cameras: (B, V) in pixels of the images.
        poses: (B, V) camera-to-world.
        rays: (B, V, h, w, 6) ray directions and origins, at 8 cells per patch side.
        ray_confidence: (B, V, h, w), above 1.
        sky: (B, V, H, W), at least 0; values from 0.3 mean sky.
        scale: (B,) factor from the network's units to metres, already applied.
    """

    depth: Tensor
    confidence: Tensor | None = None
    cameras: Camera | None = None
    poses: Pose | None = None
    rays: Tensor | None = None
    ray_confidence: Tensor | None = None
    sky: Tensor | None = None
    scale: Tensor | None = None


class DepthPredictor(Protocol):
    """The interface of all depth networks, as `nn.Module`s."""

    patch_size: int
    has_cameras: bool

    def __call__(
        self, images: Tensor, priors: Priors | None = None, *, with_rays: bool = False
    ) -> DepthMaps:
        """Depth of images (B, V, 3, H, W), RGB in [0, 1]; see `DepthNetwork.forward`."""
        ...

    def set_precision(self, dtype: torch.dtype) -> nn.Module:
        """Compute the transformer in `dtype`; returns the network."""
        ...


class DepthNetwork(nn.Module):
    """An any-view or monocular network.

    Args:
        config: the architecture.
    """

    def __init__(self, config: DepthConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_size = config.backbone.patch_size
        self.has_cameras = config.has_cameras
        self.backbone = MultiViewViT(config.backbone)
        dim = config.backbone.dim
        self.cam_enc = CameraEncoder(dim, config.backbone.prior_heads) if self.has_cameras else None
        self.cam_dec = CameraDecoder(2 * dim) if self.has_cameras else None
        self.head = (DualDpt if config.head.is_dual else SkyDpt)(config.head)

    def forward(
        self, images: Tensor, priors: Priors | None = None, *, with_rays: bool = False
    ) -> DepthMaps:
        """Predict depth, and cameras if the network has a decoder for them.

        Args:
            images: (B, V, 3, H, W) RGB in [0, 1]; H and W are multiples of the patch size.
            priors: (B, V) known cameras, of transforms from camera to world coordinates
                (`Priors.from_transforms`), poses relative to the first view.
            with_rays: predict rays as well.
        """
        layers = self.tokens(images, priors)
        H, W = images.shape[-2:]
        maps = self.dense(layers, (H, W), with_rays=with_rays)
        cameras = poses = None
        if self.cam_dec is not None:
            cameras, poses = decode_cameras(self.cam_dec(layers[0].special), H, W)
        depth = maps.depth if maps.sky is None else without_sky(maps.depth, maps.sky)
        return DepthMaps(
            depth, maps.confidence, cameras, poses, maps.rays, maps.ray_confidence, maps.sky
        )

    def tokens(self, images: Tensor, priors: Priors | None = None) -> list[LayerTokens]:
        """Tokens of the four layers, deepest first; arguments as for `forward`."""
        if priors is not None and self.cam_enc is None:
            raise ValueError("this network predicts depth from images alone; it takes no cameras")
        mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        camera_tokens = None
        if priors is not None and self.cam_enc is not None:
            with without_autocast(images.device):
                camera_tokens = self.cam_enc(priors)
        return self.backbone.layers((images - mean) / std, camera_tokens)

    def dense(
        self, layers: list[LayerTokens], size: tuple[int, int], *, with_rays: bool = False
    ) -> DenseMaps:
        """Apply the head to tokens; maps have batch shape (B, V)."""
        head = self.head
        run = head.with_rays if with_rays and isinstance(head, DualDpt) else head
        patches = [layer.patches.to(head.dtype) for layer in reversed(layers)]
        B, V = patches[0].shape[:2]
        pieces = zip(*(part.flatten(0, 1).split(VIEWS_AT_ONCE) for part in patches), strict=True)
        with without_autocast(patches[0].device):
            parts = [run(list(piece), size) for piece in pieces]
        names = ("depth", "confidence", "rays", "ray_confidence", "sky")
        joined = {
            name: torch.cat([getattr(part, name) for part in parts]).unflatten(0, (B, V))
            for name in names
            if getattr(parts[0], name) is not None
        }
        return DenseMaps(**joined)

    def set_precision(self, dtype: torch.dtype) -> DepthNetwork:
        """Compute the transformer in `dtype`; heads and cameras stay in float32."""
        self.to(torch.float32)
        self.backbone.to(dtype)
        return self


class NestedDepthNetwork(nn.Module):
    """An any-view network whose scale comes from a monocular metric one.

    Args:
        da3: the any-view network.
        da3_metric: the metric network.
    """

    def __init__(self, da3: DepthConfig, da3_metric: DepthConfig) -> None:
        super().__init__()
        self.patch_size = da3.backbone.patch_size
        self.has_cameras = da3.has_cameras
        self.da3 = DepthNetwork(da3)
        self.da3_metric = DepthNetwork(da3_metric)

    def forward(
        self, images: Tensor, priors: Priors | None = None, *, with_rays: bool = False
    ) -> DepthMaps:
        """Depth and poses in metres; arguments as for `DepthNetwork.forward`.

        Raises:
            ValueError: if a scene shows almost nothing but sky.
        """
        relative = self.da3(images, priors, with_rays=with_rays)
        metric = self.da3_metric(images)
        confidence, cameras, poses, sky = (
            relative.confidence, relative.cameras, relative.poses, metric.sky,
        )  # fmt: skip
        assert confidence is not None
        assert cameras is not None
        assert poses is not None
        assert sky is not None
        scale = metric_scale(relative.depth, confidence, metric.depth, sky, cameras)
        depth = relative.depth * scale[:, None, None, None]
        depth, confidence = fill_sky(depth, confidence, sky, MAX_SKY_DEPTH)
        return DepthMaps(
            depth,
            confidence,
            cameras,
            Pose(poses.R, poses.t * scale[:, None, None]),
            relative.rays,
            relative.ray_confidence,
            sky,
            scale,
        )

    def set_precision(self, dtype: torch.dtype) -> NestedDepthNetwork:
        """As `DepthNetwork.set_precision`, for both."""
        self.da3.set_precision(dtype)
        self.da3_metric.set_precision(dtype)
        return self
