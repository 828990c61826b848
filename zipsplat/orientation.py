"""Rotation and mirroring of a video's frames: the display matrix of its container.

Source: ISO/IEC 14496-12, the matrix {a, b, u, c, d, v, x, y, w} of a track: a pixel (p, q) is shown
at (a·p + c·q + x, b·p + d·q + y).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MATRIX = struct.Struct("<9i")


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations of an image.

    Args:
        is_swapped: whether rows and columns are swapped, before any flip.
        flips_x: whether left and right are swapped.
        flips_y: whether top and bottom are swapped.
    """

    is_swapped: bool = False
    flips_x: bool = False
    flips_y: bool = False

    @classmethod
    def from_matrix(cls, data: bytes) -> Orientation:
        """The orientation nearest to a display matrix in FFmpeg's form: nine 32-bit numbers."""
        a, b, _, c, d, *_ = _MATRIX.unpack(data[: _MATRIX.size])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def is_mirrored(self) -> bool:
        """Whether the image is mirrored, whatever its rotation."""
        return self.is_swapped ^ self.flips_x ^ self.flips_y

    @property
    def turn_deg(self) -> int:
        """Anticlockwise rotation, 0 to 270 degrees; applied after the mirroring, if any."""
        if not self.is_swapped:
            return 180 if self.flips_y else 0
        return 90 if self.flips_y != self.is_mirrored else 270

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W, 3) as displayed."""
        if self.is_swapped:
            pixels = pixels.transpose(1, 0, 2)
        if self.flips_x:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels[::-1] if self.flips_y else pixels)
