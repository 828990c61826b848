"""How far drawn pictures are from true ones, pixel by pixel."""

from __future__ import annotations

from torch import Tensor


def absolute_error(drawn: Tensor, true: Tensor) -> Tensor:
    """Mean |Î − I| over everything but the first dimension: (B, …) → (B,)."""
    return (drawn - true).abs().flatten(1).mean(dim=1)


def squared_error(drawn: Tensor, true: Tensor) -> Tensor:
    """Mean (Î − I)² over everything but the first dimension: (B, …) → (B,)."""
    return (drawn - true).square().flatten(1).mean(dim=1)
