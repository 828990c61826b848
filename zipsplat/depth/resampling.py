"""Pictures to the size that Depth Anything 3 expects, by area means or cubic interpolation.

The rules are those of its published preparation: the longer side becomes a given length, then each
side the nearest multiple of the patch size; shrinking takes the mean over the area of each new
pixel, growing a cubic kernel (a = −0.75), as OpenCV's `INTER_AREA` and `INTER_CUBIC` do. Both are
computed in float64 here and in float32 there, so that one pixel in thousands is a grey level off.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

CUBIC_SHARPNESS = -0.75


def scaled_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """(height, width) of a picture whose longer side becomes `long_side` pixels."""
    factor = long_side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def nearest_multiple(side: int, multiple: int) -> int:
    """The multiple that is nearest to a side in pixels, the larger one of two; at least one."""
    return max(1, (side + multiple // 2) // multiple) * multiple


def resample(picture: Pixels, height: int, width: int) -> Pixels:
    """A picture (H, W, 3) at another size; cubic if a side grows, else by area means."""
    if picture.shape[:2] == (height, width):
        return picture
    if height > picture.shape[0] or width > picture.shape[1]:
        return _cubic(picture, height, width)
    return _area(picture, height, width)


def _area(picture: Pixels, height: int, width: int) -> Pixels:
    means = _area_along(_area_along(picture.astype(np.float64), height).swapaxes(0, 1), width)
    means = means.swapaxes(0, 1)
    # OpenCV averages 2×2 pixels in integers, which rounds halves up; otherwise they go to even.
    is_half = picture.shape[0] == 2 * height and picture.shape[1] == 2 * width
    rounded = np.floor(means + 0.5) if is_half else np.rint(means)
    result: Pixels = rounded.astype(np.uint8)
    return result


def _area_along(values: Floats, count: int) -> Floats:
    """Means over `count` equal stretches of the first axis, by differences of a running sum."""
    length = len(values)
    sums = np.concatenate((np.zeros_like(values[:1]), np.cumsum(values, axis=0)))
    edges = np.arange(count + 1) * (length / count)
    whole = np.minimum(edges.astype(np.int64), length - 1)
    rest = (edges - whole).reshape(-1, *(1,) * (values.ndim - 1))
    at_edges = sums[whole] + rest * values[whole]
    means: Floats = np.diff(at_edges, axis=0) * (count / length)
    return means


def _cubic(picture: Pixels, height: int, width: int) -> Pixels:
    wide = _cubic_along(picture.astype(np.float64).swapaxes(0, 1), width).swapaxes(0, 1)
    return np.clip(np.rint(_cubic_along(wide, height)), 0, 255).astype(np.uint8)


def _cubic_along(values: Floats, count: int) -> Floats:
    """Values at `count` places along the first axis, from four neighbours each."""
    length = len(values)
    if length == count:
        return values
    places = (np.arange(count) + 0.5) * (length / count) - 0.5
    first = np.floor(places).astype(np.int64)
    weights = _cubic_weights(places - first)
    total = np.zeros((count, *values.shape[1:]))
    for tap in range(4):
        source = np.clip(first + tap - 1, 0, length - 1)
        total += values[source] * weights[tap].reshape(-1, *(1,) * (values.ndim - 1))
    return total


def _cubic_weights(x: Floats) -> Floats:
    """Weights (4, n) of the neighbours at −1, 0, 1 and 2 for offsets x in [0, 1)."""
    a = CUBIC_SHARPNESS

    def near(d: Floats) -> Floats:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    d = x + 1
    before = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    weights = np.stack((before, near(x), near(1 - x)))
    complete: Floats = np.concatenate((weights, 1 - weights.sum(axis=0, keepdims=True)))
    return complete
