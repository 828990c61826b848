"""Compile the kernels of a colour image, in a process of its own; see `ahead`.

Each function takes an empty image through part of the calls of `view`, so the kernels are compiled
for the signatures of real images.
"""

from __future__ import annotations

import numpy as np

from zipsplat.render.cpu.bin import Sortable, number_intersections
from zipsplat.render.cpu.layout import (
    GROUP,
    Culling,
    ImageSize,
    Inputs,
    RasterSettings,
    Shading,
    Slots,
    TileLists,
)
from zipsplat.render.cpu.view import (
    Listed,
    Plan,
    blend_lists,
    empty_slots,
    list_slots,
    project_scene,
    scene_of,
    sort_and_fill,
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


def project_and_sort() -> None:
    """Compile the projection and the sorting: half of the work."""
    scene = scene_of(Inputs(*(np.zeros(GROUP * width, np.float32) for width in _WIDTHS)))
    project_scene(scene, np.zeros(20, np.float32), _PLAN)
    slots = _no_slots()
    num_slots, num_intersections = map(int, number_intersections(slots))
    nothing = Listed(
        intersection_tiles=np.zeros(1, np.int32),
        parted=Sortable(np.zeros(1, np.int32), np.zeros(1, np.int32)),
        part_starts=np.zeros(1, np.int64),
        slot_counts=np.zeros((1, 1), np.int32),
        tile_counts=np.zeros((1, 1, 1), np.int32),
    )
    sort_and_fill(slots, nothing, num_slots, num_intersections, _PLAN)


def list_and_blend() -> None:
    """Compile the other half: the listing of tiles and the blending."""
    slots = _no_slots()
    list_slots(slots, 0, _PLAN)
    entries, tile_offsets = np.zeros(2, np.int32), np.zeros(2, np.int64)
    lists = TileLists(slots.records, entries, tile_offsets, _PLAN.settings.size, 0.5)
    blend_lists(lists, 0, _PLAN)


def _no_slots() -> Slots:
    """The slots of Gaussians that are all out of view."""
    slots = empty_slots(GROUP)
    slots.chunk_count[:] = 0
    return slots
