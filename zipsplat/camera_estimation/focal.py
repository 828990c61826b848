"""Known focal lengths of photos: from EXIF, or given by the user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

_EXIF_BLOCK = 0x8769
_FOCAL_35MM = 0xA405
_FILM_WIDTH_MM = 36.0


@dataclass(frozen=True)
class Focal:
    """A focal length.

    Attributes:
        factor: multiple of the picture's longer side, None if nothing is known.
        is_certain: whether it stays fixed.
    """

    factor: float | None = None
    is_certain: bool = False

    @staticmethod
    def on_film(length_mm: float) -> Focal:
        """The focal length in terms of 35 mm film, as cameras are sold.

        Raises:
            ValueError: if it is not between 5 and 2000 mm.
        """
        if not 5 <= length_mm <= 2000:
            raise ValueError(
                f"the focal length on 35 mm film must be between 5 and 2000 mm, got {length_mm}"
            )
        return Focal(length_mm / _FILM_WIDTH_MM, is_certain=True)


def noted_focal(photo: Path) -> Focal:
    """Focal length from the EXIF data of a photo; unknown if there is none.

    It comes from the tag `FocalLengthIn35mmFilm` (EXIF 2.32), whose film is 36 mm wide.
    """
    try:
        with Image.open(photo) as picture:
            value = picture.getexif().get_ifd(_EXIF_BLOCK).get(_FOCAL_35MM)
            length = float(value) if value else 0.0
    except (OSError, ValueError, TypeError, Image.DecompressionBombError):
        return Focal()
    return Focal(length / _FILM_WIDTH_MM) if 5 <= length <= 2000 else Focal()
