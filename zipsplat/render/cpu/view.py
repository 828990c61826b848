"""One image, stage by stage: project, bin, blend; and the same for its gradients."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass

import numpy as np

from zipsplat.render.cpu.batch import BATCH
from zipsplat.render.cpu.bin import (
    SORT_INTS,
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
    Limits,
    LongArray,
    Scene,
    Slots,
    TileLists,
    Workspace,
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

_MAX_INTERSECTIONS = 2**31 - 1 - 2 * BATCH
_PARTS_PER_THREAD = 4
_WORK_FLOATS = max(BLEND_FLOATS, BLEND_BACKWARD_FLOATS, PROJECT_FLOATS, PROJECT_BACKWARD_FLOATS)
_WORK_INTS = SORT_INTS  # the largest need
_BUCKETS_PER_THREAD = 2
_MAX_BUCKETS = 16
_SMALLEST_BUCKET = 1 << 13  # Gaussians; fewer are sooner listed than handed to another thread
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
class View:
    """One rendered image, and what its gradients need."""

    slots: Slots
    lists: TileLists
    num_intersections: int
    buffers: Buffers
    contributed: ByteArray  # (N,) if asked for, else (0,)
    centred: ByteArray


def render_view(
    scene: Scene,
    camera: FloatArray,
    limits: Limits,
    num_features: int,
    alpha_clamp: float,
    with_masks: bool,
    num_threads: int,
) -> View:
    """Render one view.

    Args:
        scene: the Gaussians.
        camera: see `layout`.
        limits: see `layout`.
        num_features: 1, 3 or 4.
        alpha_clamp: largest opacity at a pixel.
        with_masks: whether masks are wanted.
        num_threads: how many threads work.
    """
    slots = _project(scene, camera, limits, num_threads)
    num_slots, num_intersections = map(int, number_intersections(slots))
    entries, tile_offsets = _bin(slots, limits, num_slots, num_intersections, num_threads)
    lists = TileLists(
        slots.records, entries, tile_offsets, limits.width, limits.height, alpha_clamp
    )
    num_masked = len(slots.ids) if with_masks else 0
    buffers = _buffers(limits, num_features, num_masked)
    blend = blend_kernel(num_features, with_masks)

    def blend_tiles(first: int, last: int) -> None:
        blend(lists, first, last, buffers, _workspace())

    run(blend_tiles, tile_parts(tile_offsets, num_threads), num_threads)
    masks = (_by_gaussian(m, slots, scene.num) for m in (buffers.contributed, buffers.centred))
    return View(slots, lists, num_intersections, buffers, *masks)


def _buffers(limits: Limits, num_features: int, num_masked: int) -> Buffers:
    size = limits.width * limits.height
    num_tiles = -(-limits.width // TILE) * -(-limits.height // TILE)
    return Buffers(
        features=empty(num_features * size),
        transmittances=empty(size),
        stops=empty(num_tiles * TILE * TILE, np.int32),
        contributed=zeros(num_masked, np.uint8),
        centred=zeros(num_masked, np.uint8),
    )


def _project(scene: Scene, camera: FloatArray, limits: Limits, num_threads: int) -> Slots:
    num_chunks = -(-scene.num // CHUNK)
    num_groups = -(-scene.num // GROUP)
    size = num_chunks * CHUNK + GROUP
    slots = Slots(
        records=empty(size * RECORD),
        ids=empty(size, np.int32),
        keys=empty(size, np.int32),
        num_intersections=empty(size, np.int32),
        first_intersection=empty(size, np.int32),
        group_bits=empty(num_groups, np.int32),
        group_slot=empty(num_groups, np.int32),
        chunk_count=empty(num_chunks, np.int32),
    )

    def project_chunks(first: int, last: int) -> None:
        project(
            scene,
            camera,
            limits,
            slots,
            first,
            last,
            _workspace(),
        )

    run(project_chunks, even_parts(num_chunks, num_threads), num_threads)
    return slots


def _bin(
    slots: Slots, limits: Limits, num_slots: int, num_intersections: int, num_threads: int
) -> tuple[IntArray, LongArray]:
    """The lists of all tiles, and where each begins; see `layout.TileLists`."""
    if num_intersections > _MAX_INTERSECTIONS:
        raise MemoryError(
            f"{num_slots} visible Gaussians touch {num_intersections} tiles, more than the CPU "
            f"renderer can list ({_MAX_INTERSECTIONS}); render a smaller image or smaller Gaussians"
        )
    tiles_x = -(-limits.width // TILE)
    tiles_y = -(-limits.height // TILE)
    listed = _list(slots, num_intersections, tiles_x, tiles_y, num_threads)
    tile_counts = listed.tile_counts.sum(axis=0, dtype=np.int64)  # (buckets, tiles)
    tile_offsets = np.zeros(tiles_x * tiles_y + 1, np.int64)
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
    run(fill_bucket, [(bucket, bucket + 1) for bucket in buckets], num_threads)
    return entries, tile_offsets


@dataclass(frozen=True)
class _Listed:
    """Tiles of all intersections, and slots split by depth, for each part of the chunks."""

    intersection_tiles: IntArray
    parted: Sortable
    part_starts: LongArray  # (parts,) where the slots of each begin in `parted`
    slot_counts: IntArray  # (parts, buckets)
    tile_counts: IntArray  # (parts, buckets, tiles)


def _list(
    slots: Slots, num_intersections: int, tiles_x: int, tiles_y: int, num_threads: int
) -> _Listed:
    parts = even_parts(len(slots.chunk_count), num_threads)
    numbers = {first: number for number, (first, _) in enumerate(parts)}
    edges = _bucket_edges(slots, num_threads)
    size = len(slots.chunk_count) * CHUNK
    listed = _Listed(
        intersection_tiles=empty(num_intersections + 1, np.int32),
        parted=Sortable(empty(size, np.int32), empty(size, np.int32)),
        part_starts=np.array([first * CHUNK for first, _ in parts], np.int64),
        slot_counts=np.empty((len(parts), len(edges) + 1), np.int32),
        tile_counts=np.zeros((len(parts), len(edges) + 1, tiles_x * tiles_y), np.int32),
    )

    def list_chunks(first: int, last: int) -> None:
        number = numbers[first]
        list_intersections(
            slots,
            tiles_x,
            tiles_y,
            first,
            last,
            edges,
            listed.intersection_tiles,
            listed.parted,
            listed.slot_counts[number],
            listed.tile_counts[number].reshape(-1),
            _workspace(),
        )

    run(list_chunks, parts, num_threads)
    return listed


def _bucket_edges(slots: Slots, num_threads: int) -> IntArray:
    """Keys that part the slots into about equal numbers, a few for each thread."""
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
    """Memory to work in, for each thread its own."""

    def __init__(self) -> None:
        self.workspace = Workspace(aligned_empty(_WORK_FLOATS), aligned_empty(_WORK_INTS, np.int32))


_workspaces = _Workspaces()


def _workspace() -> Workspace:
    return _workspaces.workspace


def even_parts(num: int, num_threads: int) -> list[tuple[int, int]]:
    """Cut 0 … num into about equal ranges."""
    if num_threads == 1 and num > 0:
        return [(0, num)]
    num_parts = min(num, num_threads * _PARTS_PER_THREAD)
    edges = np.linspace(0, num, num_parts + 1).astype(int).tolist() if num_parts else [0]
    return list(itertools.pairwise(edges))


def tile_parts(tile_offsets: LongArray, num_threads: int) -> list[tuple[int, int]]:
    """Cut the tiles into ranges that take about equal time."""
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
    scene: Scene,
    camera: FloatArray,
    limits: Limits,
    num_features: int,
    view: View,
    v_image: ImageGradients,
    gradients: Inputs,
    fresh: bool,
    num_threads: int,
) -> ViewGradients:
    """Gradients of one view.

    Args:
        scene: as given to `render_view`, and so on.
        camera: see `layout`.
        limits: see `layout`.
        num_features: 1, 3 or 4.
        view: what `render_view` returned.
        v_image: gradients of the loss with respect to image and transmittances.
        gradients: arrays like the scene's.
        fresh: whether `gradients` is written; otherwise it is added to.
        num_threads: how many threads work.
    """
    intersections = _blend_backward(num_features, view, v_image, num_threads)
    num_chunks = len(view.slots.chunk_count)
    camera_sums = np.zeros(num_chunks * CAMERA_SUMS, np.float64)

    def project_chunks_backward(first: int, last: int) -> None:
        project_backward(
            scene,
            camera,
            limits,
            view.slots,
            num_features,
            intersections,
            fresh,
            gradients,
            camera_sums,
            first,
            last,
            _workspace(),
        )

    run(project_chunks_backward, even_parts(num_chunks, num_threads), num_threads)
    sums = camera_sums.reshape(num_chunks, CAMERA_SUMS).sum(axis=0)
    return ViewGradients(sums[:9].reshape(3, 3), sums[9:])


def _blend_backward(
    num_features: int, view: View, v_image: ImageGradients, num_threads: int
) -> Intersections:
    intersections = Intersections(
        empty(view.num_intersections * INTERSECTION + GROUP),
        zeros(view.num_intersections, np.uint8),
    )
    blend_backward = blend_backward_kernel(num_features)

    def blend_tiles_backward(first: int, last: int) -> None:
        blend_backward(view.lists, first, last, view.buffers, v_image, intersections, _workspace())

    run(blend_tiles_backward, tile_parts(view.lists.tile_offsets, num_threads), num_threads)
    return intersections
