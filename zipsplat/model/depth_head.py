"""Dense heads: from patch tokens of four layers to maps of depth, confidence, rays or sky.

Letters: n images, H W pixels, h w patches along their sides, C channels of the tokens, F features.

Both heads are dense prediction transformers (Ranftl et al., "Vision Transformers for Dense
Prediction", 2021) as Depth Anything 3 uses them (Lin et al., 2025): the tokens of four layers
become maps of 4, 2, 1 and 1/2 cells per patch side, which are joined from coarse to fine.
Parameter names are those of its released weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_LAYERS = 4
OUTPUT_CHANNELS = 32
"""Channels before the last 1×1 convolution of every branch."""
RAY_CHANNELS = 6
UV_BASE = 100.0
UV_WEIGHT = 0.1


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of a dense head.

    Args:
        dim: channels C of the tokens.
        features: F, channels of the fused maps.
        channels: of the maps of the four layers, shallow to deep.
        is_dual: depth with confidence and rays (`DualDpt`); otherwise depth and sky (`SkyDpt`).
    """

    dim: int
    features: int
    channels: tuple[int, int, int, int]
    is_dual: bool


@dataclass(frozen=True)
class DenseMaps:
    """Outputs of a head; None if it has no such branch, or it was not requested.

    Args:
        depth: (n, H, W).
        confidence: (n, H, W), above 1.
        rays: (n, 8 h, 8 w, 6) ray directions and origins.
        ray_confidence: (n, 8 h, 8 w), above 1.
        sky: (n, H, W), at least 0, large where there is sky.
    """

    depth: Tensor
    confidence: Tensor | None = None
    rays: Tensor | None = None
    ray_confidence: Tensor | None = None
    sky: Tensor | None = None


class ResidualConvolutions(nn.Module):
    """Two 3×3 convolutions, each after a ReLU, around which the input is added."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, F, ...) to maps of the same shape."""
        out: Tensor = self.conv2(self.conv1(x.relu()).relu_())
        return out.add_(x)


class Fusion(nn.Module):
    """Fuses a coarser map with that of a layer.

    Args:
        features: F.
        has_lateral: False for the coarsest level, which has nothing to fuse with.
    """

    def __init__(self, features: int, *, has_lateral: bool) -> None:
        super().__init__()
        if has_lateral:
            self.resConfUnit1 = ResidualConvolutions(features)
        self.resConfUnit2 = ResidualConvolutions(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, lateral: Tensor | None, size: Sequence[int]) -> Tensor:
        """The fused map (n, F, *size)."""
        if lateral is not None:
            x = self.resConfUnit1(lateral).add_(x)
        # The 1×1 convolution and the interpolation commute; this order is four times cheaper.
        return _upsampled(self.out_conv(self.resConfUnit2(x)), size)


class DenseHead(nn.Module):
    """Base of both heads: projects tokens to maps, and fuses maps from coarse to fine.

    Args:
        config: sizes.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        F, channels = config.features, config.channels
        self.norm = nn.LayerNorm(config.dim) if config.is_dual else nn.Identity()
        self.projects = nn.ModuleList(nn.Conv2d(config.dim, width, 1) for width in channels)
        self.resize_layers = nn.ModuleList(
            (
                nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
                nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
            )
        )
        self.scratch = nn.Module()
        for level, width in enumerate(channels, start=1):
            convolution = nn.Conv2d(width, F, 3, padding=1, bias=False)
            self.scratch.add_module(f"layer{level}_rn", convolution)
        self._add_fusions("")
        self.scratch.add_module("output_conv1", nn.Conv2d(F, F // 2, 3, padding=1))

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of the tokens it takes."""
        return next(self.parameters()).dtype

    def _add_fusions(self, suffix: str) -> None:
        for level in range(1, NUM_LAYERS + 1):
            fusion = Fusion(self.config.features, has_lateral=level < NUM_LAYERS)
            self.scratch.add_module(f"refinenet{level}{suffix}", fusion)

    def laterals(self, layers: Sequence[Tensor], grid: tuple[int, int]) -> list[Tensor]:
        """Maps of F channels, fine to coarse.

        Args:
            layers: four of (n, h·w, C), shallow to deep.
            grid: h and w.
        """
        maps = []
        for level, tokens in enumerate(layers):
            projected = self._project(level, self.norm(tokens))
            map_ = projected.transpose(1, 2).unflatten(-1, grid).contiguous()
            map_ = self.resize_layers[level](self._placed(map_, grid))
            maps.append(self.scratch.get_submodule(f"layer{level + 1}_rn")(map_))
        return maps

    def _project(self, level: int, tokens: Tensor) -> Tensor:
        """A 1×1 convolution as a matrix product."""
        weights = self.projects[level]
        assert isinstance(weights, nn.Conv2d)
        return functional.linear(tokens, weights.weight.flatten(1), weights.bias)

    def joined(self, laterals: Sequence[Tensor], suffix: str = "") -> Tensor:
        """The fused map (n, F, 8 h, 8 w) of one branch."""
        x = laterals[-1]
        for level in range(NUM_LAYERS, 0, -1):
            lateral = laterals[level - 1]
            size = (
                laterals[level - 2].shape[-2:] if level > 1 else [2 * side for side in x.shape[-2:]]
            )
            fusion = self.scratch.get_submodule(f"refinenet{level}{suffix}")
            x = fusion(x, lateral if level < NUM_LAYERS else None, size)
        return x

    def _placed(self, maps: Tensor, grid: tuple[int, int]) -> Tensor:
        """Add position encodings, if the head's weights expect them."""
        if self.config.is_dual:
            add_places(maps, grid[1] / grid[0])
        return maps


class DualDpt(DenseHead):
    """Depth and confidence; on request also rays, from a separate branch.

    Args:
        config: sizes.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        F = config.features
        self.scratch.add_module("output_conv2", _output_layers(F // 2, 2))
        self._add_fusions("_aux")
        widths = (F, F // 2, F, F // 2, F, F // 2)
        pairs = pairwise(widths)
        # The released weights have these layers at every level; only the finest is used.
        last = str(NUM_LAYERS - 1)
        first_layers = nn.ModuleDict(
            {
                last: nn.Sequential(
                    *(nn.Conv2d(before, after, 3, padding=1) for before, after in pairs)
                )
            }
        )
        last_layers = nn.ModuleDict({last: _RayOutput(F // 2)})
        self.scratch.add_module("output_conv1_aux", first_layers)
        self.scratch.add_module("output_conv2_aux", last_layers)

    def forward(self, layers: Sequence[Tensor], size: tuple[int, int]) -> DenseMaps:
        """Depth and confidence of n images.

        Args:
            layers: four of (n, h·w, C), shallow to deep.
            size: H and W in pixels, multiples of the patch size.
        """
        grid = _grid(layers[0].shape[1], size)
        return self._depth(self.laterals(layers, grid), grid, size)

    def with_rays(self, layers: Sequence[Tensor], size: tuple[int, int]) -> DenseMaps:
        """As `forward`, and the rays; they cost about as much again."""
        grid = _grid(layers[0].shape[1], size)
        laterals = self.laterals(layers, grid)
        rays, confidence = self._rays(laterals, grid)
        return replace(self._depth(laterals, grid, size), rays=rays, ray_confidence=confidence)

    def _depth(
        self, laterals: Sequence[Tensor], grid: tuple[int, int], size: tuple[int, int]
    ) -> DenseMaps:
        x = self.scratch.get_submodule("output_conv1")(self.joined(laterals))
        x = self._placed(_upsampled(x, size), grid)
        depth, confidence = self.scratch.get_submodule("output_conv2")(x).unbind(1)
        return DenseMaps(depth.exp(), confidence.exp() + 1)

    def _rays(self, laterals: Sequence[Tensor], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        last = str(NUM_LAYERS - 1)
        x = self.scratch.get_submodule("output_conv1_aux." + last)(self.joined(laterals, "_aux"))
        x = self.scratch.get_submodule("output_conv2_aux." + last)(self._placed(x, grid))
        rays, confidence = x.split((RAY_CHANNELS, 1), dim=1)
        return rays.movedim(1, -1), confidence.squeeze(1).exp() + 1


class SkyDpt(DenseHead):
    """Depth and sky.

    Args:
        config: sizes.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__(config)
        self.scratch.add_module("output_conv2", _output_layers(config.features // 2, 1))
        self.scratch.add_module("sky_output_conv2", _output_layers(config.features // 2, 1))

    def forward(self, layers: Sequence[Tensor], size: tuple[int, int]) -> DenseMaps:
        """Depth and sky of n images; arguments as for `DualDpt`."""
        laterals = self.laterals(layers, _grid(layers[0].shape[1], size))
        x = _upsampled(self.scratch.get_submodule("output_conv1")(self.joined(laterals)), size)
        depth = self.scratch.get_submodule("output_conv2")(x)
        sky = self.scratch.get_submodule("sky_output_conv2")(x)
        return DenseMaps(depth.squeeze(1).exp(), sky=sky.squeeze(1).relu())


class _RayOutput(nn.Sequential):
    """3×3 convolution, LayerNorm over channels, ReLU, 1×1 convolution; numbered as released."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, OUTPUT_CHANNELS, 3, padding=1),
            nn.Identity(),
            nn.LayerNorm(OUTPUT_CHANNELS),
            nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(OUTPUT_CHANNELS, RAY_CHANNELS + 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, F/2, ...) to (n, 7, ...)."""
        first, _, norm, _, relu, last = self
        normed = norm(first(x).movedim(1, -1)).movedim(-1, 1)
        out: Tensor = last(relu(normed))
        return out


def add_places(maps: Tensor, aspect: float) -> None:
    """Add sinusoidal position encodings of the cells to maps, in place.

    Coordinates span a rectangle of diagonal 2 and aspect ratio W/H; half of the channels encode x,
    half y, each with the sines first, then the cosines, of falling frequencies.

    Args:
        maps: (n, D, rows, columns), D a multiple of 4.
        aspect: width of the image by its height.
    """
    D, (rows, columns) = maps.shape[1], maps.shape[-2:]
    diagonal = (aspect**2 + 1) ** 0.5
    maps[:, : D // 2] += _waves(aspect / diagonal, columns, D // 2, maps)[:, None, :]
    maps[:, D // 2 :] += _waves(1 / diagonal, rows, D // 2, maps)[:, :, None]


def _waves(reach: float, count: int, channels: int, like: Tensor) -> Tensor:
    """Sines and cosines (channels, count) of coordinates of cell centres within ± reach."""
    end = reach * (count - 1) / count
    # In double precision, as in the published network; MPS does not support it.
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    places = torch.linspace(-end, end, count, device=like.device, dtype=dtype)
    exponents = torch.arange(channels // 2, device=like.device, dtype=dtype) / (channels / 2)
    angles = UV_BASE ** -exponents[:, None] * places
    return (torch.cat((angles.sin(), angles.cos())) * UV_WEIGHT).to(like.dtype)


def _output_layers(width: int, num_maps: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, OUTPUT_CHANNELS, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(OUTPUT_CHANNELS, num_maps, 1),
    )


def _upsampled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear interpolation between the centres of the corner cells."""
    return functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


def _grid(num_patches: int, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of square patches that tile an image."""
    side = round((size[0] * size[1] / num_patches) ** 0.5)
    return size[0] // side, size[1] // side
