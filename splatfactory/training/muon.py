"""Muon for the matrices of a transformer, AdamW for everything else, as one optimizer.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the update is
scaled to match AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training"), so that
both take the same learning rate and weight decay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
HIDDEN = re.compile(
    r"(^|\.)(blocks|cross_attention|self_attention|color_cross_attention|downscale)\."
    r"|(^|\.)gaussian_head\.gaussian_head\.0\."
)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is the weight matrix of a hidden linear layer.

    Embeddings, tokens, the camera encoder and the last layer of the Gaussian head do not count.
    """
    return parameter.ndim == 2 and HIDDEN.search(name) is not None


class MuonWithAdamW(torch.optim.Optimizer):
    """Updates groups marked `is_matrix` by Muon with Nesterov momentum, the others by AdamW.

    This optimizer owns groups and state, the two inner ones only operate on them, so its
    state dict is complete.

    Args:
        groups: parameters with `lr`, `weight_decay` and `is_matrix`; matrices are 2-D.
        betas: decay rates of AdamW's moments.
        eps: floor of AdamW's denominator.

    Raises:
        ValueError: if this version of PyTorch has no Muon.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], eps: float
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(
                f"train.optimizer.name=Muon needs torch >= 2.9, got {torch.__version__}; "
                "update torch or use AdamW"
            )
        groups = [dict(group) for group in groups]
        matrices = [group for group in groups if group["is_matrix"]]
        others = [group for group in groups if not group["is_matrix"]]
        # The inner optimizers add their own options to the group dictionaries.
        self._inner: dict[bool, torch.optim.Optimizer] = {}
        if matrices:
            self._inner[True] = torch.optim.Muon(
                matrices, momentum=MOMENTUM, nesterov=True, adjust_lr_fn="match_rms_adamw"
            )
        if others:
            self._inner[False] = torch.optim.AdamW(others, betas=betas, eps=eps)
        super().__init__(groups, {})

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: re-evaluates the model and returns the loss; its result is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Loading a state dict replaces groups and state.
        for is_matrix, inner in self._inner.items():
            inner.param_groups = [g for g in self.param_groups if g["is_matrix"] == is_matrix]
            inner.state = self.state
            inner.step()
        return loss
