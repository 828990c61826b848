"""Per-pixel error of rendered images."""

from __future__ import annotations

from torch import Tensor

from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig


class PixelLoss:
    """Mean absolute error, or squared error, of the colours.

    Args:
        config: `use_l1_loss` selects which.
    """

    def __init__(self, config: HeadConfig) -> None:
        self.error = absolute_error if config.use_l1_loss else squared_error

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""
        return self.error(supervision.rendered.color, supervision.views.rgb)


def absolute_error(rendered: Tensor, true: Tensor) -> Tensor:
    """Mean |Î − I| over everything but the first dimension: (B, …) → (B,)."""
    return (rendered - true).abs().flatten(1).mean(dim=1)


def squared_error(rendered: Tensor, true: Tensor) -> Tensor:
    """Mean (Î − I)² over everything but the first dimension: (B, …) → (B,)."""
    return (rendered - true).square().flatten(1).mean(dim=1)


PLUGIN = LossKind(HeadConfig, PixelLoss)
