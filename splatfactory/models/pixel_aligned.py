"""Pixel-aligned baseline: one Gaussian per pixel on the same backbone.

The deepest tokens of every patch become its patch_size² Gaussians, with no compression and no
attention after the backbone; colours are predicted relative to the pixel's, as in other
pixel-aligned models. Means are predicted in the frame of the first view.

Letters: B scenes, V views, T patches per view, D width, P numbers per Gaussian.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from splatfactory.datasets.samples import Views
from splatfactory.protocols import Prediction
from splatfactory.schema import ModelConfig
from splatfactory.tiny.recorded_matches import recorded_matches
from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.backbones import BACKBONES
from zipsplat.model.fusion import NORM_EPS, prepare
from zipsplat.model.head import GaussianHead, decode
from zipsplat.model.priors import Priors

FIRST_HARMONIC = slice(11, 14)


class PixelAlignedNetwork(nn.Module):
    """Predicts one Gaussian per pixel.

    Args:
        config: architecture; the number of Gaussians per token is the number of pixels in a patch.
    """

    def __init__(self, config: ZipSplatConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = BACKBONES[config.backbone.name](config.backbone)
        dim, patch = config.backbone.dim, config.backbone.patch_size
        depths = range(self.backbone.num_outputs)
        self.pre_norm_local = nn.ModuleList(nn.LayerNorm(dim, eps=NORM_EPS) for _ in depths)
        self.pre_norm_global = nn.ModuleList(nn.LayerNorm(dim, eps=NORM_EPS) for _ in depths)
        self.downscale = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in depths)
        self.gaussian_head = GaussianHead(
            dim * self.backbone.num_outputs, patch**2, config.parameters_per_gaussian
        )

    def forward(self, images: Tensor, priors: Priors | None = None) -> Gaussians:
        """Gaussians (B, V·H·W) of images (B, V, 3, H, W), patch by patch."""
        layers = [
            prepare(*parts)
            for parts in zip(
                self.backbone(images, priors), self.pre_norm_local, self.pre_norm_global,
                self.downscale, strict=True,
            )
        ]  # fmt: skip
        raw = self.gaussian_head.raw(torch.cat(layers, dim=-1))
        raw = raw.unflatten(-1, (-1, self.config.parameters_per_gaussian))
        colors = dc_from_rgb(self._pixels(images))
        own = functional.pad(colors, (FIRST_HARMONIC.start, raw.shape[-1] - FIRST_HARMONIC.stop))
        return decode((raw + own).flatten(1, 2))

    def _pixels(self, images: Tensor) -> Tensor:
        """Pixel colours in the order of the Gaussians: (B, V·T, patch², 3)."""
        patch = self.config.backbone.patch_size
        B, V, _, H, W = images.shape
        grid = images.float().view(B, V, 3, H // patch, patch, W // patch, patch)
        return grid.permute(0, 1, 3, 5, 4, 6, 2).reshape(B, -1, patch * patch, 3)


class PixelAlignedModel(nn.Module):
    """A `TrainableModel` around the baseline network."""

    def __init__(self, config: ModelConfig, network: PixelAlignedNetwork) -> None:
        super().__init__()
        self.config = config
        self.network = network

    def forward(self, context: Views, compression: float | None = None) -> Prediction:
        """Predict Gaussians; `compression` must be None or 1."""
        if compression not in (None, 1.0):
            raise ValueError(f"a pixel-aligned model cannot compress, got {compression}")
        if self.training:
            has_priors = float(torch.rand(())) < self.config.prior_probability
        else:
            has_priors = self.config.eval_use_priors
        priors = Priors.from_cameras(context.cameras, context.poses) if has_priors else None
        with recorded_matches(self.network) as matches:
            gaussians = self.network(context.rgb, priors)
        side = self.network.config.backbone.patch_size
        num_tokens = gaussians.num_gaussians // side**2
        tokens = torch.arange(num_tokens, device=context.device).expand(len(gaussians), -1)
        return Prediction(gaussians, tokens, side**2, side, {}, next(iter(matches), None))

    def schedule(self, step: int, num_steps: int | None) -> Mapping[str, float]:
        """No schedules."""
        del step, num_steps
        return {}
