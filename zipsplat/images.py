"""Still pictures: any common file to an upright RGB tensor, and the resizing networks expect.

A picture is a float32 tensor (3, H, W) with RGB in [0, 1]. `load_image` turns files into that;
`crop_to_ar`, `resize`, `to_square` and `aspect_size` bring it to a network's input size.
Cropping and resampling follow the preparation of the released ZipSplat model: centre crop, then
Pillow's Lanczos filter on 8-bit RGB.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image as PillowImage

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
    *(".heic", ".heif", ".hif", ".jp2", ".ppm", ".pgm", ".tga"),
)

# Decoders that may read a user's file. Pillow knows more, but some of them start other programs
# (EPS runs Ghostscript) and none of those holds a photograph.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "HEIF"),
    *("JPEG2000", "PPM", "TGA"),
)
_ORIENTATION_TAG = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

Background = str | Sequence[float]


class CropBox(NamedTuple):
    """A rectangle of pixels inside a picture: its size, then its top-left corner."""

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class InputSize:
    """How large the pictures are that a network was trained on.

    Args:
        side: in pixels, of a square or, if the shape is kept, of the longer side.
        keeps_shape: whether pictures keep their aspect ratio.
    """

    side: int
    keeps_shape: bool = False

    def of_picture(self, height: int, width: int, multiple: int) -> tuple[int, int]:
        """(height, width) for a picture; sides that keep its shape are rounded to multiples."""
        if not self.keeps_shape:
            return self.side, self.side
        factor = self.side / max(height, width)
        rows, columns = (max(1, round(side * factor / multiple)) for side in (height, width))
        return rows * multiple, columns * multiple


@dataclass(frozen=True)
class ImageInfo:
    """What a picture file says of itself.

    Args:
        format: Pillow's name, as "JPEG".
        mode: Pillow's pixel mode, as "RGB" or "I;16".
        width: in pixels, once upright.
        height: in pixels, once upright.
        orientation: EXIF orientation, 1 (stored upright) to 8.
        num_frames: more than one in animations.
    """

    format: str
    mode: str
    width: int
    height: int
    orientation: int
    num_frames: int


def load_image(
    path: str | Path, *, max_side: int | None = None, background: Background = "white"
) -> Tensor:
    """Load one picture, upright, as RGB.

    The EXIF orientation is applied, transparency is composited on `background`, 16-bit grey is
    scaled (not clipped), palettes, grey, CMYK and animations (first frame) become RGB.

    Args:
        path: a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, JPEG 2000, PPM or TGA file; HEIC needs the
            extra `zipsplat[heic]`. The content decides, not the suffix.
        max_side: the longer side of the result has at most this many pixels. Large JPEGs are then
            decoded at a reduced size (never below twice the target), which is several times
            faster. None returns every pixel.
        background: what shows through transparency: a colour name, "#rrggbb", or RGB in [0, 1].

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, damaged, not a picture, or absurdly large. It names the file.
    """
    path = Path(path)
    if max_side is not None and max_side < 1:
        raise ValueError(f"max_side must be at least 1 pixel, got {max_side}")
    color = background_color(background)
    with _opened(path) as opened:
        picture = _decode(opened, max_side, color)
    pixels = torch.from_numpy(np.array(picture, dtype=np.uint8))
    return pixels.permute(2, 0, 1).contiguous().float() / 255


def image_info(path: str | Path) -> ImageInfo:
    """Look at a picture without decoding all of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a picture.
    """
    path = Path(path)
    with _opened(path) as picture:
        width, height = picture.size
        orientation = int(picture.getexif().get(_ORIENTATION_TAG, 1))
        if orientation in _TURNED:
            width, height = height, width
        return ImageInfo(
            format=picture.format or "unknown",
            mode=picture.mode,
            width=width,
            height=height,
            orientation=orientation,
            num_frames=int(getattr(picture, "n_frames", 1)),
        )


def background_color(background: Background) -> tuple[float, float, float]:
    """RGB in [0, 1] of a colour name, an "#rrggbb" string, or three numbers in [0, 1]."""
    if isinstance(background, str):
        from PIL import ImageColor

        try:
            red, green, blue = ImageColor.getrgb(background)[:3]
        except ValueError:
            raise ValueError(
                f"background must be a colour such as 'white' or '#20a0ff', got {background!r}"
            ) from None
        return red / 255, green / 255, blue / 255
    values = tuple(float(value) for value in background)
    if len(values) != 3 or not all(0 <= value <= 1 for value in values):
        raise ValueError(f"background must be three numbers in [0, 1], got {values}")
    return values


def crop_box(height: int, width: int, aspect: float) -> CropBox:
    """The largest centred rectangle of the given aspect ratio (width / height).

    Rounding as in the released model's preparation: sides to the nearest integer (half to even),
    the corner downwards.
    """
    if height < 1 or width < 1 or not aspect > 0:
        raise ValueError(
            f"need a positive size and aspect ratio, got {height}×{width} and {aspect}"
        )
    new_width = round(height * aspect)
    if new_width <= width:
        new_width = max(1, new_width)
        return CropBox(height, new_width, 0, (width - new_width) // 2)
    new_height = max(1, round(width / aspect))
    return CropBox(new_height, width, (height - new_height) // 2, 0)


def crop_to_ar(image: Tensor, aspect: float) -> Tensor:
    """Centre-crop a picture (..., H, W) to an aspect ratio (width / height)."""
    box = crop_box(image.shape[-2], image.shape[-1], aspect)
    return image[..., box.top : box.top + box.height, box.left : box.left + box.width]


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resample a picture to a size, as the released model's preparation does.

    Values are brought to 8 bits by truncation (exact for pictures that were 8-bit, as nearly all
    are), resampled with Pillow's Lanczos filter and divided by 255. A picture that has the size
    already is returned untouched.

    Args:
        image: (3, H, W), RGB in [0, 1].
        height: of the result, in pixels.
        width: of the result, in pixels.

    Returns:
        (3, height, width) with the dtype and device of `image`.
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise ValueError(
            "a picture is a floating-point tensor (3, H, W) with RGB in [0, 1], got "
            f"{tuple(image.shape)} {image.dtype}"
        )
    if 0 in image.shape or height < 1 or width < 1:
        raise ValueError(f"cannot resize {tuple(image.shape)} to {height}×{width} pixels")
    if image.shape[-2:] == (height, width):
        return image
    from PIL import Image

    levels = (image.detach() * 255).clamp(0, 255).to(torch.uint8)
    picture = Image.fromarray(levels.permute(1, 2, 0).cpu().contiguous().numpy())
    resized = picture.resize((width, height), Image.Resampling.LANCZOS)
    result = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
    return (result.to(torch.float32) / 255).to(device=image.device, dtype=image.dtype)


def to_square(image: Tensor, size: int = 252) -> Tensor:
    """Centre-crop a picture (3, H, W) to a square and resample it to (3, size, size)."""
    return resize(crop_to_ar(image, 1.0), size, size)


def aspect_size(
    height: int, width: int, short_side: int = 252, multiple: int = 14
) -> tuple[int, int]:
    """The network input size that keeps a picture's aspect ratio best.

    Args:
        height: of the picture.
        width: of the picture.
        short_side: wanted length of the shorter side in pixels.
        multiple: both sides are multiples of this (the patch size of the network).

    Returns:
        (height, width), each at least one multiple.
    """
    if min(height, width, short_side, multiple) < 1:
        raise ValueError(
            "sizes must be positive, got "
            f"{height}×{width}, short_side={short_side}, multiple={multiple}"
        )
    scale = short_side / min(height, width)
    rows, columns = (max(1, round(side * scale / multiple)) for side in (height, width))
    return rows * multiple, columns * multiple


def is_image_file(path: Path) -> bool:
    """Whether the suffix is one of a still picture."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def _check_file(path: Path) -> None:
    """Refuse what no decoder needs to see, and register the HEIC decoder if it is wanted."""
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise ValueError(f"{path}: the file is empty")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        _register_heif(path)


def _register_heif(path: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise ValueError(
            f"{path}: reading HEIC needs an extra package; run `pip install 'zipsplat[heic]'`"
        ) from error
    register_heif_opener()


@contextmanager
def _opened(path: Path) -> Iterator[PillowImage.Image]:
    """Open a picture; whatever its decoder objects to in the block names the file."""
    from PIL import Image

    _check_file(path)
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]
    with warnings.catch_warnings():
        # Pillow warns from half its size limit on; big phone pictures are there and are fine.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        # Notes on odd metadata concern the file, not the pixels.
        warnings.simplefilter("ignore", UserWarning)
        try:
            with Image.open(path, formats=known) as opened:
                yield opened
        except (MemoryError, FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # decoders of damaged files raise almost anything
            reason = _reason(error)
            raise ValueError(f"{path}: cannot be read as a picture ({reason})") from error


def _decode(
    opened: PillowImage.Image, max_side: int | None, color: tuple[float, float, float]
) -> PillowImage.Image:
    """Shrink, turn upright and convert to RGB."""
    from PIL import Image, ImageOps

    if max_side is not None:
        factor = 2 * max_side / max(opened.size)
        if factor < 1:
            width, height = (max(1, int(side * factor)) for side in opened.size)
            opened.draft(None, (width, height))
    picture = _to_rgb(ImageOps.exif_transpose(opened), color)
    if max_side is not None and max(picture.size) > max_side:
        scale = max_side / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    return picture


def _to_rgb(picture: PillowImage.Image, color: tuple[float, float, float]) -> PillowImage.Image:
    """Convert any Pillow mode to RGB without losing highlights, shadows or transparency."""
    from PIL import Image

    if picture.mode.startswith("I") or picture.mode == "F":
        full = 1.0 if picture.mode == "F" else 65535.0
        return Image.fromarray(_to_eight_bits(np.asarray(picture), full)).convert("RGB")
    has_alpha = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    if not has_alpha and "transparency" not in picture.info:
        return picture.convert("RGB")
    over = picture.convert("RGBA")
    under = Image.new("RGBA", over.size, tuple(round(value * 255) for value in color))
    return Image.alpha_composite(under, over).convert("RGB")


def _to_eight_bits(values: np.ndarray, full: float) -> np.ndarray:
    """Grey levels 0…full of a deeper picture as uint8, rounded."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= full):
        raise ValueError(f"grey values span {low:g} to {high:g}, wanted 0 to {full:g}")
    return np.rint(values * (255 / full)).astype(np.uint8)


def _reason(error: Exception) -> str:
    """One line on why a decoder gave up."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a picture format that is understood"
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        return f"more than {limit:.0f} million pixels; make it smaller first"
    return str(error) or type(error).__name__
