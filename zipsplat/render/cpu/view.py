"""One image, stage by stage: project, bin, blend; and the same for its gradients."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass

import numpy as np

from zipsplat.render.cpu.batch import BATCH
from zipsplat.render.cpu.bin import (
    SORT_INTS,
    Listing,
    Sortable,
    fill_tiles,
    list_intersections,
    number_intersections,
    sort_slots,
)
from zipsplat.render.cpu.blend import BLEND_FLOATS, blend_kernel
from zipsplat.render.cpu.blend_backward import BLEND_BACKWARD_FLOATS, blend_backward_kernel
from zipsplat.render.cpu.layout import (
    CHUNK,
    GROUP,
    INTERSECTION,
    RECORD,
    TILE,
    Buffers,
    ByteArray,
    DoubleArray,
    FloatArray,
    ImageGradients,
    Inputs,
    IntArray,
    Intersections,
    LongArray,
    RasterSettings,
    Scene,
    SceneGradients,
    Slots,
    TileLists,
    Workspace,
    grid_of,
)
from zipsplat.render.cpu.memory import empty, zeros
from zipsplat.render.cpu.pool import run
from zipsplat.render.cpu.project import PROJECT_FLOATS, project
from zipsplat.render.cpu.project_backward import (
    CAMERA_SUMS,
    PROJECT_BACKWARD_FLOATS,
    project_backward,
)
from zipsplat.render.cpu.simd import aligned_empty

_MAX_INTERSECTIONS = 2**31 - 1 - 2 * BATCH  # of int32, with room to add batch sizes
_PARTS_PER_THREAD = 4  # more than one, so that threads end at about the same time
_WORK_FLOATS = max(BLEND_FLOATS, BLEND_BACKWARD_FLOATS, PROJECT_FLOATS, PROJECT_BACKWARD_FLOATS)
_WORK_INTS = SORT_INTS  # sorting needs the most
_BUCKETS_PER_THREAD = 2  # as for parts
_MAX_BUCKETS = 16  # each has a counter per tile in every part of the chunks
_SMALLEST_BUCKET = 1 << 13  # Gaussians; listing fewer takes less time than handing them to a thread
_SAMPLED = 32  # every 32nd key is sampled to find where buckets of depth begin
_TILE_COST = 24  # what an empty tile costs, in intersections


def scene_of(inputs: Inputs) -> Scene:
    """Add the tail to a scene's arrays."""
    num = len(inputs.opacities)
    tail_row = max(0, (num - GROUP) // GROUP * GROUP)
    return Scene(inputs, Inputs(*(_tail(a, num, tail_row) for a in inputs)), tail_row, num)


def _tail(array: FloatArray, num: int, tail_row: int) -> FloatArray:
    """Rows from `tail_row` on; three groups long, as rows are read 16 numbers at a time."""
    width = len(array) // num if num else 1
    tail = np.full(3 * GROUP * width + GROUP, np.nan, np.float32)
    rest = array[tail_row * width :]
    tail[: len(rest)] = rest
    return tail


@dataclass(frozen=True)
class Plan:
    """Everything about a render that has no gradient.

    Args:
        K: (V, 3, 3) float32 intrinsics.
        settings: see `layout`.
        num_features: 3 for colour, 1 for depth, 4 for both.
        alpha_clamp: largest opacity at a pixel.
        with_masks: whether per-Gaussian masks are wanted.
        num_threads: number of threads.
    """

    K: FloatArray
    settings: RasterSettings
    num_features: int
    alpha_clamp: float
    with_masks: bool
    num_threads: int


@dataclass(frozen=True)
class View:
    """One rendered image, and what its gradients need."""

    camera: FloatArray  # see `layout`
    slots: Slots
    lists: TileLists
    num_intersections: int
    buffers: Buffers
    contributed: ByteArray  # (N,) if asked for, else (0,)
    centred: ByteArray


def render_view(scene: Scene, camera: FloatArray, plan: Plan) -> View:
    """Render one view."""
    slots = project_scene(scene, camera, plan)
    num_slots, num_intersections = map(int, number_intersections(slots))
    lists = bin_slots(slots, num_slots, num_intersections, plan)
    buffers = blend_lists(lists, len(slots.ids) if plan.with_masks else 0, plan)
    masks = (_by_gaussian(m, slots, scene.num) for m in (buffers.contributed, buffers.centred))
    return View(camera, slots, lists, num_intersections, buffers, *masks)


def blend_lists(lists: TileLists, num_masked: int, plan: Plan) -> Buffers:
    """The image of some lists; `num_masked` slots get masks."""
    buffers = _buffers(plan, num_masked)
    blend = blend_kernel(plan.num_features, plan.with_masks)

    def blend_tiles(first: int, last: int) -> None:
        blend(lists, first, last, buffers, _workspace())

    run(blend_tiles, tile_parts(lists.tile_offsets, plan.num_threads), plan.num_threads)
    return buffers


def _buffers(plan: Plan, num_masked: int) -> Buffers:
    image = plan.settings.size
    size = image.width * image.height
    grid = grid_of(image)
    return Buffers(
        features=empty(plan.num_features * size),
        transmittances=empty(size),
        stops=empty(grid.columns * grid.rows * TILE * TILE, np.int32),
        contributed=zeros(num_masked, np.uint8),
        centred=zeros(num_masked, np.uint8),
    )


def empty_slots(num: int) -> Slots:
    """Memory for the projection of that many Gaussians."""
    num_chunks = -(-num // CHUNK)
    num_groups = -(-num // GROUP)
    size = num_chunks * CHUNK + GROUP
    return Slots(
        records=empty(size * RECORD),
        ids=empty(size, np.int32),
        keys=empty(size, np.int32),
        num_intersections=empty(size, np.int32),
        first_intersection=empty(size, np.int32),
        group_bits=empty(num_groups, np.int32),
        group_slot=empty(num_groups, np.int32),
        chunk_count=empty(num_chunks, np.int32),
    )


def project_scene(scene: Scene, camera: FloatArray, plan: Plan) -> Slots:
    """The Gaussians that a camera sees."""
    slots = empty_slots(scene.num)

    def project_chunks(first: int, last: int) -> None:
        project(scene, camera, plan.settings, slots, first, last, _workspace())

    run(project_chunks, even_parts(len(slots.chunk_count), plan.num_threads), plan.num_threads)
    return slots


def bin_slots(slots: Slots, num_slots: int, num_intersections: int, plan: Plan) -> TileLists:
    """The lists of all tiles.

    Raises:
        MemoryError: if there are more intersections than 32 bits can number.
    """
    if num_intersections > _MAX_INTERSECTIONS:
        raise MemoryError(
            f"{num_slots} visible Gaussians touch {num_intersections} tiles, more than the CPU "
            f"renderer can list ({_MAX_INTERSECTIONS}); render a smaller image or smaller Gaussians"
        )
    listed = list_slots(slots, num_intersections, plan)
    return sort_and_fill(slots, listed, num_slots, num_intersections, plan)


def sort_and_fill(
    slots: Slots, listed: Listed, num_slots: int, num_intersections: int, plan: Plan
) -> TileLists:
    """Sort each bucket by depth, and append it to the lists of its tiles."""
    tile_counts = listed.tile_counts.sum(axis=0, dtype=np.int64)  # (buckets, tiles)
    tile_offsets = np.zeros(tile_counts.shape[1] + 1, np.int64)
    np.cumsum(tile_counts.sum(axis=0), out=tile_offsets[1:])
    cursors = tile_offsets[:-1] + np.cumsum(tile_counts, axis=0) - tile_counts
    piece_starts = listed.part_starts[:, None] + _sums_before(listed.slot_counts.T).T
    bucket_starts = _sums_before(listed.slot_counts.sum(axis=0))
    entries = empty(2 * (num_intersections + 2 * BATCH), np.int32)
    entries[2 * num_intersections :] = 0
    memory = [empty(num_slots, np.int32) for _ in range(4)]

    def fill_bucket(bucket: int, _last: int) -> None:
        counts = listed.slot_counts[:, bucket].copy()
        start = bucket_starts[bucket]
        keys, ids, more_keys, more_ids = (m[start : start + counts.sum()] for m in memory)
        first, second = Sortable(keys, ids), Sortable(more_keys, more_ids)
        starts = piece_starts[:, bucket].copy()
        in_first = sort_slots(listed.parted, starts, counts, first, second, _workspace())
        order = (first if in_first else second).slots
        fill_tiles(slots, order, listed.intersection_tiles, cursors[bucket], entries.view(np.int64))

    buckets = range(len(tile_counts))
    run(fill_bucket, [(bucket, bucket + 1) for bucket in buckets], plan.num_threads)
    return TileLists(slots.records, entries, tile_offsets, plan.settings.size, plan.alpha_clamp)


@dataclass(frozen=True)
class Listed:
    """The tiles of all intersections, and for each part of the chunks its slots split by depth."""

    intersection_tiles: IntArray
    parted: Sortable
    part_starts: LongArray  # (parts,) where the slots of each begin in `parted`
    slot_counts: IntArray  # (parts, buckets)
    tile_counts: IntArray  # (parts, buckets, tiles)


def list_slots(slots: Slots, num_intersections: int, plan: Plan) -> Listed:
    """List the tiles of all Gaussians."""
    grid = grid_of(plan.settings.size)
    parts = even_parts(len(slots.chunk_count), plan.num_threads)
    numbers = {first: number for number, (first, _) in enumerate(parts)}
    edges = _bucket_edges(slots, plan.num_threads)
    size = len(slots.chunk_count) * CHUNK
    listed = Listed(
        intersection_tiles=empty(num_intersections + 1, np.int32),
        parted=Sortable(empty(size, np.int32), empty(size, np.int32)),
        part_starts=np.array([first * CHUNK for first, _ in parts], np.int64),
        slot_counts=np.empty((len(parts), len(edges) + 1), np.int32),
        tile_counts=np.zeros((len(parts), len(edges) + 1, grid.columns * grid.rows), np.int32),
    )

    def list_chunks(first: int, last: int) -> None:
        number = numbers[first]
        listing = Listing(
            listed.intersection_tiles,
            listed.parted,
            listed.slot_counts[number],
            listed.tile_counts[number].reshape(-1),
        )
        list_intersections(slots, grid, first, last, edges, listing, _workspace())

    run(list_chunks, parts, plan.num_threads)
    return listed


def _bucket_edges(slots: Slots, num_threads: int) -> IntArray:
    """Keys that split the slots into buckets of about equal size, a few for each thread."""
    num_slots = int(slots.chunk_count.sum())
    num_buckets = min(
        num_slots // _SMALLEST_BUCKET, _BUCKETS_PER_THREAD * num_threads, _MAX_BUCKETS
    )
    if num_threads == 1 or num_buckets < 2:
        return np.empty(0, np.int32)
    used = (slots.keys[c * CHUNK : c * CHUNK + n] for c, n in enumerate(slots.chunk_count.tolist()))
    sample = np.sort(np.concatenate([keys[::_SAMPLED] for keys in used]))
    places = np.arange(1, num_buckets) * len(sample) // num_buckets
    edges: IntArray = sample[places]
    return edges


def _sums_before(counts: IntArray) -> LongArray:
    """For each number along the first axis, the sum of those before it."""
    sums: LongArray = np.cumsum(counts, axis=0, dtype=np.int64) - counts
    return sums


def _by_gaussian(mask: ByteArray, slots: Slots, num: int) -> ByteArray:
    """A mask of slots as a mask of the Gaussians of the input."""
    result = np.zeros(num if len(mask) else 0, np.uint8)
    if len(mask):
        result[slots.ids[mask.nonzero()[0]]] = 1
    return result


class _Workspaces(threading.local):
    """Scratch memory, one piece per thread."""

    def __init__(self) -> None:
        self.workspace = Workspace(aligned_empty(_WORK_FLOATS), aligned_empty(_WORK_INTS, np.int32))


_workspaces = _Workspaces()


def _workspace() -> Workspace:
    return _workspaces.workspace


def even_parts(num: int, num_threads: int) -> list[tuple[int, int]]:
    """Split 0 … num into about equal ranges."""
    if num_threads == 1 and num > 0:
        return [(0, num)]
    num_parts = min(num, num_threads * _PARTS_PER_THREAD)
    edges = np.linspace(0, num, num_parts + 1).astype(int).tolist() if num_parts else [0]
    return list(itertools.pairwise(edges))


def tile_parts(tile_offsets: LongArray, num_threads: int) -> list[tuple[int, int]]:
    """Split the tiles into ranges that take about equal time."""
    num_tiles = len(tile_offsets) - 1
    if num_threads == 1 and num_tiles > 0:
        return [(0, num_tiles)]
    num_parts = min(num_tiles, num_threads * _PARTS_PER_THREAD)
    cost = tile_offsets + _TILE_COST * np.arange(num_tiles + 1)
    inner = np.searchsorted(cost, cost[-1] * np.arange(1, num_parts) / num_parts).tolist()
    edges = sorted({0, *inner, num_tiles})
    return list(itertools.pairwise(edges))


@dataclass(frozen=True)
class ViewGradients:
    """What one view adds to the gradients that are not per Gaussian."""

    rotation: DoubleArray  # (3, 3), of the loss by camera-from-world
    centre: DoubleArray  # (3,)


def render_view_backward(
    scene: Scene, plan: Plan, view: View, v_image: ImageGradients, gradients: Inputs, fresh: bool
) -> ViewGradients:
    """Gradients of one view.

    Args:
        scene: as given to `render_view`.
        plan: likewise.
        view: what `render_view` returned.
        v_image: gradients of the loss with respect to image and transmittances.
        gradients: receives the gradients, in arrays like the scene's.
        fresh: whether to overwrite `gradients` or to add to it.
    """
    intersections = _blend_backward(view, v_image, plan)
    num_chunks = len(view.slots.chunk_count)
    v_scene = SceneGradients(gradients, fresh, np.zeros(num_chunks * CAMERA_SUMS, np.float64))

    def project_chunks_backward(first: int, last: int) -> None:
        project_backward(
            scene,
            view.camera,
            plan.settings,
            view.slots,
            intersections,
            v_scene,
            first,
            last,
            _workspace(),
        )

    run(project_chunks_backward, even_parts(num_chunks, plan.num_threads), plan.num_threads)
    sums = v_scene.camera_sums.reshape(num_chunks, CAMERA_SUMS).sum(axis=0)
    return ViewGradients(sums[:9].reshape(3, 3), sums[9:])


def _blend_backward(view: View, v_image: ImageGradients, plan: Plan) -> Intersections:
    intersections = Intersections(
        empty(view.num_intersections * INTERSECTION + GROUP),
        zeros(view.num_intersections, np.uint8),
        plan.num_features,
    )
    blend_backward = blend_backward_kernel(plan.num_features)

    def blend_tiles_backward(first: int, last: int) -> None:
        blend_backward(view.lists, first, last, view.buffers, v_image, intersections, _workspace())

    parts = tile_parts(view.lists.tile_offsets, plan.num_threads)
    run(blend_tiles_backward, parts, plan.num_threads)
    return intersections
