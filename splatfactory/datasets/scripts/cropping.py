"""Crops and resizes of the converters, which update the camera along with the pixels.

The rules are those of the released ZipSplat converters: crop to the largest part centred on the
optical axis, enlarge it to cover the old size, and, for a fixed target size, crop to a square and
resize.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from splatfactory.datasets import resizing
from splatfactory.datasets.frames import ArrayFrame, Pixels
from splatfactory.datasets.resizing import Box, Geometry

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CalibratedImage:
    """An image with its pinhole camera.

    Attributes:
        pixels: (H, W, 3).
        f: (2,) focal lengths, pixels.
        c: (2,) principal point, pixels from the corner of the image.
    """

    pixels: Pixels
    f: FloatArray
    c: FloatArray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.shape[:2]
        return height, width

    @property
    def camera(self) -> npt.NDArray[np.float32]:
        """Camera row (6,): w, h, fx, fy, cx, cy."""
        height, width = self.size
        return np.array([width, height, *self.f, *self.c], dtype=np.float32)

    def encode(self) -> bytes:
        """The pixels as lossless WebP."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "WEBP", lossless=True)
        return buffer.getvalue()

    def cropped(self, box: Box) -> CalibratedImage:
        """Crop the image to a box."""
        return self._moved(Geometry(self.size, self.size, box))

    def resized_to_cover(self, size: tuple[int, int]) -> CalibratedImage:
        """Resize to the smallest even size that covers (height, width)."""
        new = resizing.cover(self.size, size)
        return self._moved(Geometry(self.size, new, Box(0, 0, *new)))

    def _moved(self, geometry: Geometry) -> CalibratedImage:
        pixels = resizing.apply(ArrayFrame(self.pixels), geometry, "torch_bilinear_aa")
        T = geometry.transform
        scale = T[[0, 1], [0, 1]]
        return CalibratedImage(
            np.ascontiguousarray(pixels), self.f * scale, self.c * scale + T[:2, 2]
        )


def centred(image: CalibratedImage) -> CalibratedImage:
    """Crop around the principal point, keeping the aspect ratio, and resize to cover the old size.

    The principal point ends up within a pixel of the centre.
    """
    return _cropped_to_axis(image).resized_to_cover(image.size)


def squared(image: CalibratedImage, side: int) -> CalibratedImage:
    """Crop a centred image to a square and resize it."""
    height, width = image.size
    edge = resizing.even(min(height, width))
    box = Box(0, 0, height, width).centred(min(edge, height), min(edge, width))
    return image.cropped(box).resized_to_cover((side, side))


def framed(image: CalibratedImage, side: int | None) -> CalibratedImage:
    """Centre an image, and make it a square of fixed size if one is given."""
    result = centred(image)
    return result if side is None else squared(result, side)


def _cropped_to_axis(image: CalibratedImage) -> CalibratedImage:
    height, width = image.size
    cx, cy = image.c
    half_width, half_height = min(cx, width - cx), min(cy, height - cy)
    if half_width * height > half_height * width:
        half_width = half_height * width / height
    else:
        half_height = half_width * height / width
    new_width, new_height = 2 * int(half_width), 2 * int(half_height)
    if new_width < 1 or new_height < 1:
        raise ValueError(f"the principal point ({cx:.1f}, {cy:.1f}) is outside the image")
    if (new_height, new_width) == image.size:
        return image
    left, top = int(np.floor(cx - new_width / 2)), int(np.floor(cy - new_height / 2))
    return image.cropped(Box(top, left, new_height, new_width))
