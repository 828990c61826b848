"""Which Gaussians are shown and in which colours, as the arrays that viser renders."""

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

_MAX_SIZE = 240.0  # times the typical size; its square must fit half precision (65504)


@dataclass(frozen=True)
class Appearance:
    """Appearance settings of the panel.

    Args:
        by_token: one colour per scene token.
        view_colors: view-dependent colours once the camera rests.
        exact: render with `Gaussians.render` once the camera rests.
        min_opacity: Gaussians below it are hidden.
        hide_largest: share of the Gaussians to hide, largest first, in [0, 1).
        background: RGB in [0, 255].
        clean_up: cleaning, applied before anything is hidden.
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
    """Arrays for viser's splats, in units of `scale`.

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
    """The Gaussians left after cleaning and cut-offs, in their own colours.

    Args:
        scene: one scene (N,).
        look: appearance settings.
        clean: caches the last cleaned scene.
    """
    scene = (clean or LastCleaned())(scene, look.clean_up)
    return scene.select(_mask(scene, look))


def painted(
    scene: Gaussians, look: Appearance, group_size: int | None, clean: LastCleaned | None = None
) -> Gaussians:
    """The Gaussians left after cleaning and cut-offs, in the colours of the settings."""
    if look.by_token and group_size is not None and scene.num_gaussians:
        return kept(scene.color_by_group(group_size), look)
    return kept(scene, look, clean)


def splat_buffers(scene: Gaussians) -> SplatBuffers:
    """Arrays for viser, with view-independent colours (SH degree 0)."""
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
    """View-dependent colours (N, 3) uint8 for a camera centre (3,)."""
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
    """A power of two near the median size, so that half precision works at any scene scale."""
    if not scales.numel():
        return 1.0
    median = float(scales.detach().amax(dim=-1).median())
    return 2.0 ** round(math.log2(median)) if median > 0 and math.isfinite(median) else 1.0


def _array(values: Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()


def _bytes(values: Tensor) -> np.ndarray:
    levels = values.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.cpu().numpy()
