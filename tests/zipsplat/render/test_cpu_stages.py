"""The tile lists of the CPU rasterizer against plain loops over every tile and pixel."""

from __future__ import annotations

import numpy as np
import pytest

from zipsplat.render import rules
from zipsplat.render.cpu import view as stages
from zipsplat.render.cpu.layout import (
    CONIC_A_LOG2,
    CONIC_B_LOG2,
    CONIC_C_LOG2,
    DEPTH,
    LOG2_OPACITY,
    MEAN_X,
    MEAN_Y,
    TILE,
    Culling,
    ImageSize,
    Inputs,
    RasterSettings,
    Shading,
    TileLists,
)

WIDTH, HEIGHT = 75, 50
TILES_X, TILES_Y = 5, 4


def lists_of(
    seed: int, num: int, spread: float, num_threads: int = 1
) -> tuple[stages.Slots, TileLists, np.ndarray]:
    """Project and bin a random scene; also the slots in use."""
    random = np.random.default_rng(seed)
    depth = np.round(random.uniform(2, 6, num), 1)  # many equal depths
    position = (random.uniform(-0.7, 0.7, (num, 2)) * depth[:, None], depth[:, None])
    inputs = Inputs(
        means=np.concatenate(position, axis=1).astype(np.float32).reshape(-1),
        quats=random.normal(size=num * 4).astype(np.float32),
        scales=np.exp(random.normal(size=num * 3) * spread - 3).astype(np.float32),
        opacities=random.uniform(0.004, 1, num).astype(np.float32),
        sh_coeffs=np.zeros(num * 3, np.float32),
    )
    identity = [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
    intrinsics = [70, 70, WIDTH / 2, HEIGHT / 2, -2, 2, -2, 2]
    camera = np.array([*identity, *intrinsics], np.float32)
    plan = stages.Plan(
        K=np.zeros((1, 3, 3), np.float32),
        settings=RasterSettings(
            ImageSize(WIDTH, HEIGHT), Culling(0.01, 1e10, 0.0), Shading(0, 1), eps2d=0.3
        ),
        num_features=3,
        alpha_clamp=0.999,
        with_masks=False,
        num_threads=num_threads,
    )
    slots = stages.project_scene(stages.scene_of(inputs), camera, plan)
    num_slots, num_intersections = map(int, stages.number_intersections(slots))
    lists = stages.bin_slots(slots, num_slots, num_intersections, plan)
    used = [c * stages.CHUNK + np.arange(n) for c, n in enumerate(slots.chunk_count)]
    return slots, lists, np.concatenate([np.empty(0, np.int64), *used])


def exponents(record: np.ndarray) -> np.ndarray:
    """log2 of the opacity at every pixel of every tile, (TILES_Y, TILES_X, 16, 16)."""
    x = np.arange(TILES_X * TILE) + 0.5 - record[MEAN_X]
    y = (np.arange(TILES_Y * TILE) + 0.5 - record[MEAN_Y])[:, None]
    q = (
        record[LOG2_OPACITY]
        + record[CONIC_A_LOG2] * x * x
        + record[CONIC_B_LOG2] * x * y
        + record[CONIC_C_LOG2] * y * y
    )
    return q.reshape(TILES_Y, TILE, TILES_X, TILE).swapaxes(1, 2)


@pytest.mark.parametrize("spread", [0.3, 1.5])
def test_tile_lists(spread: float) -> None:
    """Every tile with a pixel of alpha ≥ 1/255 is listed, and hardly any other."""
    slots, lists, used = lists_of(0, 900, spread)
    records = slots.records.reshape(-1, 16)  # those not in use hold anything
    listed = np.zeros((len(slots.ids), TILES_Y * TILES_X), bool)
    for tile in range(TILES_Y * TILES_X):
        members = lists.entries[::2][lists.tile_offsets[tile] : lists.tile_offsets[tile + 1]]
        assert len(set(members.tolist())) == len(members)
        listed[members, tile] = True
    assert listed[used].sum() == lists.tile_offsets[-1] == slots.num_intersections[used].sum()
    needed = np.stack(
        [
            (exponents(records[s].astype(np.float64)) >= rules.LOG2_ALPHA_MIN)
            .any(axis=(2, 3))
            .ravel()
            for s in used
        ]
    )
    # A tile may also be listed because the ellipse passes between its pixels.
    assert (listed[used] >= needed).all()
    assert listed[used].sum() <= 1.15 * needed.sum()
    assert needed.sum() > 500


def test_order_in_tiles() -> None:
    """Nearest first, equal depths in the order of the input; entries hold their slot's numbers."""
    slots, lists, _ = lists_of(1, 9000, 0.3)
    depths = slots.records.reshape(-1, 16)[:, DEPTH]
    seen: list[int] = []
    for tile in range(TILES_Y * TILES_X):
        part = slice(lists.tile_offsets[tile], lists.tile_offsets[tile + 1])
        members, intersections = lists.entries[::2][part], lists.entries[1::2][part]
        keys = list(zip(depths[members].tolist(), slots.ids[members].tolist(), strict=True))
        assert keys == sorted(keys)
        first = slots.first_intersection[members]
        assert (
            (intersections >= first) & (intersections < first + slots.num_intersections[members])
        ).all()
        seen += intersections.tolist()
    assert sorted(seen) == list(range(lists.tile_offsets[-1]))


@pytest.mark.parametrize("num_threads", [2, 3, 20])
@pytest.mark.parametrize("smallest_bucket", [1, 500])
@pytest.mark.parametrize("num", [0, 1, 40, 9000])
def test_lists_for_several_threads(
    num: int, smallest_bucket: int, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets of depths change nothing, though many depths are equal and edges may be, too."""
    _, wanted, _ = lists_of(2, num, 0.3)
    monkeypatch.setattr(stages, "_SMALLEST_BUCKET", smallest_bucket)
    slots, lists, _ = lists_of(2, num, 0.3, num_threads)
    if num == 9000:
        edges = stages._bucket_edges(slots, num_threads)
        assert len(edges) > 2
        assert (np.diff(edges) >= 0).all()
    used = 2 * wanted.tile_offsets[-1]
    np.testing.assert_array_equal(lists.tile_offsets, wanted.tile_offsets)
    np.testing.assert_array_equal(lists.entries[:used], wanted.entries[:used])


def test_parts_cover_everything_once() -> None:
    for num in (0, 1, 5, 100):
        for threads in (1, 2, 7):
            parts = stages.even_parts(num, threads)
            assert [i for first, last in parts for i in range(first, last)] == list(range(num))
            starts = np.cumsum(np.random.default_rng(num).integers(0, 50, num + 1))
            parts = stages.tile_parts(starts, threads)
            assert [i for first, last in parts for i in range(first, last)] == list(range(num))
