"""Resize images as Depth Anything 3 does, by area averaging or bicubic interpolation.

The rules are those of its published preparation: the longer side becomes a given length, then each
side the nearest multiple of the patch size; shrinking takes the mean over the area of each new
pixel, growing a cubic kernel (a = −0.75), as OpenCV's `INTER_AREA` and `INTER_CUBIC` do for 8-bit
images. Means are computed in OpenCV's own order and are equal bit for bit. Cubic interpolation is
OpenCV's where that is installed; elsewhere one value in tens of thousands is off by one grey level.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]

CUBIC_SHARPNESS = -0.75
SLIVER = 1e-3
"""Smallest share of a pixel that counts in a mean, as in OpenCV."""


def scaled_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """(height, width) of an image whose longer side becomes `long_side` pixels."""
    factor = long_side / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def nearest_multiple(side: int, multiple: int) -> int:
    """The multiple nearest to a side in pixels, the larger one in a tie; at least one multiple."""
    return max(1, (side + multiple // 2) // multiple) * multiple


def resample(image: Pixels, height: int, width: int) -> Pixels:
    """An image (H, W, 3) at another size; cubic if a side grows, else by area means."""
    if image.shape[:2] == (height, width):
        return image
    if height > image.shape[0] or width > image.shape[1]:
        return _cubic(image, height, width)
    return _area(image, height, width)


def _area(image: Pixels, height: int, width: int) -> Pixels:
    rows, columns = image.shape[0] / height, image.shape[1] / width
    if rows.is_integer() and columns.is_integer():
        return _blocks(image, int(rows), int(columns))
    wide = _area_along(image.astype(np.float32).swapaxes(0, 1), width).swapaxes(0, 1)
    result: Pixels = np.rint(_area_along(wide, height)).clip(0, 255).astype(np.uint8)
    return result


def _blocks(image: Pixels, rows: int, columns: int) -> Pixels:
    """Means of whole blocks; those of four pixels round halves up, the others to even."""
    height, width = image.shape[0] // rows, image.shape[1] // columns
    blocks = image.reshape(height, rows, width, columns, 3).astype(np.int64).sum(axis=(1, 3))
    if rows == columns == 2:
        halves_up: Pixels = ((blocks + 2) >> 2).astype(np.uint8)
        return halves_up
    means = blocks.astype(np.float32) * np.float32(1 / (rows * columns))
    result: Pixels = np.rint(means).astype(np.uint8)
    return result


def _area_along(values: Floats, count: int) -> Floats:
    """Means over `count` equal stretches of the first axis, summed from the first pixel on."""
    sources, weights = _area_taps(len(values), count)
    means = np.zeros((count, *values.shape[1:]), np.float32)
    for source, weight in zip(sources.T, weights.T, strict=True):
        means += values[source] * weight.reshape(-1, *(1,) * (values.ndim - 1))
    return means


def _area_taps(length: int, count: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """Pixels (count, k) that each stretch covers, and their shares of it; unused shares are 0."""
    scale = length / count
    begin = np.arange(count) * scale
    end = begin + scale
    extent = np.minimum(scale, length - begin)
    last = np.minimum(np.floor(end).astype(np.int64), length - 1)
    first = np.minimum(np.ceil(begin).astype(np.int64), last)
    sources = (first - 1)[:, None] + np.arange((last - first).max() + 2)
    head, tail = first - begin, np.minimum(end - last, 1)
    shares = np.where(sources < last[:, None], 1 / extent[:, None], 0.0)
    shares[:, 0] = np.where(head > SLIVER, head / extent, 0)
    at_tail = sources == last[:, None]
    share = np.where(end - last > SLIVER, np.minimum(tail, extent) / extent, 0)
    shares = np.where(at_tail, share[:, None], shares)
    return sources.clip(0, length - 1), shares.astype(np.float32)


def _cubic(image: Pixels, height: int, width: int) -> Pixels:
    cv2 = _opencv()
    if cv2 is not None:
        grown: Pixels = cv2.resize(
            np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_CUBIC
        )
        return grown
    return _cubic_by_numpy(image, height, width)


@cache
def _opencv() -> Any:
    """OpenCV, or None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def _cubic_by_numpy(image: Pixels, height: int, width: int) -> Pixels:
    wide = _cubic_along(image.astype(np.float64).swapaxes(0, 1), width).swapaxes(0, 1)
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
