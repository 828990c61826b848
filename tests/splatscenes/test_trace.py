"""Intersections, the tree and distances, each against something independent of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splatscenes.builder import SceneBuilder, turn
from splatscenes.shapes import NO_INTERSECTION, distance, intersect
from splatscenes.trace import blocker, clearances, closest, new_stack
from splatscenes.world import BOX, ELLIPSOID, FRUSTUM, World


def _intersect(world: World, origin: tuple[float, ...], direction: tuple[float, ...]) -> float:
    return closest(world, origin, direction, -1, new_stack())[0]


@pytest.mark.parametrize(
    ("kind", "origin", "direction", "expected"),
    [
        (BOX, (-5, 0.3, 0.2), (1, 0, 0), 4.0),
        (BOX, (-5, 2.5, 0), (1, 0, 0), NO_INTERSECTION),
        (BOX, (0, 0, 9), (0, 0, -2), 3.0),  # distances count lengths of the direction
        (ELLIPSOID, (-5, 0, 0), (1, 0, 0), 4.0),
        (ELLIPSOID, (0, -6, 0), (0, 1, 0), 4.0),
        (ELLIPSOID, (0, -6, 2.9), (0, 1, 0), 6 - 2 * math.sqrt(1 - (2.9 / 3) ** 2)),
        (FRUSTUM, (-5, 0, -3), (1, 0, 0), 4.0),  # taper 0.5: radius 1 at the base …
        (FRUSTUM, (-5, 0, 0), (1, 0, 0), 4.25),  # … 0.75 half way
        (FRUSTUM, (0.4, 0, 9), (0, 0, -1), 6.0),  # the upper cap has radius 0.5
        (FRUSTUM, (0.6, 0, 9), (0, 0, -1), 6 + 1.2),  # beside it, on the mantle: 0.6 = 1 − 0.5 s
    ],
)
def test_distances_worked_out_by_hand(
    grey_builder: SceneBuilder,
    kind: int,
    origin: tuple[float, ...],
    direction: tuple[float, ...],
    expected: float,
) -> None:
    half = (1.0, 1.0 if kind == FRUSTUM else 2.0, 3.0)
    grey_builder.add_solid(kind, (0, 0, 0), half, 0, taper=0.5 if kind == FRUSTUM else 0.0)
    floats = tuple(map(float, origin)), tuple(map(float, direction))
    assert _intersect(grey_builder.world(), *floats) == pytest.approx(expected)


def _crowd(builder: SceneBuilder, count: int, seed: int, balls: bool = False) -> World:
    rng = np.random.default_rng(seed)
    for k in range(count):
        center = rng.uniform(-5, 5, 3)
        axes = turn(*rng.uniform(-3, 3, 3))
        half = rng.uniform(0.1, 0.9, 3)
        if balls and k % 4 == ELLIPSOID:  # the distance to others is an estimate
            half[:] = half[0]
        if k % 4 < 3:
            half[1] = half[0] if k % 4 == FRUSTUM else half[1]
            taper = float(rng.uniform(-0.5, 1))
            builder.add_solid(k % 4, center, tuple(half), 0, rotation=axes, taper=taper)
        else:
            corners = center + rng.normal(0, 0.6, (3, 3))
            builder.add_mesh(corners, np.array([[0, 1, 2]]), 0)
    builder.add_room((0.0, 0.0, 0.0), (8.0, 8.0, 8.0), [0] * 6)
    return builder.world()


def _rays(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    return rng.uniform(-6, 6, (count, 3)), directions / np.linalg.norm(
        directions, axis=1, keepdims=True
    )


def test_the_tree_finds_what_trying_all_primitives_finds(grey_builder: SceneBuilder) -> None:
    world = _crowd(grey_builder, 90, 1)
    stack = new_stack()
    intersections = 0
    for origin, direction in zip(*_rays(400, 2), strict=True):
        o, d = tuple(origin), tuple(direction)
        each = [intersect(world, i, o, d) for i in range(len(world.kind))]
        t, who = closest(world, o, d, -1, stack)
        assert t == min(each) < NO_INTERSECTION  # every ray ends on the room
        assert each[who] == t
        assert closest(world, o, d, 7, stack) == (t, who)  # a wrong guess does no harm
        found = blocker(world, o, d, 4.0, -1, stack)
        assert (found >= 0) == (min(each) < 4.0)
        assert found < 0 or each[found] < 4.0
        intersections += who < world.num_in_tree
    assert 80 < intersections < 400


def test_walking_by_distances_stops_at_the_intersection(grey_builder: SceneBuilder) -> None:
    """Distance and intersection code share nothing: a ray may not pass where distance is zero."""
    world = _crowd(grey_builder, 60, 3)
    for origin, direction in zip(*_rays(60, 4), strict=True):
        t, who = closest(world, tuple(origin), tuple(direction), -1, new_stack())
        end = origin + t * direction
        if world.kind[who] in (BOX, ELLIPSOID):  # a frustum's distance is that of its hull
            assert distance(world, who, *end) == pytest.approx(0, abs=1e-9)
        inner = origin + np.linspace(0, 0.999, 40)[:, None] * t * direction
        for i in np.flatnonzero((world.kind == BOX) | (world.kind == ELLIPSOID)):
            signs = [distance(world, int(i), *p) > 0 for p in inner]
            assert len(set(signs)) == 1  # no surface was crossed on the way


def test_clearance_is_the_least_distance(grey_builder: SceneBuilder) -> None:
    world = _crowd(grey_builder, 70, 5, balls=True)
    points, _ = _rays(100, 6)
    expected = [min(distance(world, i, *p) for i in range(len(world.kind))) for p in points]
    found = clearances(world, points, 1.5)
    expected = np.array(expected)
    outside = expected > 0  # inside several solids, any of them will do
    np.testing.assert_allclose(found[outside], np.minimum(expected, 1.5)[outside], atol=1e-12)
    assert (found[~outside] < 0).all()
    assert 5 < outside.sum() < 100


def test_openings_let_rays_out(grey_builder: SceneBuilder) -> None:
    room = grey_builder.add_room((0.0, 0.0, 1.5), (2.0, 3.0, 1.5), [0] * 6)
    grey_builder.add_opening(room, 1, (-0.5, 0.5, 0.0, 0.5))  # +x: y in ±1.5, z in 1.5 … 2.25
    world = grey_builder.world()
    assert _intersect(world, (0.0, 1.4, 2.0), (1.0, 0.0, 0.0)) == NO_INTERSECTION
    assert _intersect(world, (0.0, 1.6, 2.0), (1.0, 0.0, 0.0)) == 2.0
    assert _intersect(world, (0.0, 1.4, 2.3), (1.0, 0.0, 0.0)) == 2.0
    assert _intersect(world, (0.0, 1.4, 2.0), (-1.0, 0.0, 0.0)) == 2.0


def test_an_empty_place_is_all_sky(grey_builder: SceneBuilder) -> None:
    assert _intersect(grey_builder.world(), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)) == NO_INTERSECTION
