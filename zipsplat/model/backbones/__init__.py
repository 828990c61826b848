"""Backbones: from images of several views to patch tokens of several layers.

Each public module of this package is one backbone; its `PLUGIN` builds it from a
`BackboneConfig`.

Letters: B scenes, V views, T tokens per view, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from zipsplat.model.architecture import BackboneConfig
from zipsplat.model.priors import Priors
from zipsplat.plugins import Plugins


class Backbone(Protocol):
    """The interface of a backbone, an `nn.Module`."""

    dim: int
    patch_size: int
    num_outputs: int

    def forward(self, images: Tensor, priors: Priors | None) -> list[Tensor]:
        """Tokens of each output layer, deepest first.

        Args:
            images: (B, V, 3, H, W) RGB in [0, 1]; H and W are multiples of the patch size.
            priors: known cameras, if any.

        Returns:
            `num_outputs` tensors (B, V, T, 2·D), patches row by row.
        """
        ...

    def __call__(self, images: Tensor, priors: Priors | None) -> list[Tensor]:
        """As `forward`."""
        ...


BACKBONES: Plugins[Callable[[BackboneConfig], Backbone]] = Plugins(
    "zipsplat.model.backbones", "backbone"
)
