"""Known focal lengths of photos: from EXIF, or given by the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_EXIF_BLOCK = 0x8769
_FOCAL_35MM = 0xA405
_FULL_FRAME_WIDTH_MM = 36.0


@dataclass(frozen=True)
class Focal:
    """A focal length.

    Attributes:
        factor: multiple of the image's longer side, None if unknown.
        is_certain: whether it is kept fixed.
    """

    factor: float | None = None
    is_certain: bool = False

    @staticmethod
    def from_35mm(length_mm: float) -> Focal:
        """The 35 mm equivalent focal length, as printed on cameras.

        Raises:
            ValueError: if it is not between 5 and 2000 mm.
        """
        if not 5 <= length_mm <= 2000:
            raise ValueError(
                f"the 35 mm equivalent focal length must be between 5 and 2000 mm, got {length_mm}"
            )
        return Focal(length_mm / _FULL_FRAME_WIDTH_MM, is_certain=True)


def noted_focal(photo: Path) -> Focal:
    """Focal length from the EXIF data of a photo, if it has any.

    The tag is `FocalLengthIn35mmFilm` (EXIF 2.32), which refers to a frame 36 mm wide.
    """
    try:
        with Image.open(photo) as image:
            value = image.getexif().get_ifd(_EXIF_BLOCK).get(_FOCAL_35MM)
            length = float(value) if value else 0.0
    except (OSError, ValueError, TypeError, Image.DecompressionBombError):
        return Focal()
    return Focal(length / _FULL_FRAME_WIDTH_MM) if 5 <= length <= 2000 else Focal()
