"""One picture, stage by stage: project, bin, blend; and the same for its gradients."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass

import numpy as np

from zipsplat.render.cpu.backward import BACKWARD_FLOATS, unblender
from zipsplat.render.cpu.batch import BATCH
from zipsplat.render.cpu.bin import (
    SORT_INTS,
    Sortable,
    fill_tiles,
    list_hits,
    number_hits,
    sort_slots,
)
from zipsplat.render.cpu.forward import FORWARD_FLOATS, blender
from zipsplat.render.cpu.layout import (
    CHUNK,
    GROUP,
    HIT,
    RECORD,
    TILE,
    ByteArray,
    Canvas,
    CanvasGradients,
    DoubleArray,
    Drawing,
    FloatArray,
    Hits,
    Inputs,
    IntArray,
    Limits,
    LongArray,
    Scene,
    Slots,
    Workspace,
)
from zipsplat.render.cpu.memory import empty, zeros
from zipsplat.render.cpu.pool import run
from zipsplat.render.cpu.project import PROJECT_FLOATS, project
from zipsplat.render.cpu.simd_memory import aligned_empty
from zipsplat.render.cpu.unproject import CAMERA_SUMS, UNPROJECT_FLOATS, unproject

_MAX_HITS = 2**31 - 1 - 2 * BATCH
_PARTS_PER_THREAD = 4
_WORK_FLOATS = max(FORWARD_FLOATS, BACKWARD_FLOATS, PROJECT_FLOATS, UNPROJECT_FLOATS)
_WORK_INTS = SORT_INTS  # the largest need
_BUCKETS_PER_THREAD = 2
_MAX_BUCKETS = 16
_SMALLEST_BUCKET = 1 << 13  # Gaussians; fewer are sooner listed than handed to another thread
_SAMPLED = 32  # one key of so many tells where buckets of depths begin
_TILE_COST = 24  # what an empty tile costs, in hits


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
    """One drawn picture, and what its gradients need."""

    slots: Slots
    drawing: Drawing
    num_hits: int
    canvas: Canvas
    contributed: ByteArray  # (N,) if asked for, else (0,)
    centred: ByteArray


def draw(
    scene: Scene,
    camera: FloatArray,
    limits: Limits,
    num_features: int,
    alpha_clamp: float,
    with_masks: bool,
    num_threads: int,
) -> View:
    """Draw one view.

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
    num_slots, num_hits = map(int, number_hits(slots))
    entries, tile_starts = _bin(slots, limits, num_slots, num_hits, num_threads)
    drawing = Drawing(slots.records, entries, tile_starts, limits.width, limits.height, alpha_clamp)
    num_masked = len(slots.ids) if with_masks else 0
    canvas = _canvas(limits, num_features, num_masked)
    blend = blender(num_features, with_masks)

    def blend_tiles(first: int, last: int) -> None:
        blend(drawing, first, last, canvas, _workspace())

    run(blend_tiles, tile_parts(tile_starts, num_threads), num_threads)
    masks = (_by_gaussian(m, slots, scene.num) for m in (canvas.contributed, canvas.centred))
    return View(slots, drawing, num_hits, canvas, *masks)


def _canvas(limits: Limits, num_features: int, num_masked: int) -> Canvas:
    size = limits.width * limits.height
    num_tiles = -(-limits.width // TILE) * -(-limits.height // TILE)
    return Canvas(
        picture=empty(num_features * size),
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
        num_hits=empty(size, np.int32),
        first_hit=empty(size, np.int32),
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
    slots: Slots, limits: Limits, num_slots: int, num_hits: int, num_threads: int
) -> tuple[IntArray, LongArray]:
    """The lists of all tiles, and where each begins; see `layout.Drawing`."""
    if num_hits > _MAX_HITS:
        raise MemoryError(
            f"{num_slots} visible Gaussians touch {num_hits} tiles, more than the CPU renderer "
            f"can list ({_MAX_HITS}); draw a smaller picture or smaller Gaussians"
        )
    tiles_x = -(-limits.width // TILE)
    tiles_y = -(-limits.height // TILE)
    listed = _list(slots, num_hits, tiles_x, tiles_y, num_threads)
    tile_counts = listed.tile_counts.sum(axis=0, dtype=np.int64)  # (buckets, tiles)
    tile_starts = np.zeros(tiles_x * tiles_y + 1, np.int64)
    np.cumsum(tile_counts.sum(axis=0), out=tile_starts[1:])
    cursors = tile_starts[:-1] + np.cumsum(tile_counts, axis=0) - tile_counts
    piece_starts = listed.part_starts[:, None] + _sums_before(listed.slot_counts.T).T
    bucket_starts = _sums_before(listed.slot_counts.sum(axis=0))
    entries = empty(2 * (num_hits + 2 * BATCH), np.int32)
    entries[2 * num_hits :] = 0
    memory = [empty(num_slots, np.int32) for _ in range(4)]

    def fill_bucket(bucket: int, _last: int) -> None:
        counts = listed.slot_counts[:, bucket].copy()
        start = bucket_starts[bucket]
        keys, ids, more_keys, more_ids = (m[start : start + counts.sum()] for m in memory)
        first, second = Sortable(keys, ids), Sortable(more_keys, more_ids)
        starts = piece_starts[:, bucket].copy()
        in_first = sort_slots(listed.parted, starts, counts, first, second, _workspace())
        order = (first if in_first else second).slots
        fill_tiles(slots, order, listed.hit_tiles, cursors[bucket], entries.view(np.int64))

    buckets = range(len(tile_counts))
    run(fill_bucket, [(bucket, bucket + 1) for bucket in buckets], num_threads)
    return entries, tile_starts


@dataclass(frozen=True)
class _Listed:
    """Tiles of all hits, and slots parted by depth; of each part of the chunks."""

    hit_tiles: IntArray
    parted: Sortable
    part_starts: LongArray  # (parts,) where the slots of each begin in `parted`
    slot_counts: IntArray  # (parts, buckets)
    tile_counts: IntArray  # (parts, buckets, tiles)


def _list(slots: Slots, num_hits: int, tiles_x: int, tiles_y: int, num_threads: int) -> _Listed:
    parts = even_parts(len(slots.chunk_count), num_threads)
    numbers = {first: number for number, (first, _) in enumerate(parts)}
    edges = _bucket_edges(slots, num_threads)
    size = len(slots.chunk_count) * CHUNK
    listed = _Listed(
        hit_tiles=empty(num_hits + 1, np.int32),
        parted=Sortable(empty(size, np.int32), empty(size, np.int32)),
        part_starts=np.array([first * CHUNK for first, _ in parts], np.int64),
        slot_counts=np.empty((len(parts), len(edges) + 1), np.int32),
        tile_counts=np.zeros((len(parts), len(edges) + 1, tiles_x * tiles_y), np.int32),
    )

    def list_chunks(first: int, last: int) -> None:
        number = numbers[first]
        list_hits(
            slots,
            tiles_x,
            tiles_y,
            first,
            last,
            edges,
            listed.hit_tiles,
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


def tile_parts(tile_starts: LongArray, num_threads: int) -> list[tuple[int, int]]:
    """Cut the tiles into ranges that take about equal time."""
    num_tiles = len(tile_starts) - 1
    if num_threads == 1 and num_tiles > 0:
        return [(0, num_tiles)]
    num_parts = min(num_tiles, num_threads * _PARTS_PER_THREAD)
    cost = tile_starts + _TILE_COST * np.arange(num_tiles + 1)
    inner = np.searchsorted(cost, cost[-1] * np.arange(1, num_parts) / num_parts).tolist()
    edges = sorted({0, *inner, num_tiles})
    return list(itertools.pairwise(edges))


@dataclass(frozen=True)
class ViewGradients:
    """What one view adds to the gradients that are not per Gaussian."""

    rotation: DoubleArray  # (3, 3), of the loss by camera-from-world
    centre: DoubleArray  # (3,)


def undraw(
    scene: Scene,
    camera: FloatArray,
    limits: Limits,
    num_features: int,
    view: View,
    v_canvas: CanvasGradients,
    gradients: Inputs,
    fresh: bool,
    num_threads: int,
) -> ViewGradients:
    """Gradients of one view.

    Args:
        scene: as given to `draw`, and so on.
        camera: see `layout`.
        limits: see `layout`.
        num_features: 1, 3 or 4.
        view: what `draw` returned.
        v_canvas: gradients of the loss by picture and transmittances.
        gradients: arrays like the scene's.
        fresh: whether `gradients` is written; otherwise it is added to.
        num_threads: how many threads work.
    """
    hits = _unblend(num_features, view, v_canvas, num_threads)
    num_chunks = len(view.slots.chunk_count)
    camera_sums = np.zeros(num_chunks * CAMERA_SUMS, np.float64)

    def unproject_chunks(first: int, last: int) -> None:
        unproject(
            scene,
            camera,
            limits,
            view.slots,
            num_features,
            hits,
            fresh,
            gradients,
            camera_sums,
            first,
            last,
            _workspace(),
        )

    run(unproject_chunks, even_parts(num_chunks, num_threads), num_threads)
    sums = camera_sums.reshape(num_chunks, CAMERA_SUMS).sum(axis=0)
    return ViewGradients(sums[:9].reshape(3, 3), sums[9:])


def _unblend(num_features: int, view: View, v_canvas: CanvasGradients, num_threads: int) -> Hits:
    hits = Hits(empty(view.num_hits * HIT + GROUP), zeros(view.num_hits, np.uint8))
    unblend = unblender(num_features)

    def unblend_tiles(first: int, last: int) -> None:
        unblend(view.drawing, first, last, view.canvas, v_canvas, hits, _workspace())

    run(unblend_tiles, tile_parts(view.drawing.tile_starts, num_threads), num_threads)
    return hits
