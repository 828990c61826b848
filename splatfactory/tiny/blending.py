"""Weighted mean of the weights of two networks.

Fine-tuned weights lose some of what they started with; the mean often combines the best of
both (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def blend(
    tensors: Mapping[str, Tensor], others: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Blend two sets of weights, tensor by tensor.

    Args:
        tensors: tensors by name.
        others: tensors of the same names and shapes.
        share: weight of the others, in [0, 1].

    Raises:
        ValueError: if they belong to different networks, or the share is out of range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share must be in [0, 1], got {share:g}")
    shapes, other_shapes = ({n: t.shape for n, t in part.items()} for part in (tensors, others))
    if shapes != other_shapes:
        name, _ = min(shapes.items() ^ other_shapes.items())
        raise ValueError(f"{name} differs between the two; only weights of one network can blend")
    return {name: (1 - share) * values + share * others[name] for name, values in tensors.items()}
