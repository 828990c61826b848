"""Compile the kernels of a colour image, in a process of its own; see `ahead`.

Each function renders an empty image through the very calls of `view`, so that the signatures are
those of real ones.
"""

from __future__ import annotations

import numpy as np

from zipsplat.render.cpu.bin import number_intersections
from zipsplat.render.cpu.layout import GROUP, Culling, ImageSize, Inputs, RasterSettings, Shading
from zipsplat.render.cpu.view import (
    Plan,
    bin_slots,
    blend_lists,
    empty_slots,
    project_scene,
    scene_of,
)

_WIDTHS = (3, 4, 3, 1, 3)  # numbers per Gaussian of each array of `Inputs`
_PLAN = Plan(
    K=np.ones((1, 3, 3), np.float32),
    settings=RasterSettings(ImageSize(GROUP, GROUP), Culling(0.1, 1.0, 0.0), Shading(0, 1), 0.3),
    num_features=3,
    alpha_clamp=0.5,
    with_masks=False,
    num_threads=1,
)


def projection() -> None:
    """Compile what projects."""
    scene = scene_of(Inputs(*(np.zeros(GROUP * width, np.float32) for width in _WIDTHS)))
    project_scene(scene, np.zeros(20, np.float32), _PLAN)


def blending() -> None:
    """Compile what bins and blends."""
    slots = empty_slots(GROUP)
    slots.chunk_count[:] = 0
    num_slots, num_intersections = map(int, number_intersections(slots))
    blend_lists(bin_slots(slots, num_slots, num_intersections, _PLAN), 0, _PLAN)
