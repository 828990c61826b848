"""Rays through a whole world: closest intersection, occlusion, clearance (compiled).

All three first visit the primitives outside the BVH, then the leaves that the ray (or
ball) reaches. One loop over both keeps a single copy of the inlined intersection code.
"""

from __future__ import annotations

import numpy as np

from splatscenes._compile import inlined, per_ray
from splatscenes.shapes import NO_INTERSECTION, Vector, distance, intersect
from splatscenes.world import FloatArray, IntArray, World

STACK_SIZE = 64


@inlined
def _enters(bounds: FloatArray, node: int, o: Vector, inverse: Vector, limit: float) -> bool:
    ax = (bounds[node, 0] - o[0]) * inverse[0]
    bx = (bounds[node, 3] - o[0]) * inverse[0]
    ay = (bounds[node, 1] - o[1]) * inverse[1]
    by = (bounds[node, 4] - o[1]) * inverse[1]
    az = (bounds[node, 2] - o[2]) * inverse[2]
    bz = (bounds[node, 5] - o[2]) * inverse[2]
    near = max(min(ax, bx), min(ay, by), min(az, bz), 0.0)
    return bool(near <= min(max(ax, bx), max(ay, by), max(az, bz), limit))


@inlined
def _inverse(d: Vector) -> Vector:
    # A component of exactly zero would give 0 × ∞ = NaN at a node's face.
    x = d[0] if abs(d[0]) > 1e-12 else 1e-12
    y = d[1] if abs(d[1]) > 1e-12 else 1e-12
    z = d[2] if abs(d[2]) > 1e-12 else 1e-12
    return 1 / x, 1 / y, 1 / z


@inlined
def closest(world: World, o: Vector, d: Vector, guess: int, stack: IntArray) -> tuple[float, int]:
    """Closest intersection along a ray: distance in lengths of `d`, and primitive (−1: none).

    `guess` is the primitive of the previous ray. It is tested first, to skip what is behind it.
    """
    best, primitive = NO_INTERSECTION, -1
    if guess >= 0:
        best = intersect(world, guess, o, d)
        primitive = guess if best < NO_INTERSECTION else -1
    start, end = world.num_in_tree, world.kind.shape[0]
    inverse = _inverse(d)
    stack[0] = 0
    depth = 1 if world.nodes.shape[0] > 0 else 0
    while True:
        for i in range(start, end):
            t = intersect(world, i, o, d)
            if t < best:
                best, primitive = t, i
        start, end = 0, 0
        while depth > 0 and end == 0:
            depth -= 1
            node = stack[depth]
            if not _enters(world.bounds, node, o, inverse, best):
                continue
            if world.nodes[node, 1] > 0:
                start = world.nodes[node, 0]
                end = start + world.nodes[node, 1]
                continue
            first, second = node + 1, world.nodes[node, 0]
            axis = world.nodes[node, 2]
            if (d[0] if axis == 0 else d[1] if axis == 1 else d[2]) < 0:
                first, second = second, first
            stack[depth] = second
            stack[depth + 1] = first
            depth += 2
        if end == 0:
            return best, primitive


@inlined
def blocker(world: World, o: Vector, d: Vector, limit: float, guess: int, stack: IntArray) -> int:
    """Any primitive between a point and a light, −1 if there is none.

    Args:
        world: the world.
        o: start, just off its surface.
        d: direction to the light.
        limit: distance to the light in lengths of `d`.
        guess: blocker of the previous ray, tested first: neighbours share their shadows.
        stack: working memory.
    """
    start, end = world.num_in_tree, world.kind.shape[0]
    inverse = _inverse(d)
    stack[0] = 0
    depth = 1 if world.nodes.shape[0] > 0 else 0
    again = guess >= 0
    if again:
        start, end = guess, guess + 1
    while True:
        for i in range(start, end):
            if intersect(world, i, o, d) < limit:
                return i
        if again:
            again = False
            start, end = world.num_in_tree, world.kind.shape[0]
            continue
        start, end = 0, 0
        while depth > 0 and end == 0:
            depth -= 1
            node = stack[depth]
            if not _enters(world.bounds, node, o, inverse, limit):
                continue
            if world.nodes[node, 1] > 0:
                start = world.nodes[node, 0]
                end = start + world.nodes[node, 1]
                continue
            stack[depth] = world.nodes[node, 0]
            stack[depth + 1] = node + 1
            depth += 2
        if end == 0:
            return -1


@inlined
def clearance(world: World, x: float, y: float, z: float, limit: float, stack: IntArray) -> float:
    """Distance from a point to the nearest surface, at most `limit`; negative inside a solid."""
    best = limit
    start, end = world.num_in_tree, world.kind.shape[0]
    stack[0] = 0
    depth = 1 if world.nodes.shape[0] > 0 else 0
    while True:
        for i in range(start, end):
            best = min(best, distance(world, i, x, y, z))
        start, end = 0, 0
        while depth > 0 and end == 0:
            depth -= 1
            node = stack[depth]
            dx = max(world.bounds[node, 0] - x, x - world.bounds[node, 3], 0.0)
            dy = max(world.bounds[node, 1] - y, y - world.bounds[node, 4], 0.0)
            dz = max(world.bounds[node, 2] - z, z - world.bounds[node, 5], 0.0)
            if dx * dx + dy * dy + dz * dz > max(best, 0.0) ** 2:
                continue
            if world.nodes[node, 1] > 0:
                start = world.nodes[node, 0]
                end = start + world.nodes[node, 1]
                continue
            stack[depth] = world.nodes[node, 0]
            stack[depth + 1] = node + 1
            depth += 2
        if end == 0:
            return best


def new_stack() -> IntArray:
    """Traversal stack for one ray at a time."""
    return np.empty(STACK_SIZE, dtype=np.int32)


@per_ray
def _clearances(
    world: World, points: FloatArray, limit: float, stack: IntArray, out: FloatArray
) -> None:
    for k in range(points.shape[0]):
        out[k] = clearance(world, points[k, 0], points[k, 1], points[k, 2], limit, stack)


def clearances(world: World, points: FloatArray, limit: float) -> FloatArray:
    """Distance from points (N, 3) to the nearest surface, at most `limit`; negative inside."""
    out = np.empty(len(points))
    _clearances(world, np.ascontiguousarray(points), limit, new_stack(), out)
    return out
