"""Resize and crop stored images to the training size, and update their cameras.

The rules are those of the released ZipSplat data pipeline: resize to cover the target,
sides rounded to even numbers, then centre crops to the aspect ratio and to multiples of a patch.
Only pixels that survive the crops are resized.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets.frames import Frame, Indices, Pixels


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int

    def inner(self, top: int, left: int, height: int, width: int) -> Box:
        """A rectangle with coordinates relative to this one."""
        return Box(self.top + top, self.left + left, height, width)

    def centred(self, height: int, width: int) -> Box:
        """The rectangle of the given size in the middle; odd remainders go right and down."""
        return self.inner((self.height - height) // 2, (self.width - width) // 2, height, width)


class _Window(NamedTuple):
    """One axis of a resize that skips what will be cropped."""

    begin: int
    end: int
    skip: int


@dataclass(frozen=True)
class Geometry:
    """Mapping between pixels of a stored image and of the result.

    Attributes:
        source: height and width of the stored image.
        resized: height and width after resizing, before cropping.
        box: the part of the resized image that is kept.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    box: Box

    @cached_property
    def transform(self) -> npt.NDArray[np.float64]:
        """(3, 3) maps homogeneous stored pixel coordinates to those of the result."""
        (height, width), (new_height, new_width) = self.source, self.resized
        T = np.diag([new_width / width, new_height / height, 1.0])
        T[0, 2], T[1, 2] = -self.box.left, -self.box.top
        return T

    def camera(self, row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Camera rows (..., 6) w, h, fx, fy, cx, cy of the result."""
        factor, shift = self._camera_change
        return (row * factor + shift).astype(np.float32)

    @cached_property
    def _camera_change(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Factor and offset of camera rows; the size is set separately."""
        T = self.transform
        factor = np.array([0.0, 0.0, T[0, 0], T[1, 1], T[0, 0], T[1, 1]])
        shift = np.array([self.box.width, self.box.height, 0.0, 0.0, T[0, 2], T[1, 2]])
        return factor, shift

    @cached_property
    def nearest(self) -> tuple[Indices, Indices]:
        """Stored rows and columns that nearest-neighbour resizing picks for the result."""
        return (
            _nearest(self.source[0], self.resized[0], self.box.top, self.box.height),
            _nearest(self.source[1], self.resized[1], self.box.left, self.box.width),
        )

    @cached_property
    def windows(self) -> tuple[_Window, _Window]:
        """Stored rows and columns that bilinear resizing needs for the result."""
        return (
            _window(self.source[0], self.resized[0], self.box.top, self.box.height),
            _window(self.source[1], self.resized[1], self.box.left, self.box.width),
        )


def plan(size: tuple[int, int], aspect: float, config: PreprocessingConfig) -> Geometry:
    """Sizes and crops for a stored image.

    Args:
        size: height and width of the stored image, pixels.
        aspect: width / height of the result.
        config: target size and multiples.

    Raises:
        ValueError: if the crop would be empty.
    """
    return _plan(size, aspect, config.resize, config.edge_divisible_by)


@lru_cache(maxsize=256)
def _plan(size: tuple[int, int], aspect: float, resize: int | None, step: int | None) -> Geometry:
    resized = size
    if resize is not None:
        resized = cover(size, _target(resize, aspect))
    box = _crop_to_aspect(Box(0, 0, *resized), aspect)
    if step is not None:
        box = box.centred(box.height // step * step, box.width // step * step)
    if box.height < 1 or box.width < 1:
        raise ValueError(
            f"an image of {size} pixels leaves nothing with preprocessing.resize={resize}"
            f" and preprocessing.edge_divisible_by={step}"
        )
    return Geometry(size, resized, box)


def cover(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The smallest even size of nearly the same aspect ratio that covers a target size."""
    scale = max(target[0] / size[0], target[1] / size[1])
    return even(size[0] * scale), even(size[1] * scale)


def even(value: float) -> int:
    """The nearest even number; ties go to multiples of four."""
    return 2 * round(value / 2)


def apply(frame: Frame, geometry: Geometry, method: str) -> Pixels:
    """Resize and crop an image.

    Returns:
        (h, w, 3) uint8.
    """
    if geometry.resized == geometry.source:
        top, left, height, width = geometry.box
        return frame.crop(top, left, top + height, left + width)
    if method == "torch_bilinear_aa":
        return _bilinear(frame, geometry)
    pixels = frame.crop(0, 0, *geometry.source)
    height, width = geometry.resized
    if method == "pil_lanczos":
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
        resized = np.asarray(image)
    else:
        resized = _area(pixels, height, width)
    box = geometry.box
    return resized[box.top : box.top + box.height, box.left : box.left + box.width]


def _target(resize: int, aspect: float) -> tuple[int, int]:
    if aspect >= 1:
        return round(resize / aspect), resize
    return resize, round(resize * aspect)


def _crop_to_aspect(box: Box, aspect: float) -> Box:
    width = even(box.height * aspect)
    if width <= box.width:
        return box.centred(box.height, width)
    return box.centred(even(box.width / aspect), box.width)


def _nearest(source: int, resized: int, start: int, count: int) -> Indices:
    # The order of the two divisions matters at exact ratios; this is OpenCV's.
    step = 1.0 / (resized / source)
    picked: Indices = np.floor(np.arange(start, start + count) * step).astype(np.int64)
    return picked.clip(max=source - 1)


def _window(source: int, resized: int, start: int, count: int) -> _Window:
    """Stored pixels that influence `count` resized ones from `start` on.

    The window starts where a stored and a resized pixel border coincide, so resizing it gives
    the same pixels as resizing everything; the first `skip` of them are dropped.
    """
    # Half the filter width in resized pixels, plus one for rounding.
    support = math.ceil(max(1.0, resized / source)) + 1
    period = resized // math.gcd(source, resized)
    aligned = max(0, start - support) // period * period
    last = min(resized, start + count + support)
    end = min(source, math.ceil(last * source / resized) + 1)
    begin = aligned * source // resized
    if (end - begin) * resized // source == end - begin and resized != source:
        return _Window(0, source, start)  # PyTorch just copies if sizes are equal
    return _Window(begin, end, start - aligned)


def _bilinear(frame: Frame, geometry: Geometry) -> Pixels:
    """Antialiased bilinear resizing of only the kept part."""
    (height, width), (new_height, new_width), box = geometry.source, geometry.resized, geometry.box
    rows, columns = geometry.windows
    pixels = frame.crop(rows.begin, columns.begin, rows.end, columns.end)
    # A uint8 tensor with channels-last strides, including the batch stride, takes PyTorch's
    # vectorised path without repacking.
    image = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    # PyTorch rounds the size down, so 52/23 · 23 must not become 51.999.
    nudge = 1 + 1e-9
    resized = functional.interpolate(
        image,
        scale_factor=(new_height / height * nudge, new_width / width * nudge),
        mode="bilinear",
        antialias=True,
        recompute_scale_factor=False,
    )
    resized = resized[0].permute(1, 2, 0)
    kept = resized[rows.skip : rows.skip + box.height, columns.skip : columns.skip + box.width]
    assert kept.shape[:2] == (box.height, box.width), f"window of {geometry}"
    result: Pixels = kept.numpy()
    return result


def _area(pixels: Pixels, height: int, width: int) -> Pixels:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "resize_method cv2_inter_area needs OpenCV: pip install opencv-python-headless"
        ) from error
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
