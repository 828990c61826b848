"""The optimised parameters: a scene as unconstrained tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians
from zipsplat.structs import TensorStruct

_SCALE_MIN = 1e-9  # world units; keeps the logarithm of flat Gaussians finite
_OPACITY_MARGIN = 1e-4  # keeps logits finite; opacities of exactly 0 or 1 would be stuck


@dataclass(frozen=True)
class Parameters(TensorStruct):
    """N Gaussians as unconstrained tensors.

    Args:
        means: (N, 3) world units.
        log_scales: (N, 3) natural logarithms of the standard deviations.
        quats: (N, 4) wxyz, of any non-zero length.
        opacity_logits: (N,) logarithms of opacity / (1 - opacity).
        sh0: (N, 1, 3) harmonics of degree 0.
        shN: (N, S - 1, 3) harmonics of the higher degrees.
    """

    means: Tensor
    log_scales: Tensor
    quats: Tensor
    opacity_logits: Tensor
    sh0: Tensor
    shN: Tensor  # noqa: N815  gsplat's name
    event_dims: ClassVar[Mapping[str, int]] = {
        "means": 1, "log_scales": 1, "quats": 1, "opacity_logits": 0, "sh0": 2, "shN": 2
    }  # fmt: skip

    @classmethod
    def from_gaussians(cls, gaussians: Gaussians) -> Parameters:
        """The parameters of one scene (N,), copied."""
        scene = gaussians.detach()
        opacities = scene.opacities.clamp(_OPACITY_MARGIN, 1 - _OPACITY_MARGIN)
        return cls(
            scene.means.clone(),
            scene.scales.clamp_min(_SCALE_MIN).log(),
            scene.quats / scene.quats.norm(dim=-1, keepdim=True).clamp_min(1e-12),
            opacities.logit(),
            scene.sh0.clone(),
            scene.shN.clone(),
        )

    def gaussians(self) -> Gaussians:
        """The scene, differentiable in the parameters."""
        return Gaussians(
            self.means,
            self.log_scales.exp(),
            self.quats,
            self.opacity_logits.sigmoid(),
            torch.cat((self.sh0, self.shN), dim=-2),
        )

    def named(self) -> dict[str, Tensor]:
        """The tensors by name, without empty ones."""
        return {key: value for key, value in self._tensors().items() if value.numel()}
