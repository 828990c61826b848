"""One image with its depth map, decoded lazily."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import UnidentifiedImageError

from splatfactory.datasets import depth_codec
from splatfactory.datasets.depth_codec import EncodedDepth

Pixels = npt.NDArray[np.uint8]
FloatMap = npt.NDArray[np.float32]
BoolMap = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

_FORMATS = ("JPEG", "PNG", "WEBP")


MAX_DEPTH_RATIO = 1e6
"""Largest far / near of a map; beyond it, one step of the codec exceeds 5.6 %."""


class Frame(Protocol):
    """An image of a scene, from any source."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, pixels."""

    def crop(self, top: int, left: int, bottom: int, right: int) -> Pixels:
        """The pixels (h, w, 3) of a rectangle."""

    def sample_depth(self, rows: Indices, columns: Indices) -> FloatMap | None:
        """Depth (len(rows), len(columns)) at integer pixels, −1 if unknown; None without depth."""

    def sample_mask(self, rows: Indices, columns: Indices) -> BoolMap | None:
        """Mask (len(rows), len(columns)) of the pixels losses use; None for all."""


class FrameError(ValueError):
    """A stored image or depth map that cannot be decoded."""


@dataclass
class EncodedFrame:
    """A frame as shards store it; decoded at first use.

    Args:
        data: JPEG, PNG or WebP bytes.
        depth: the depth map, if any.
    """

    data: bytes
    depth: EncodedDepth | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, pixels.

        Raises:
            FrameError: if the bytes are damaged.
        """
        height, width = self._pixels.shape[:2]
        return height, width

    def crop(self, top: int, left: int, bottom: int, right: int) -> Pixels:
        """The pixels (h, w, 3) of a rectangle; grey and transparent images become RGB.

        Raises:
            FrameError: if the bytes are damaged.
        """
        return self._pixels[top:bottom, left:right]

    @cached_property
    def _pixels(self) -> Pixels:
        try:
            return decode_pixels(self.data)
        except (OSError, ValueError, SyntaxError) as error:
            raise FrameError(f"the image cannot be decoded: {_cause(error)}") from error

    def sample_depth(self, rows: Indices, columns: Indices) -> FloatMap | None:
        """Depth (len(rows), len(columns)) at integer pixels, −1 where unknown; None without depth.

        Raises:
            FrameError: if the bytes are damaged, the map is smaller than the image, or its range
                is implausible.
        """
        if self.depth is None:
            return None
        _check_range(self.depth)
        try:
            return depth_codec.sample(self.depth, self.size, rows, columns)
        except (OSError, ValueError, SyntaxError) as error:
            raise FrameError(f"the depth map cannot be decoded: {_cause(error)}") from error

    def sample_mask(self, rows: Indices, columns: Indices) -> BoolMap | None:
        """Where the image is opaque, at integer pixels (len(rows), len(columns)).

        Returns:
            None for images without transparency and for formats other than WebP, in which
            `custom.convert` stores masks.

        Raises:
            FrameError: if the bytes are damaged.
        """
        if not _has_alpha(self.data):
            return None
        try:
            with depth_codec.open_image(self.data, ("WEBP",)) as image:
                alpha = np.asarray(image.getchannel("A"))
        except (OSError, ValueError, SyntaxError) as error:
            raise FrameError(f"the image cannot be decoded: {_cause(error)}") from error
        opaque: BoolMap = alpha[rows[:, None], columns] > 127
        return opaque


def _has_alpha(data: bytes) -> bool:
    """Whether a WebP image has an alpha channel, by the flags of its header.

    Source: https://developers.google.com/speed/webp/docs/riff_container
    """
    if data[8:12] != b"WEBP" or len(data) < 25:
        return False
    is_extended, is_lossless = data[12:16] == b"VP8X", data[12:16] == b"VP8L"
    return (is_extended and bool(data[20] & 0x10)) or (is_lossless and bool(data[24] & 0x10))


def _check_range(depth: EncodedDepth) -> None:
    near, far = depth.near, depth.far
    is_empty = near == 0 and far == 0
    if not (is_empty or 0 < near <= far <= MAX_DEPTH_RATIO * near):  # NaN fails too
        raise FrameError(f"the depth map reaches from {near:g} to {far:g}")


def _cause(error: Exception) -> str:
    """The cause of an error; Pillow's message for unknown formats only names a Python object."""
    if isinstance(error, UnidentifiedImageError):
        return "its format is unknown"
    return str(error)


def decode_pixels(data: bytes) -> Pixels:
    """The pixels (H, W, 3) of a JPEG, PNG or WebP image as stored, ignoring EXIF orientation.

    OpenCV, if installed, decodes JPEG and WebP: it uses the same libraries, but Pillow copies
    the image three times on its way to NumPy (0.2 of 0.9 ms for a JPEG of 640×360).

    Raises:
        OSError: if the bytes are not such an image, or are truncated.
    """
    # OpenCV fills a JPEG without end marker with grey; Pillow reports the truncation.
    is_whole_jpeg = data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")
    if is_whole_jpeg or data.startswith(b"RIFF"):
        cv2 = depth_codec.opencv()
        if cv2 is not None and hasattr(cv2, "IMREAD_COLOR_RGB"):
            flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
            pixels = depth_codec.by_opencv(cv2, data, flags)
            if pixels is not None:
                return pixels
    with depth_codec.open_image(data, _FORMATS) as image:
        return np.array(image.convert("RGB"))


@dataclass(frozen=True)
class ArrayFrame:
    """A frame in memory.

    Attributes:
        pixels: (H, W, 3).
        depth: (H, W) z depth, ≤ 0 where unknown; or None.
    """

    pixels: Pixels
    depth: FloatMap | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, pixels."""
        height, width = self.pixels.shape[:2]
        return height, width

    def crop(self, top: int, left: int, bottom: int, right: int) -> Pixels:
        """The pixels (h, w, 3) of a rectangle."""
        return self.pixels[top:bottom, left:right]

    def sample_depth(self, rows: Indices, columns: Indices) -> FloatMap | None:
        """Depth (len(rows), len(columns)) at integer pixels, −1 if unknown; None without depth."""
        if self.depth is None:
            return None
        depth = self.depth[rows[:, None], columns]
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(depth_codec.INVALID))

    def sample_mask(self, rows: Indices, columns: Indices) -> BoolMap | None:
        """None: all pixels count."""
        del rows, columns
        return None
