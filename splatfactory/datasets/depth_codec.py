"""Depth maps as 8-bit logarithmic WebP images, as stored in shards."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from splatfactory.datasets import pixel_loops

MAX_PIXELS = 64_000_000
"""Limit on images in shards and archives; twice the pixels of an 8K image."""

INVALID = -1.0
"""Depth of a pixel whose depth is unknown."""

FLAT_RANGE = 1e-6
"""Maps with a smaller log range are stored as one value."""

_STEPS = 254
_POSITIONS = np.arange(-1, 255, dtype=np.float32) / np.float32(_STEPS)
_FLAT_CODE = 128
# In float32, as in the released data: with few pixels, interpolation of quantiles matters.
_QUANTILES = np.array([0.001, 0.999], dtype=np.float32)

FloatMap = npt.NDArray[np.float32]
CodeMap = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class EncodedDepth:
    """One stored depth map.

    Attributes:
        data: Lossless WebP whose channels all hold the codes: 0 for unknown, 1 … 255 from `near`
            to `far` in equal steps of log depth.
        near: Depth of code 1.
        far: Depth of code 255.
    """

    data: bytes
    near: float
    far: float


def quantize(depth: npt.NDArray[Any]) -> tuple[CodeMap, float, float]:
    """Quantize a depth map; returns codes and their range.

    The range runs from the 0.1st to the 99.9th percentile of the known depths; depths outside
    become unknown, as in the released data. Zero, negative and non-finite depths are
    unknown.

    Args:
        depth: (H, W) z depth.

    Returns:
        (H, W) codes, nearest and farthest depth; both 0.0 if no depth is known.
    """
    depth = np.asarray(depth, dtype=np.float32)
    known = np.isfinite(depth) & (depth > 0)
    codes = np.zeros(depth.shape, dtype=np.uint8)
    if not known.any():
        return codes, 0.0, 0.0
    near, far = (float(value) for value in np.quantile(depth[known], _QUANTILES))
    if far - near < FLAT_RANGE:
        codes[known] = _FLAT_CODE
        return codes, near, far
    kept = known & (depth >= near) & (depth <= far)
    position = (np.log(depth[kept]) - math.log(near)) / (math.log(far) - math.log(near))
    codes[kept] = np.clip(np.round(_STEPS * position) + 1, 1, 255).astype(np.uint8)
    return codes, near, far


def encode(depth: npt.NDArray[Any], is_quick: bool = False) -> EncodedDepth:
    """Encode a depth map.

    Args:
        depth: (H, W) z depth; zero, negative and non-finite values count as unknown.
        is_quick: compress about ten times faster, to about twice the size.

    Raises:
        ValueError: if it is not two-dimensional.
    """
    if np.ndim(depth) != 2:
        raise ValueError(f"a depth map must be (H, W), got shape {np.shape(depth)}")
    codes, near, far = quantize(depth)
    buffer = io.BytesIO()
    effort = {"method": 0, "quality": 0} if is_quick else {}
    Image.fromarray(codes).save(buffer, format="WEBP", lossless=True, **effort)
    return EncodedDepth(buffer.getvalue(), near, far)


def lookup_table(near: float, far: float) -> FloatMap:
    """Depth of each of the 256 codes.

    Raises:
        ValueError: if the range is not finite, or not positive unless it is a single value.
    """
    if not (math.isfinite(near) and math.isfinite(far)):
        raise ValueError(f"a depth range must be finite, got [{near}, {far}]")
    if far - near < FLAT_RANGE:
        table = np.full(256, near, dtype=np.float32)
    elif near > 0:
        exponents = np.float32(math.log(near)) + _POSITIONS * np.float32(math.log(far / near))
        table = np.exp(exponents)
    else:
        raise ValueError(f"a depth range must be positive, got [{near}, {far}]")
    table[0] = INVALID
    return table


def decode_codes(data: bytes) -> CodeMap:
    """The codes (H, W) of a stored depth map.

    Raises:
        OSError: if the bytes are not an image.
    """
    # Any channel will do; grey images from other writers have only one.
    return _decode_image(data)[..., 0]


def sample(depth: EncodedDepth, size: tuple[int, int], rows: Indices, columns: Indices) -> FloatMap:
    """Depth (len(rows), len(columns)) at integer pixels, `INVALID` where unknown.

    Args:
        depth: the stored map.
        size: expected height and width.
        rows: integers in [0, height).
        columns: integers in [0, width).

    Raises:
        OSError: if the bytes are not an image.
        ValueError: if the map has another size, or pixels are out of bounds.
    """
    image = _decode_image(depth.data)
    height, width = image.shape[:2]
    if (height, width) != size:
        raise ValueError(f"the map has size {(height, width)}, its image {size}")
    for indices, count in ((rows, height), (columns, width)):
        if indices.size and not 0 <= indices.min() <= indices.max() < count:
            raise ValueError(f"pixels outside a map of size {size}")
    depths = np.empty((rows.size, columns.size), np.float32)
    pixel_loops.look_up(image, lookup_table(depth.near, depth.far), rows, columns, depths)
    return depths


def _decode_image(data: bytes) -> CodeMap:
    """Decode the image (H, W, C) of a depth map, with C equal channels.

    OpenCV, if installed, takes half of Pillow's time. Maps are lossless, so both agree
    exactly.
    """
    cv2 = opencv()
    if cv2 is None:
        return _decode_by_pillow(data)[..., None]
    image = by_opencv(cv2, data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise OSError("the depth map is not an image")
    return image if image.ndim == 3 else image[..., None]


def _decode_by_pillow(data: bytes) -> CodeMap:
    with open_image(data) as image:
        image.load()
        return np.asarray(image if image.mode == "L" else image.getchannel(0))


def by_opencv(cv2: Any, data: bytes, flags: int) -> npt.NDArray[Any] | None:
    """Decode an image with OpenCV; None if that fails."""
    if not data:
        return None
    try:
        pixels: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        return pixels
    except cv2.error:  # e.g. too many pixels
        return None


def open_image(data: bytes, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open an image in memory without decoding it.

    Raises:
        OSError: if it is not an image, or has more than `MAX_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise OSError(str(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise OSError(f"{image.width}×{image.height} pixels exceed the limit of {MAX_PIXELS}")
    return image


@lru_cache(maxsize=1)
def opencv() -> Any:
    """The OpenCV module, or None if not installed."""
    os.environ.setdefault(
        "OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS)
    )  # OpenCV reads it on import
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(0)  # loader processes already use all cores
    return cv2


def decode(depth: EncodedDepth) -> FloatMap:
    """The depth map (H, W) float32, `INVALID` where unknown."""
    return lookup_table(depth.near, depth.far)[decode_codes(depth.data)]
