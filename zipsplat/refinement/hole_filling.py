"""Fill holes in images smoothly."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def fill_holes(values: Tensor, is_known: Tensor) -> Tensor:
    """Replace unknown values by weighted means of known ones nearby (normalised convolution).

    Known values are averaged over squares of 2, 4, 8 … pixels, and each hole is interpolated from
    the finest level with known values. Without any known values the image is returned unchanged.

    Args:
        values: (H, W).
        is_known: (H, W) bool.
    """
    if not bool(is_known.any()):
        return values
    weight = is_known.to(values.dtype)[None, None]
    return _pull_push(values[None, None] * weight, weight)[0, 0]


def _pull_push(weighted: Tensor, weight: Tensor) -> Tensor:
    """Fill (1, 1, H, W) from coarser levels; `weighted` is value times weight."""
    known = weighted / weight.clamp_min(1e-6)
    if bool((weight > 0).all()):
        return known
    coarse_weight = functional.avg_pool2d(weight, 2, ceil_mode=True)
    coarse = _pull_push(functional.avg_pool2d(weighted, 2, ceil_mode=True), coarse_weight)
    H, W = weight.shape[-2:]
    spread = functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    # Partly known coarse pixels count in proportion, so that edges of holes are smooth.
    share = weight.clamp_max(1)
    return share * known + (1 - share) * spread[..., :H, :W]
