"""Reference view selection, as in Depth Anything 3.

Letters: B scenes, V views, D width.

Three statistics of every view's special token are used: its mean cosine similarity to those of the
other views, its length, and the variance of its direction. Each is normalised to [0, 1] over the
views of a scene; the view nearest to the centre in all three is the reference ("saddle balanced"
selection; Lin et al., "Depth Anything 3", 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MIN_VIEWS = 3
"""With fewer views, the first is the reference."""
MIDDLE = 0.5
EPS = 1e-8


def reference_view(special: Tensor) -> Tensor:
    """Index (B,) of the reference view of each scene.

    Args:
        special: (B, V, D) special tokens, V ≥ 2.
    """
    special = special.float()
    V = special.shape[1]
    unit = functional.normalize(special, dim=-1)
    similarity = ((unit @ unit.mT).sum(dim=-1) - 1) / (V - 1)
    metrics = torch.stack((similarity, special.norm(dim=-1), unit.var(dim=-1)), dim=-1)
    low, high = metrics.amin(dim=1, keepdim=True), metrics.amax(dim=1, keepdim=True)
    stretched = (metrics - low) / (high - low + EPS)
    return (stretched - MIDDLE).abs().sum(dim=-1).argmin(dim=1)


def reference_first(special: Tensor) -> Tensor:
    """Order (B, V) of the views with the reference first and the rest unchanged."""
    chosen = reference_view(special).unsqueeze(1)
    number = torch.arange(special.shape[1], device=special.device).expand(special.shape[:2])
    return torch.where(number == chosen, -1, number).argsort(dim=1)


def reordered(views: Tensor, order: Tensor) -> Tensor:
    """Reorder views (B, V, ...) by indices (B, V)."""
    index = order.reshape(*order.shape, *(1,) * (views.ndim - 2)).expand_as(views)
    return views.gather(1, index)
