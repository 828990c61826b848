"""Supervision of the matcher with true correspondences, where depth is known."""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.protocols import LossKind, Supervision, TrueMatches
from splatfactory.schema import HeadConfig


def matching_loss(supervision: Supervision) -> Tensor:
    """`matching_error` of the network's matches, (B,); 0 if it has none."""
    if supervision.matches is None or supervision.match_logits is None:
        return supervision.gaussians.means.new_zeros(len(supervision.gaussians.means))
    return matching_error(supervision.match_logits, supervision.matches)


def matching_error(logits: Tensor, true: TrueMatches) -> Tensor:
    """Cross entropy of matches, averaged over the cells whose match is known.

    Args:
        logits: (B, V, R, N, N + 1), the last class means unmatched.
        true: the ground truth.

    Returns:
        (B,), 0 where nothing is known.
    """
    log_probability = logits.float().log_softmax(dim=-1)
    errors = -(log_probability.gather(-1, true.cells) * true.shares).sum(dim=-1)
    is_known = true.shares.sum(dim=-1) > 0
    errors = torch.where(is_known, errors, 0.0).flatten(1)
    return errors.sum(dim=1) / is_known.flatten(1).sum(dim=1).clamp(min=1)


PLUGIN = LossKind(HeadConfig, lambda _: matching_loss)
