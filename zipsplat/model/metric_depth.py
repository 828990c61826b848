"""Postprocessing of depth maps: sky, and depth in metres.

Letters: B scenes, V views, H W pixels.

Rules and constants are those of Depth Anything 3 (Lin et al., 2025), except that quantiles are
taken over all pixels where the published code samples at most 100 000 at random: results are
deterministic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zipsplat.camera import Camera

SKY = 0.3
"""A pixel is sky if its sky output is at least this."""
SKY_QUANTILE = 0.99
MIN_PIXELS = 10
"""Quantiles need more pixels than this."""
CANONICAL_FOCAL = 300.0
"""The metric network's output is metres for a camera of this focal length in pixels."""
MIN_METRIC, MIN_DEPTH = 0.01, 0.001


def without_sky(depth: Tensor, sky: Tensor) -> Tensor:
    """Set the depth of sky to the farthest depth of the rest, if there is enough of both.

    Args:
        depth: (B, V, H, W).
        sky: (B, V, H, W) of the sky branch.
    """
    is_sky = sky >= SKY
    filled = [
        torch.where(mask, quantile(maps[~mask], SKY_QUANTILE), maps)
        if min(int(mask.sum()), int((~mask).sum())) > MIN_PIXELS
        else maps
        for maps, mask in zip(depth, is_sky, strict=True)
    ]
    return torch.stack(filled)


def metric_scale(
    depth: Tensor, confidence: Tensor, metric: Tensor, sky: Tensor, cameras: Camera
) -> Tensor:
    """Least-squares scale factors (B,) from depth of unknown scale to metric depth.

    Args:
        depth: (B, V, H, W) of the any-view network.
        confidence: (B, V, H, W) of the same.
        metric: (B, V, H, W) of the metric network.
        sky: (B, V, H, W) of the metric network.
        cameras: (B, V) whose focal lengths turn `metric` into metres.

    Raises:
        ValueError: if a scene is almost all sky.
    """
    metres = metric * (cameras.f.mean(dim=-1) / CANONICAL_FOCAL)[..., None, None]
    is_ground = sky < SKY
    _check_ground(is_ground)
    factors = []
    for b in range(len(depth)):
        typical = quantile(confidence[b][is_ground[b]], 0.5)
        is_good = is_ground[b] & (confidence[b] >= typical)
        is_good &= (metres[b] > MIN_METRIC) & (depth[b] > MIN_DEPTH)
        ours, theirs = depth[b][is_good].double(), metres[b][is_good].double()
        factors.append((ours @ theirs) / (ours @ ours).clamp_min(1e-12))
    return torch.stack(factors).to(depth.dtype)


def fill_sky(
    depth: Tensor, confidence: Tensor, sky: Tensor, farthest: float
) -> tuple[Tensor, Tensor]:
    """Set sky to one large depth with the lowest confidence, 1.

    Args:
        depth: (B, V, H, W).
        confidence: (B, V, H, W).
        sky: (B, V, H, W) of the metric network.
        farthest: upper limit on the depth of sky.
    """
    is_ground = sky < SKY
    _check_ground(is_ground)
    limits = [
        quantile(maps[mask], SKY_QUANTILE).clamp_max(farthest)
        for maps, mask in zip(depth, is_ground, strict=True)
    ]
    far = torch.stack(limits)[:, None, None, None]
    return torch.where(is_ground, depth, far), torch.where(is_ground, confidence, 1.0)


def quantile(values: Tensor, share: float) -> Tensor:
    """A quantile of values (n,), linearly interpolated; for any n, unlike PyTorch's."""
    ordered = values.sort().values
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


def _check_ground(is_ground: Tensor) -> None:
    fewest = int(is_ground.flatten(1).sum(dim=1).min())
    if fewest <= MIN_PIXELS:
        raise ValueError(
            f"the images are almost all sky ({fewest} other pixels), so their scale is unknown"
        )
