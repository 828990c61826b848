"""Muon for the matrices of a transformer, AdamW for everything else, as one optimizer.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the update is
scaled to match AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training"), so that
both take the same learning rate and weight decay. `torch.optim.Muon` is the same, but always in
bfloat16, which most CPUs only imitate: there, it took two thirds of a training step.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
SCALE = 0.2  # root mean square of AdamW's updates
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
HIDDEN = re.compile(
    r"(^|\.)(blocks|cross_attention|self_attention|color_cross_attention|downscale)\."
    r"|(^|\.)gaussian_head\.gaussian_head\.0\."
)


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is the weight matrix of a hidden linear layer.

    Embeddings, tokens, the camera encoder and the last layer of the Gaussian head do not count.
    """
    return parameter.ndim == 2 and HIDDEN.search(name) is not None


def orthogonalized(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows or columns, roughly: singular values of 0.7 to 1.2.

    Newton-Schulz iterations X ← a·X + (b·XXᵀ + c·(XXᵀ)²)·X, in bfloat16 on CUDA devices.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.mT if is_tall else matrix).to(_precision(matrix))
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide.mT if is_tall else wide).to(matrix.dtype)


def _precision(matrix: Tensor) -> torch.dtype:
    return torch.bfloat16 if matrix.is_cuda else matrix.dtype


@torch.no_grad()
def update_matrices(group: dict[str, Any], state: dict[Tensor, dict[str, Any]]) -> None:
    """Take a step of Muon with Nesterov momentum.

    Args:
        group: `params`, `lr` and `weight_decay`; matrices without a gradient stay as they are.
        state: by parameter; receives the momentum.
    """
    lr = group["lr"]
    for matrix in (parameter for parameter in group["params"] if parameter.grad is not None):
        if not state[matrix]:
            state[matrix]["momentum_buffer"] = torch.zeros_like(matrix.grad)
        momentum = state[matrix]["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
        update = orthogonalized(matrix.grad.lerp(momentum, MOMENTUM))
        matrix.mul_(1 - lr * group["weight_decay"])
        matrix.add_(update, alpha=-lr * SCALE * math.sqrt(max(matrix.shape)))


class MuonWithAdamW(torch.optim.Optimizer):
    """Updates groups marked `is_matrix` by Muon with Nesterov momentum, the others by AdamW.

    This optimizer owns groups and state, and AdamW only operates on them, so its state dict is
    complete.

    Args:
        groups: parameters with `lr`, `weight_decay` and `is_matrix`; matrices are 2-D.
        betas: decay rates of AdamW's moments.
        eps: floor of AdamW's denominator.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], betas: tuple[float, float], eps: float
    ) -> None:
        groups = [dict(group) for group in groups]
        others = [group for group in groups if not group["is_matrix"]]
        # AdamW adds its own options to the group dictionaries.
        self._adamw = torch.optim.AdamW(others, betas=betas, eps=eps) if others else None
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
        for group in self.param_groups:
            if group["is_matrix"]:
                update_matrices(group, self.state)
        if self._adamw is not None:
            # Loading a state dict replaces groups and state.
            self._adamw.param_groups = [g for g in self.param_groups if not g["is_matrix"]]
            self._adamw.state = self.state
            self._adamw.step()
        return loss
