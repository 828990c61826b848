"""ZipSplat's network: the stages of the paper in order, from tensors to Gaussians.

Letters: B scenes, V views, H W pixels, T patches per view, N = V·T tokens of a scene, M scene
tokens, G Gaussians per token, D width, L output layers of the backbone.

    images ─ backbone ─► tokens of L depths ─ prepare ─► L × (B, N, D) ┐
       └──── color_embed ──────────────────────────────► (B, N, color) ┤ Features   `encode`
                                                                       │
    compression ─ select: M of N tokens ─ fuse ─► scene tokens ◄───────┤            `decode`
                  colours read by the same tokens ─► colour features ◄─┘
                  Gaussian head: (B, M, D + color) ─► (B, M·G) Gaussians

See Veicht et al., "ZipSplat: Fewer Gaussians, Better Splats" (2026).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.backbones import BACKBONES, Backbone
from zipsplat.model.backbones.dav3 import DepthAnything3
from zipsplat.model.camera_decoder import CameraDecoder, decode_cameras
from zipsplat.model.compression import Selector, num_kept, select_kmeans
from zipsplat.model.fusion import NORM_EPS, fuse, gather, prepare
from zipsplat.model.head import GaussianHead
from zipsplat.model.layers import Block, CrossBlock, Mlp, PatchEmbed
from zipsplat.model.priors import Priors
from zipsplat.pose import Pose


@dataclass(frozen=True)
class Features:
    """Encoded images: the input of `decode` at any compression.

    Args:
        layers: L tensors (B, N, D), deepest first.
        colors: (B, N, color width).
        num_views: V; the N tokens are ordered view by view.
        grid: rows and columns of patches in a view.
        cameras: (B, V, 2·D) input of the camera decoder, if there is one.
    """

    layers: tuple[Tensor, ...]
    colors: Tensor
    num_views: int
    grid: tuple[int, int]
    cameras: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> Features:
        """Move or cast the tensors; arguments as for `torch.Tensor.to`."""
        layers = tuple(layer.to(*args, **kwargs) for layer in self.layers)
        cameras = None if self.cameras is None else self.cameras.to(*args, **kwargs)
        colors = self.colors.to(*args, **kwargs)
        return replace(self, layers=layers, colors=colors, cameras=cameras)

    def keep(self, kept: Tensor) -> Features:
        """Keep the tokens selected by a mask (N,).

        The order of the tokens then no longer gives their grid positions.
        """
        kept = kept.to(self.colors.device)
        layers = tuple(layer[:, kept] for layer in self.layers)
        return replace(self, layers=layers, colors=self.colors[:, kept])

    @property
    def num_tokens(self) -> int:
        """Tokens N of a scene."""
        return self.colors.shape[1]


class ZipSplatNetwork(nn.Module):
    """From images in [0, 1] to Gaussians in the first view's camera frame.

    Args:
        config: the architecture.
        backbone: another backbone than the one that `config` describes.
    """

    def __init__(self, config: ZipSplatConfig, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        self.backbone = (
            BACKBONES[config.backbone.name](config.backbone) if backbone is None else backbone
        )
        dim, hidden = config.backbone.dim, round(config.mlp_ratio * config.backbone.dim)
        depths = range(self.backbone.num_outputs)
        self.pre_norm_local = nn.ModuleList(nn.LayerNorm(dim, eps=NORM_EPS) for _ in depths)
        self.pre_norm_global = nn.ModuleList(nn.LayerNorm(dim, eps=NORM_EPS) for _ in depths)
        self.downscale = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in depths)
        self.cross_attention = nn.ModuleList(
            CrossBlock(dim, config.num_heads, hidden, NORM_EPS) for _ in depths
        )
        self.self_attention = nn.ModuleList(
            Block(dim, config.num_heads, Mlp(dim, hidden), qk_norm=True, eps=NORM_EPS)
            for _ in depths
        )
        color_dim = config.color_dim
        self.color_embed = PatchEmbed(color_dim, self.backbone.patch_size)
        self.color_cross_attention = CrossBlock(color_dim, config.color_heads, color_dim, NORM_EPS)
        self.gaussian_head = GaussianHead(
            dim + color_dim, config.gaussians_per_token, config.parameters_per_gaussian
        )
        if config.has_camera_decoder and not isinstance(self.backbone, DepthAnything3):
            raise ValueError("a camera decoder needs the backbone of Depth Anything 3")
        self.cam_dec = CameraDecoder(2 * dim) if config.has_camera_decoder else None

    def forward(
        self,
        images: Tensor,
        priors: Priors | None = None,
        compression: float = 1.0,
        selector: Selector = select_kmeans,
    ) -> Gaussians:
        """Encode, then decode."""
        return self.decode(self.encode(images, priors), compression, selector)

    def encode(self, images: Tensor, priors: Priors | None = None) -> Features:
        """Run everything that does not depend on the compression.

        Args:
            images: (B, V, 3, H, W) RGB in [0, 1]; H and W are multiples of the patch size.
            priors: (B, V) known cameras.
        """
        grid = self._check(images)
        outputs, special = self._run_backbone(images, priors)
        layers = [
            prepare(tokens, norm_local, norm_global, mix)
            for tokens, norm_local, norm_global, mix in zip(
                outputs,
                self.pre_norm_local,
                self.pre_norm_global,
                self.downscale,
                strict=True,
            )
        ]
        colors = self.color_embed(images).flatten(1, 2)
        return Features(tuple(layers), colors, images.shape[1], grid, special)

    def _run_backbone(
        self, images: Tensor, priors: Priors | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Tokens of each layer, deepest first, and the input of the camera decoder."""
        if self.cam_dec is None or not isinstance(self.backbone, DepthAnything3):
            return self.backbone(images, priors), None
        outputs = self.backbone.layers(images, priors)
        return [layer.patches for layer in outputs], outputs[0].special

    def cameras(self, features: Features) -> tuple[Camera, Pose]:
        """Cameras (B, V) in pixels of the encoded images, and poses (B, V) camera-to-world.

        Args:
            features: from `encode`.

        Raises:
            ValueError: if the network has no camera decoder.
        """
        if self.cam_dec is None or features.cameras is None:
            raise ValueError("these weights have no camera decoder, so they cannot predict cameras")
        height, width = (self.backbone.patch_size * side for side in features.grid)
        return decode_cameras(self.cam_dec(features.cameras), height, width)

    def decode(
        self, features: Features, compression: float = 1.0, selector: Selector = select_kmeans
    ) -> Gaussians:
        """Decode encoded images to Gaussians.

        Args:
            features: from `encode`.
            compression: share of the tokens to keep, in (0, 1].
            selector: selects tokens from those of the deepest layer.

        Returns:
            (B, M·G) Gaussians, M = max(1, ⌊N · compression⌋); those of a token are adjacent.
        """
        indices = selector(features.layers[0], num_kept(features.num_tokens, compression))
        return self.decode_selected(features, indices)

    def decode_selected(self, features: Features, indices: Tensor) -> Gaussians:
        """Gaussians (B, M·G) of the tokens at `indices` (B, M)."""
        out: Gaussians = self.gaussian_head(self.scene_tokens(features, indices))
        return out

    def scene_tokens(self, features: Features, indices: Tensor) -> Tensor:
        """Input of the head (B, M, D + color width) for the tokens at `indices` (B, M)."""
        return torch.cat((self.fuse(features, indices), self.colors(features, indices)), dim=-1)

    def fuse(self, features: Features, indices: Tensor) -> Tensor:
        """Scene tokens (B, M, D) for the tokens kept at `indices` (B, M)."""
        cross = [self._checkpointed(block) for block in self.cross_attention]
        within = [self._checkpointed(block) for block in self.self_attention]
        return fuse(features.layers, indices, cross, within)

    def colors(self, features: Features, indices: Tensor) -> Tensor:
        """Colour features (B, M, color width) for the tokens kept at `indices` (B, M)."""
        query = gather(features.colors, indices)
        update: Tensor = self.color_cross_attention(query, features.colors)
        return query + update

    def set_precision(self, dtype: torch.dtype) -> ZipSplatNetwork:
        """Compute in `dtype`, except for the Gaussian head and cameras, which stay in float32."""
        for name, part in self.named_children():
            part.to(torch.float32 if name in ("gaussian_head", "cam_dec") else dtype)
        return self

    def _check(self, images: Tensor) -> tuple[int, int]:
        """Check the shape of images; returns rows and columns of patches."""
        size = self.backbone.patch_size
        if images.ndim != 5 or images.shape[2] != 3 or 0 in images.shape:
            raise ValueError(
                "the network needs images (B, V, 3, H, W) with at least one scene and one view, "
                f"got {tuple(images.shape)}"
            )
        H, W = images.shape[-2:]
        if H % size or W % size:
            raise ValueError(f"image sides must be multiples of {size} pixels, got {H}×{W}")
        return H // size, W // size

    def _checkpointed(self, block: nn.Module) -> Callable[..., Tensor]:
        """The block, with gradient checkpointing if requested in training."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            return partial(checkpoint, block, use_reentrant=False)
        return block
