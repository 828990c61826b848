"""What of a scene is shown and in which colours, as the arrays that viser draws."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zipsplat import harmonics
from zipsplat.gaussians import Gaussians
from zipsplat.rotations import matrix_from_quat
from zipsplat.viewer.clean_up import NOTHING, CleanUp, LastCleaned

_MAX_SIZE = 240.0  # times the typical size: variances travel in half precision, up to 65504


@dataclass(frozen=True)
class Appearance:
    """The choices of the panel.

    Args:
        by_token: colour the Gaussians of each scene token alike.
        view_colors: let colours depend on the direction, once the camera rests.
        exact: draw with our own renderer once the camera rests.
        min_opacity: what is below is hidden.
        hide_largest: share of the Gaussians that is hidden, largest first, in [0, 1).
        background: RGB in [0, 255].
        clean_up: what is cleaned away before anything is hidden.
    """

    by_token: bool = False
    view_colors: bool = True
    exact: bool = False
    min_opacity: float = 0.0
    hide_largest: float = 0.0
    background: tuple[int, int, int] = (255, 255, 255)
    clean_up: CleanUp = NOTHING


@dataclass(frozen=True)
class SplatBuffers:
    """Arrays for viser's splats; positions times `scale` and so on are world units.

    Args:
        centers: (N, 3) float32.
        covariances: (N, 3, 3) float32.
        rgbs: (N, 3) uint8.
        opacities: (N, 1) uint8.
        scale: world units per unit of these arrays.
    """

    centers: np.ndarray
    covariances: np.ndarray
    rgbs: np.ndarray
    opacities: np.ndarray
    scale: float


def kept(scene: Gaussians, look: Appearance, clean: LastCleaned | None = None) -> Gaussians:
    """The Gaussians that cleaning and cut-offs leave, in their own colours.

    Args:
        scene: one scene (N,).
        look: the choices.
        clean: remembers what was cleaned last.
    """
    scene = (clean or LastCleaned())(scene, look.clean_up)
    return scene.select(_mask(scene, look))


def painted(
    scene: Gaussians, look: Appearance, group_size: int | None, clean: LastCleaned | None = None
) -> Gaussians:
    """The Gaussians that cleaning and cut-offs leave, in the colours asked for."""
    if look.by_token and group_size is not None and scene.num_gaussians:
        return kept(scene.color_by_group(group_size), look)
    return kept(scene, look, clean)


def splat_buffers(scene: Gaussians) -> SplatBuffers:
    """One scene for viser, in the colours without the part that depends on the direction."""
    rotations = matrix_from_quat(scene.quats.detach().float())
    typical = _typical_size(scene.scales)
    sizes = (scene.scales.detach().float() / typical).clamp(max=_MAX_SIZE)
    axes = rotations * sizes.unsqueeze(-2)
    return SplatBuffers(
        centers=_array(scene.means / typical),
        covariances=_array(axes @ axes.mT),
        rgbs=_bytes(scene.rgb),
        opacities=_bytes(scene.opacities.unsqueeze(-1)),
        scale=typical,
    )


def colors_from(scene: Gaussians, position: Tensor) -> np.ndarray:
    """Colours (N, 3) uint8 as seen from a camera centre (3,)."""
    directions = scene.means - position.to(scene.means)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return _bytes(harmonics.evaluate(scene.sh_coeffs, directions) + 0.5)


def _mask(scene: Gaussians, look: Appearance) -> Tensor:
    mask = scene.opacities >= look.min_opacity
    num_hidden = int(scene.num_gaussians * look.hide_largest)
    if num_hidden:
        sizes = scene.scales.amax(dim=-1)
        mask[sizes.topk(num_hidden).indices] = False
    return mask


def _typical_size(scales: Tensor) -> float:
    """A power of two near the median size, so that half precision suits scenes of any scale."""
    if not scales.numel():
        return 1.0
    median = float(scales.detach().amax(dim=-1).median())
    return 2.0 ** round(math.log2(median)) if median > 0 and math.isfinite(median) else 1.0


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _bytes(values: Tensor) -> np.ndarray:
    levels = values.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.cpu().numpy()
