"""Bounding-volume hierarchy (BVH) over the primitives of a world (compiled).

Binned surface-area heuristic (Wald 2007), nodes in depth-first order.
"""

from __future__ import annotations

import numpy as np

from splatscenes._compile import kernel
from splatscenes.world import FloatArray, IntArray

_BINS = 12  # 8 to 16 are usual; more cost build time for little
_LEAF = 1  # primitives per leaf; on generated worlds, 2 to 4 measured the same


@kernel
def _half_area(box: FloatArray) -> float:
    x, y, z = box[3] - box[0], box[4] - box[1], box[5] - box[2]
    return float(x * y + y * z + z * x)


@kernel
def _grow(box: FloatArray, other: FloatArray) -> None:
    for axis in range(3):
        box[axis] = min(box[axis], other[axis])
        box[3 + axis] = max(box[3 + axis], other[3 + axis])


@kernel
def _empty_box() -> FloatArray:
    box = np.empty(6)
    box[:3] = np.inf
    box[3:] = -np.inf
    return box


@kernel
def _best_split(
    boxes: FloatArray, order: IntArray, start: int, end: int, axis: int, low: float, high: float
) -> tuple[float, float]:
    counts = np.zeros(_BINS, dtype=np.int64)
    bins = np.empty((_BINS, 6))
    for b in range(_BINS):
        bins[b] = _empty_box()
    scale = _BINS / (high - low)
    for i in range(start, end):
        box = boxes[order[i]]
        b = min(int((0.5 * (box[axis] + box[3 + axis]) - low) * scale), _BINS - 1)
        counts[b] += 1
        _grow(bins[b], box)
    right = np.empty(_BINS)
    box, count = _empty_box(), 0
    for b in range(_BINS - 1, 0, -1):
        count += counts[b]
        _grow(box, bins[b])
        right[b] = count * _half_area(box) if count > 0 else np.inf
    box, count = _empty_box(), 0
    best, position = np.inf, low
    for b in range(_BINS - 1):
        count += counts[b]
        _grow(box, bins[b])
        cost = count * _half_area(box) + right[b + 1] if count > 0 else np.inf
        if cost < best:
            best, position = cost, low + (b + 1) / scale
    return best, position


@kernel
def _partition(
    boxes: FloatArray, order: IntArray, start: int, end: int, axis: int, position: float
) -> int:
    middle = start
    for i in range(start, end):
        box = boxes[order[i]]
        if 0.5 * (box[axis] + box[3 + axis]) < position:
            order[i], order[middle] = order[middle], order[i]
            middle += 1
    return middle


@kernel
def _divide(boxes: FloatArray, order: IntArray, start: int, end: int) -> tuple[int, int]:
    spread = _empty_box()
    for i in range(start, end):
        box = boxes[order[i]]
        for axis in range(3):
            center = 0.5 * (box[axis] + box[3 + axis])
            spread[axis] = min(spread[axis], center)
            spread[3 + axis] = max(spread[3 + axis], center)
    best, best_axis, best_position = np.inf, -1, 0.0
    for axis in range(3):
        low, high = spread[axis], spread[3 + axis]
        if high - low > 1e-9:
            cost, position = _best_split(boxes, order, start, end, axis, low, high)
            if cost < best:
                best, best_axis, best_position = cost, axis, position
    if best_axis < 0:
        return 0, (start + end) // 2
    middle = _partition(boxes, order, start, end, best_axis, best_position)
    if middle in (start, end):
        middle = (start + end) // 2
    return best_axis, middle


@kernel
def _build(boxes: FloatArray, order: IntArray, bounds: FloatArray, nodes: IntArray) -> int:
    used = 0
    todo = [(0, boxes.shape[0], -1)]
    while len(todo) > 0:
        start, end, parent = todo.pop()
        node = used
        used += 1
        if parent >= 0:
            nodes[parent, 0] = node
        box = _empty_box()
        for i in range(start, end):
            _grow(box, boxes[order[i]])
        bounds[node] = box
        if end - start <= _LEAF:
            nodes[node, 0], nodes[node, 1] = start, end - start
            continue
        axis, middle = _divide(boxes, order, start, end)
        nodes[node, 1], nodes[node, 2] = 0, axis
        todo.append((middle, end, node))  # the second child writes its index into its parent
        todo.append((start, middle, -1))
    return used


def build_tree(boxes: FloatArray) -> tuple[IntArray, FloatArray, IntArray]:
    """Build a BVH.

    Args:
        boxes: (P, 6) low and high corner of each primitive.

    Returns:
        Order of the primitives (P,), node bounds (N, 6) and nodes (N, 3) as in `World`.
    """
    order = np.arange(len(boxes), dtype=np.int32)
    bounds = np.zeros((max(2 * len(boxes), 1), 6))
    nodes = np.zeros((len(bounds), 3), dtype=np.int32)
    used = _build(boxes, order, bounds, nodes) if len(boxes) else 0
    return order, bounds[:used].copy(), nodes[:used].copy()
