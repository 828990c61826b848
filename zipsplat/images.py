"""Still images: any common file to an upright RGB tensor, and the resizing networks expect.

An image is a float32 tensor (3, H, W) with RGB in [0, 1]. `load_image` turns files into that;
`crop_to_ar`, `resize`, `to_square` and `aspect_size` bring it to a network's input size.
Cropping and resampling follow the preparation of the released ZipSplat model: centre crop, then
Pillow's Lanczos filter on 8-bit RGB.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zipsplat.media_kinds import HEIC_BRANDS, IMAGE, kind_by_suffix

if TYPE_CHECKING:
    from PIL import Image as PillowImage

# Decoders that may read a user's file. Pillow knows more, but some of them start other programs
# (EPS runs Ghostscript) and none of those holds a photograph.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "HEIF"),
    *("JPEG2000", "PPM", "TGA"),
)
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # formats whose further frames are shown in time
_MAX_PIXELS = 500_000_000  # of an image that is decoded at a reduced size
_MAX_BYTES = 1 << 30  # that decoding an image may take
_MAX_RATIO = 200  # of the longer side to the shorter
# How often decoders hold an image, by their sources: libwebp keeps two frame buffers and its own
# pixels, OpenJPEG four bytes per value, libtiff whole strips. What is not here holds it twice.
_COPIES = {"WEBP": 5, "JPEG2000": 5, "AVIF": 4, "HEIF": 4, "TIFF": 3}
_LARGE_PIXELS = 50_000_000  # from here on, decoding near the final size is fine enough
_BAND_PIXELS = 4_000_000
_ORIENTATION_TAG = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height

Background = str | Sequence[float]


class CropBox(NamedTuple):
    """A rectangle of pixels inside an image: its size, then its top-left corner."""

    height: int
    width: int
    top: int
    left: int


@dataclass(frozen=True)
class InputSize:
    """How large the images are that a network was trained on.

    Args:
        side: in pixels, of a square or, if the shape is kept, of the longer side.
        keeps_shape: whether images keep their aspect ratio.
    """

    side: int
    keeps_shape: bool = False

    def for_image(self, height: int, width: int, multiple: int) -> tuple[int, int]:
        """(height, width) for an image; sides that keep its shape are rounded to multiples."""
        if not self.keeps_shape:
            return self.side, self.side
        factor = self.side / max(height, width)
        rows, columns = (max(1, round(side * factor / multiple)) for side in (height, width))
        return rows * multiple, columns * multiple


@dataclass(frozen=True)
class ImageInfo:
    """What an image file says of itself.

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
    path: str | Path,
    *,
    max_side: int | None = None,
    min_side: int | None = None,
    background: Background = "white",
) -> Tensor:
    """Load one image, upright, as RGB.

    The EXIF orientation is applied, transparency is composited on `background`, 16-bit grey is
    scaled (not clipped), palettes, grey, CMYK and animations (first frame) become RGB.

    Args:
        path: a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, JPEG 2000, PPM or TGA file; HEIC needs the
            extra `zipsplat[heic]`. The content decides, not the suffix.
        max_side: the longer side of the result has at most this many pixels. Large JPEGs are then
            decoded at a reduced size (never below twice the target, or once from 50 million
            pixels on), which is several times faster. None returns every pixel.
        min_side: if given, what `max_side` leaves of the shorter side is not less than this, as
            far as the image has it: wide panoramas keep their rows.
        background: what shows through transparency: a colour name, "#rrggbb", or RGB in [0, 1].

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, damaged, not an image, or absurdly large. It names the file.
    """
    path = Path(path)
    if max_side is not None and max_side < 1:
        raise ValueError(f"max_side must be at least 1 pixel, got {max_side}")
    color = background_color(background)
    with _opened(path) as opened:
        return _tensor(_decode(opened, max_side, min_side, color))


def load_animation(
    path: str | Path,
    indices: Sequence[int],
    *,
    max_side: int | None = None,
    min_side: int | None = None,
    background: Background = "white",
) -> list[Tensor]:
    """Load some frames of an animation; see `load_image`.

    Args:
        path: a GIF, WebP, PNG or AVIF file with several frames.
        indices: of the frames, ascending.
        max_side: see `load_image`.
        min_side: see `load_image`.
        background: see `load_image`.
    """
    color = background_color(background)
    frames = []
    with _opened(Path(path)) as opened:
        for index in indices:
            opened.seek(index)
            frames.append(_tensor(_decode(opened, max_side, min_side, color)))
    return frames


def load_alpha(path: str | Path) -> Tensor:
    """Load how opaque each pixel of an image is, upright.

    Returns:
        (H, W) float32 in [0, 1]; 1 for images without transparency.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_image`.
    """
    from PIL import ImageOps

    with _opened(Path(path)) as opened:
        _draft(opened, 1.0)
        ImageOps.exif_transpose(opened, in_place=True)
        if not _has_alpha(opened):
            return torch.ones(opened.height, opened.width)
        alpha = np.array(opened.convert("RGBA").getchannel("A"))
    return torch.from_numpy(alpha).float() / 255


def reduction(width: float, height: float, max_side: int | None, min_side: int | None) -> float:
    """The factor, at most 1, by which an image is scaled down; see `load_image`."""
    if max_side is None:
        return 1.0
    factor = max_side / max(width, height)
    if min_side is not None:
        factor = max(factor, min_side / min(width, height))
    return min(1.0, factor)


def _tensor(image: PillowImage.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.permute(2, 0, 1).contiguous().float() / 255


def image_info(path: str | Path) -> ImageInfo:
    """Look at an image without decoding all of it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image.
    """
    path = Path(path)
    with _opened(path) as image:
        width, height = image.size
        orientation = _orientation(image)
        if orientation in _TURNED and image.format != "TIFF":  # Pillow has turned its size
            width, height = height, width
        return ImageInfo(
            format=image.format or "unknown",
            mode=image.mode,
            width=width,
            height=height,
            orientation=orientation,
            num_frames=int(getattr(image, "n_frames", 1)) if image.format in _ANIMATED else 1,
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
    """Centre-crop an image (..., H, W) to an aspect ratio (width / height)."""
    box = crop_box(image.shape[-2], image.shape[-1], aspect)
    return image[..., box.top : box.top + box.height, box.left : box.left + box.width]


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resample an image to a size, as the released model's preparation does.

    Values are brought to 8 bits by truncation (exact for images that were 8-bit, as nearly all
    are), resampled with Pillow's Lanczos filter and divided by 255. An image that has the size
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
            "an image is a floating-point tensor (3, H, W) with RGB in [0, 1], got "
            f"{tuple(image.shape)} {image.dtype}"
        )
    if 0 in image.shape or height < 1 or width < 1:
        raise ValueError(f"cannot resize {tuple(image.shape)} to {height}×{width} pixels")
    if image.shape[-2:] == (height, width):
        return image
    from PIL import Image

    levels = (image.detach() * 255).clamp(0, 255).to(torch.uint8)
    pillow_image = Image.fromarray(levels.permute(1, 2, 0).cpu().contiguous().numpy())
    resized = pillow_image.resize((width, height), Image.Resampling.LANCZOS)
    result = torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()
    return (result.to(torch.float32) / 255).to(device=image.device, dtype=image.dtype)


def to_square(image: Tensor, size: int = 252) -> Tensor:
    """Centre-crop an image (3, H, W) to a square and resample it to (3, size, size)."""
    return resize(crop_to_ar(image, 1.0), size, size)


def aspect_size(
    height: int, width: int, short_side: int = 252, multiple: int = 14
) -> tuple[int, int]:
    """The network input size that keeps an image's aspect ratio best.

    Args:
        height: of the image.
        width: of the image.
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
    """Whether the suffix is one of a still image."""
    return kind_by_suffix(path) == IMAGE


def _check_file(path: Path) -> None:
    """Refuse what no decoder needs to see, and register the HEIC decoder if it is wanted."""
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise ValueError(f"{path}: the file is empty")
    if head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS:
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
    """Open an image; whatever its decoder objects to in the block names the file."""
    _check_file(path)
    with warnings.catch_warnings(), path.open("rb") as file:
        # Notes on odd metadata concern the file, not the pixels.
        warnings.simplefilter("ignore", UserWarning)
        try:
            with _identified(file, path) as opened:
                yield opened
        except (MemoryError, FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # decoders of damaged files raise almost anything
            reason = _reason(error)
            raise ValueError(f"{path}: cannot be read as an image ({reason})") from error


def _identified(file: BinaryIO, path: Path) -> PillowImage.Image:
    """As `Image.open`, whose limit of pixels is a global one and knows no reduced decoding."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    head = file.read(16)
    for name in _FORMATS:
        factory, accepts = Image.OPEN.get(name, (None, None))
        if factory is None or (accepts is not None and accepts(head) is not True):
            continue
        file.seek(0)
        try:
            return factory(file, str(path))
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # how Pillow's decoders say that a file is another one's
    raise UnidentifiedImageError


def _decode(
    opened: PillowImage.Image,
    max_side: int | None,
    min_side: int | None,
    color: tuple[float, float, float],
) -> PillowImage.Image:
    """Shrink, turn upright and convert to RGB."""
    from PIL import Image, ImageOps

    _draft(opened, reduction(*opened.size, max_side, min_side))
    factor = reduction(*opened.size, max_side, min_side)
    if opened.width * opened.height >= _LARGE_PIXELS:
        return _reduced(opened, factor, color)
    ImageOps.exif_transpose(opened, in_place=True)
    image = _to_rgb(opened, color)
    if factor < 1:
        width, height = (max(1, round(side * factor)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return image


def _reduced(
    opened: PillowImage.Image, factor: float, color: tuple[float, float, float]
) -> PillowImage.Image:
    """Shrink, turn upright and convert to RGB in bands, so that there is no second large copy."""
    from PIL import Image, ImageOps

    opened.load()
    step = max(1, int(0.5 / factor))
    width, height = opened.size
    image = Image.new("RGB", (-(-width // step), -(-height // step)))
    rows = step * max(1, _BAND_PIXELS // (step * width))
    for top in range(0, height, rows):
        part = opened.crop((0, top, width, min(top + rows, height)))
        image.paste(_to_rgb(part, color).reduce(step), (0, top // step))
    if factor < 1:
        final = (max(1, round(width * factor)), max(1, round(height * factor)))
        box = (0, 0, width / step, height / step)
        image = image.resize(final, Image.Resampling.LANCZOS, box)
    image.getexif()[_ORIENTATION_TAG] = _orientation(opened)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _orientation(image: PillowImage.Image) -> int:
    """EXIF orientation; Pillow decodes a PNG to look behind its pixels, if there is none before."""
    if image.format == "PNG" and "exif" not in image.info:
        try:
            _draft(image, 1.0)
        except ValueError:  # told when it is to be decoded
            return 1
    orientation: Any = image.getexif().get(_ORIENTATION_TAG, 1)
    return int(orientation)


def _draft(opened: PillowImage.Image, factor: float) -> None:
    """Let the decoder shrink an image if it can, and check the size that it will decode to.

    Raises:
        ValueError: if that is too large.
    """
    width, height = opened.size
    if max(width, height) > _MAX_RATIO * min(width, height):
        raise ValueError(
            f"{width}×{height} pixels are too narrow; the longer side may be {_MAX_RATIO} times"
            " the shorter one"
        )
    num_pixels = width * height
    if factor < 1 and num_pixels <= _MAX_PIXELS:
        margin = min(1.0, factor * (1 if num_pixels >= _LARGE_PIXELS else 2))
        opened.draft(None, (max(1, int(width * margin)), max(1, int(height * margin))))
    max_bytes = _MAX_BYTES // _COPIES.get(opened.format or "", 2)
    if max(_decoded_bytes(opened), _coefficient_bytes(opened, num_pixels)) > max_bytes:
        raise ValueError(
            f"{num_pixels / 1e6:.0f} million pixels ({width}×{height}) decode to more than"
            f" {max_bytes >> 20} MiB; make it smaller first: JPEGs of up to"
            f" {_MAX_PIXELS // 10**6} million pixels, if not progressive, can be read scaled down"
        )


def _decoded_bytes(opened: PillowImage.Image) -> int:
    num_values = opened.width * opened.height * len(opened.getbands())
    return num_values * _bytes_per_value(opened.mode)


def _coefficient_bytes(opened: PillowImage.Image, num_pixels: int) -> int:
    """What libjpeg keeps of a progressive JPEG: two bytes for each sample of the full size."""
    if "progressive" not in opened.info:
        return 0
    samples: list[int] = [across * down for _, across, down, *_ in getattr(opened, "layer", ())]
    return 2 * num_pixels * sum(samples) // max([1, *samples])


def _bytes_per_value(mode: str) -> int:
    if mode.startswith("I;16"):
        return 2
    return 4 if mode in ("I", "F") else 1


def _to_rgb(image: PillowImage.Image, color: tuple[float, float, float]) -> PillowImage.Image:
    """Convert any Pillow mode to RGB without losing highlights, shadows or transparency."""
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        full = 1.0 if image.mode == "F" else 65535.0
        return Image.fromarray(_to_eight_bits(np.asarray(image), full)).convert("RGB")
    if not _has_alpha(image):
        return image if image.mode == "RGB" else image.convert("RGB")
    over = image.convert("RGBA")
    under = Image.new("RGBA", over.size, tuple(round(value * 255) for value in color))
    return Image.alpha_composite(under, over).convert("RGB")


def _has_alpha(image: PillowImage.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _to_eight_bits(values: np.ndarray, full: float) -> np.ndarray:
    """Grey levels 0…full of a deeper image as uint8, rounded."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= full):
        raise ValueError(f"grey values span {low:g} to {high:g}, wanted 0 to {full:g}")
    return np.rint(values * (255 / full)).astype(np.uint8)


def _reason(error: Exception) -> str:
    """One line on why a decoder gave up."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image format that is understood"
    return str(error) or type(error).__name__
