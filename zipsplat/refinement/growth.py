"""Densification: split Gaussians where the loss gradient is large.

Gaussians with a large positional gradient are split in two along their longest axis. The gradient
is taken in pixels, by z / f, and averaged over the images that showed the Gaussian, as in Kerbl et
al., "3D Gaussian Splatting for Real-Time Radiance Field Rendering", 2023. Gaussians whose opacity
has vanished are replaced by new ones, as in Kheradmand et al., "3D Gaussian Splatting as Markov
Chain Monte Carlo", 2024. The constants were found by experiment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from zipsplat.refinement.parameters import Parameters
from zipsplat.refinement.scene_optimizer import SceneOptimizer
from zipsplat.rotations import matrix_from_quat

INTERVAL, FIRST_STEP, LAST_SHARE = 100, 200, 0.75
_GROWTH = 0.2  # of the Gaussians, added at most per densification
_OFFSET, _SHRINK = 0.7, 1.8  # of the halves, in standard deviations of the whole
DEAD_OPACITY = 0.005


class MeanGrad2d:
    """Mean positional gradient of N Gaussians over images, in pixels."""

    def __init__(self, like: Tensor) -> None:
        self.total = torch.zeros_like(like)
        self.times = torch.zeros_like(like)

    def observe(self, means: Tensor, gradient: Tensor, pose: Tensor, focal: float) -> None:
        """Accumulate the gradient from one image.

        Args:
            means: (N, 3) centres.
            gradient: (N, 3) of the loss with respect to the centres.
            pose: (4, 4) of the camera, camera-to-world.
            focal: of the camera in pixels.
        """
        depth = (means.detach() - pose[:3, 3]) @ pose[:3, 2]
        grad2d = gradient.norm(dim=-1) * depth.clamp_min(0) / focal
        self.total += grad2d
        self.times += grad2d > 0

    def mean(self) -> Tensor:
        """The mean (N,) over the images that showed each Gaussian."""
        return self.total / self.times.clamp_min(1)


@dataclass(frozen=True)
class Split:
    """Which Gaussians are split.

    Args:
        parents: (M,) indices of the Gaussians to split.
        places: (M,) indices for the second halves: first of dead Gaussians, then new ones.
    """

    parents: Tensor
    places: Tensor


def choose_split(grad2d: Tensor, opacities: Tensor, cap: int, random: np.random.Generator) -> Split:
    """Sample the Gaussians to split, with probability proportional to the gradient.

    Args:
        grad2d: (N,) not negative.
        opacities: (N,) in [0, 1].
        cap: on the number of Gaussians.
        random: random number generator.
    """
    num = len(grad2d)
    is_dead = opacities < DEAD_OPACITY
    weights = torch.where(is_dead, torch.zeros_like(grad2d), grad2d).cpu()
    dead = is_dead.nonzero()[:, 0].cpu()
    wanted = min(round(_GROWTH * num), max(0, cap - num)) + len(dead)
    wanted = min(wanted, int((weights > 0).sum()))
    if not wanted:
        none = torch.zeros(0, dtype=torch.long, device=grad2d.device)
        return Split(none, none)
    parents = sample_without_replacement(weights, wanted, random)
    places = torch.cat((dead[:wanted], torch.arange(num, num + max(0, wanted - len(dead)))))
    return Split(parents.to(grad2d.device), places.to(grad2d.device))


def sample_without_replacement(weights: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """Sample indices (count,) with probabilities proportional to weights (N,).

    Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006.
    """
    waiting = torch.from_numpy(random.exponential(size=len(weights)))
    return (weights.double() / waiting).topk(count).indices


def halves(whole: Parameters) -> tuple[Parameters, Parameters]:
    """Split each Gaussian into two, side by side along its longest axis.

    Their midpoint is the original centre; colour, opacity and rotation are kept. Along the axis,
    their sum has 0.90 of the original's value at the centre, 1.11 of its integral and 0.80 of its
    variance.
    """
    longest = whole.log_scales.argmax(dim=-1, keepdim=True)
    axes = matrix_from_quat(whole.quats)
    axis = torch.take_along_dim(axes, longest.unsqueeze(-2), dim=-1).squeeze(-1)
    deviation = torch.take_along_dim(whole.log_scales, longest, dim=-1).exp()
    offset = _OFFSET * deviation * axis
    shrink = torch.zeros_like(whole.log_scales).scatter_(-1, longest, _SHRINK).clamp_min(1).log()
    smaller = replace(whole, log_scales=whole.log_scales - shrink)
    return (
        replace(smaller, means=whole.means + offset),
        replace(smaller, means=whole.means - offset),
    )


def grow(optimizer: SceneOptimizer, grad2d: Tensor, cap: int, random: np.random.Generator) -> None:
    """Split Gaussians of the optimizer; see `choose_split` and `halves`."""
    present = optimizer.parameters.detach()
    split = choose_split(grad2d, present.opacity_logits.sigmoid(), cap, random)
    if not len(split.parents):
        return
    first, second = halves(present[split.parents])
    both: Parameters = torch.cat((first, second))  # type: ignore[arg-type, assignment]
    optimizer.replace_rows(torch.cat((split.parents, split.places)), both)
