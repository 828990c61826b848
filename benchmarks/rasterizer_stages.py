"""The stages of one view of the CPU rasterizer, to be run and timed one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from rasterizer_scenes import Scene

from zipsplat.render import Viewpoints
from zipsplat.render.cpu import view as stages
from zipsplat.render.cpu.batch import BATCH, batch_in, prepare
from zipsplat.render.cpu.compiler import kernel
from zipsplat.render.cpu.layout import (
    INTERSECTION,
    TILE,
    Culling,
    FloatArray,
    ImageGradients,
    ImageSize,
    Inputs,
    IntArray,
    Intersections,
    RasterSettings,
    SceneGradients,
    Shading,
    Slots,
    TileLists,
    Workspace,
    grid_of,
)
from zipsplat.render.cpu.operation import _cameras
from zipsplat.render.cpu.project_backward import _gather
from zipsplat.render.cpu.simd import (
    aligned_empty,
    count_bits,
    lane,
    zeros,
)
from zipsplat.render.cpu.tile import tile_at
from zipsplat.render.cpu.view import Plan


class Stages:
    """The stages of one view, to be run one by one."""

    def __init__(self, scene: Scene) -> None:
        splats, viewpoints = scene.splats, scene.viewpoints
        self.inputs = Inputs(
            *(
                t.numpy().reshape(-1)
                for t in (
                    splats.means,
                    splats.quats,
                    splats.scales,
                    splats.opacities,
                    splats.sh_coeffs,
                )
            )
        )
        self.scene = stages.scene_of(self.inputs)
        self.width, self.height = viewpoints.width, viewpoints.height
        self.plan = plan_of(viewpoints)
        self.camera = _camera(viewpoints)
        self.grid = grid_of(self.plan.settings.size)
        self.tiles_x, self.tiles_y = self.grid
        self.num_tiles = self.tiles_x * self.tiles_y
        self.slots = self.project()
        self.num_slots, self.num_intersections = map(int, stages.number_intersections(self.slots))
        self.drawing = stages.bin_slots(
            self.slots, self.num_slots, self.num_intersections, self.plan
        )
        self.buffers = stages.blend_lists(self.drawing, 0, self.plan)
        size = self.width * self.height
        random = np.random.default_rng(0)
        self.v_image = ImageGradients(
            random.normal(size=3 * size).astype(np.float32),
            random.normal(size=size).astype(np.float32),
        )
        self.intersections = Intersections(
            aligned_empty(self.num_intersections * INTERSECTION + 16),
            np.zeros(self.num_intersections, np.uint8),
            self.plan.num_features,
        )
        self.gradients = Inputs(*(aligned_empty(a.size) for a in self.inputs))
        self.work = stages._workspace()
        self.sorted = [
            stages.Sortable(*(np.empty(self.num_slots, np.int32) for _ in range(2)))
            for _ in range(2)
        ]

    def project(self) -> Any:
        """Projection, culling and colour."""
        return stages.project_scene(self.scene, self.camera, self.plan)

    def list_tiles(self) -> None:
        """Intersect Gaussians with tiles."""
        self.listed = stages.list_slots(self.slots, self.num_intersections, self.plan)

    def sort(self) -> None:
        """Sort by depth."""
        parted, counts = self.listed.parted, self.listed.slot_counts[:, 0]
        starts = self.listed.part_starts
        in_first = stages.sort_slots(parted, starts, counts, *self.sorted, self.work)
        self.order = self.sorted[0 if in_first else 1].slots

    def fill(self) -> None:
        """Fill the list of each tile."""
        starts, entries = self.drawing.tile_offsets.copy(), self.drawing.entries.view(np.int64)
        stages.fill_tiles(self.slots, self.order, self.listed.intersection_tiles, starts, entries)

    def blend(self) -> None:
        """Blend the image."""
        stages.blend_kernel(3, False)(self.drawing, 0, self.num_tiles, self.buffers, self.work)

    def blend_backward(self) -> None:
        """Gradients of conics and colours."""
        blend_backward = stages.blend_backward_kernel(3)
        drawing, buffers = self.drawing, self.buffers
        blend_backward(
            drawing, 0, self.num_tiles, buffers, self.v_image, self.intersections, self.work
        )

    def project_backward(self) -> None:
        """Gradients of the Gaussians."""
        chunks = len(self.slots.chunk_count)
        stages.project_backward(
            self.scene,
            self.camera,
            self.plan.settings,
            self.slots,
            self.intersections,
            SceneGradients(self.gradients, True, np.zeros(12 * chunks)),
            0,
            chunks,
            self.work,
        )

    def sum_intersections(self) -> None:
        """Sum gradients over the intersections of each Gaussian, as the baseline does too."""
        _sum_intersections(self.slots, self.intersections, self.work)

    def evaluations(self) -> int:
        """How often the forward pass computes an opacity: 16 per Gaussian and block it enters."""
        return int(_count_evaluations(self.drawing, self.buffers.stops, self.work))


def _camera(viewpoints: Viewpoints) -> FloatArray:
    pose = viewpoints.world_from_camera.numpy()
    return _cameras(plan_of(viewpoints), pose[:, :3, :3].transpose(0, 2, 1), pose[:, :3, 3])[0]


def plan_of(viewpoints: Viewpoints, num_threads: int = 1) -> Plan:
    """Plan of one view, with colour and without masks."""
    size = ImageSize(viewpoints.width, viewpoints.height)
    settings = RasterSettings(size, Culling(0.01, 1e10, 0.0), Shading(3, 16), eps2d=0.3)
    return Plan(viewpoints.K.numpy(), settings, 3, 0.999, False, num_threads)


@kernel
def _sum_intersections(slots: Slots, intersections: Intersections, work: Workspace) -> float:
    """Add up the intersections of all Gaussians."""
    total = zeros()
    for group in range(len(slots.group_bits)):
        bits = slots.group_bits[group]
        total = total + _gather(slots, slots.group_slot[group], bits, intersections, work.floats)[0]
    return lane(total, 0)


@kernel
def _count_evaluations(drawing: TileLists, stops: IntArray, work: Workspace) -> int:
    """Sixteen per Gaussian and block that the pixel loop visits."""
    batch = batch_in(drawing, work.floats, work.ints)
    total = 0
    for number in range(len(drawing.tile_offsets) - 1):
        tile = tile_at(drawing, number)
        start, end = drawing.tile_offsets[number], drawing.tile_offsets[number + 1]
        for first in range(start, end, BATCH):
            last = min(first + BATCH, end)
            alive = 0
            for pixel in range(TILE * TILE):
                if stops[number * TILE * TILE + pixel] > first - start:
                    alive |= 1 << (pixel >> 4)
            prepare(drawing, tile, first, last, alive, batch, last)
            for j in range(last - first):
                total += 16 * count_bits(batch.block_bits[j])
    return total
