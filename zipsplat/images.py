"""Still images: load any common file as an upright RGB tensor, crop and resize it.

An image is a float32 tensor (3, H, W) with RGB in [0, 1]. `load_image` reads files; `crop_to_ar`,
`resize`, `to_square` and `aspect_size` produce a network's input size.
Cropping and resampling follow the preparation of the released ZipSplat model: centre crop, then
Pillow's Lanczos filter on 8-bit RGB. PyTorch is imported by what makes tensors, so that
describing a file does not wait for it.
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

from zipsplat.files import open_file
from zipsplat.media_kinds import HEIC_BRANDS, IMAGE, kind_by_suffix

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from torch import Tensor

# Allowed decoders. Pillow has more, but some of them start other programs (EPS runs Ghostscript)
# and none of the others is used for photos.
_FORMATS = (
    *("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "AVIF", "HEIF"),
    *("JPEG2000", "PPM", "TGA"),
)
_ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # formats whose frames are an animation
_MAX_PIXELS = 500_000_000  # of images decoded at a reduced size
_MAX_BYTES = 1 << 30  # memory for decoding an image
_MAX_RATIO = 200  # of the longer side to the shorter; beyond, a file is taken for damaged
# Copies of an image that decoders keep, according to their sources: libwebp two frame buffers and
# its own pixels, OpenJPEG four bytes per value, libtiff whole strips. All others keep two.
_COPIES = {"WEBP": 5, "JPEG2000": 5, "AVIF": 4, "HEIF": 4, "TIFF": 3}
_LARGE_PIXELS = 50_000_000  # from here on, decoding near the final size is accurate enough
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
    """The input size that a network was trained at.

    Args:
        side: in pixels, of a square or, if the aspect ratio is kept, of the longer side.
        keeps_shape: whether images keep their aspect ratio.
    """

    side: int
    keeps_shape: bool = False

    def for_image(self, height: int, width: int, multiple: int) -> tuple[int, int]:
        """(height, width) for an image; if its aspect ratio is kept, rounded to multiples."""
        if not self.keeps_shape:
            return self.side, self.side
        factor = self.side / max(height, width)
        rows, columns = (max(1, round(side * factor / multiple)) for side in (height, width))
        return rows * multiple, columns * multiple


@dataclass(frozen=True)
class ImageInfo:
    """Metadata of an image file.

    Args:
        format: Pillow's name, e.g. "JPEG".
        mode: Pillow's pixel mode, e.g. "RGB" or "I;16".
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
    """Load one image as upright RGB.

    The EXIF orientation is applied, transparency is composited on `background`, 16-bit grey is
    scaled (not clipped), palettes, grey, CMYK and animations (first frame) become RGB.

    Args:
        path: a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, JPEG 2000, PPM or TGA file; HEIC needs the
            extra `zipsplat[heic]`. The format is detected from the content.
        max_side: the longer side of the result has at most this many pixels. Large JPEGs are then
            decoded at a reduced size (never below twice the target, or once from 50 million
            pixels on), which is several times faster. None returns every pixel.
        min_side: if given, `max_side` does not shrink the shorter side below this, so that wide
            panoramas keep their rows.
        background: colour behind transparency: a colour name, "#rrggbb", or RGB in [0, 1].

    Returns:
        (3, H, W) float32 in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, damaged, not an image, or too large. The message names it.
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
    """Load the opacity of an image, upright.

    Returns:
        (H, W) float32 in [0, 1]; 1 for images without transparency.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `load_image`.
    """
    import torch
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
    import torch

    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.permute(2, 0, 1).contiguous().float() / 255


def image_info(path: str | Path) -> ImageInfo:
    """Read the metadata of an image without decoding its pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an image.
    """
    path = Path(path)
    with _opened(path) as image:
        width, height = image.size
        orientation = _orientation(image)
        if (
            orientation in _TURNED and image.format != "TIFF"
        ):  # Pillow swaps the size of TIFFs itself
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

    Rounds as the released model's preprocessing: sides to the nearest integer (half to even), the
    corner down.
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
    """Resample an image, as the released model's preprocessing does.

    Values are truncated to 8 bits (exact for 8-bit images, as nearly all are), resampled with
    Pillow's Lanczos filter and divided by 255. An image of the right size is returned as it is.

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
    import torch
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
    """The network input size closest to an image's aspect ratio.

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
    """Reject empty files, and register the HEIC decoder if needed."""
    with open_file(path) as file:
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
    """Open an image; decoder errors within the block become a ValueError that names the file."""
    _check_file(path)
    with warnings.catch_warnings(), open_file(path) as file:
        # Warnings about odd metadata do not concern the pixels.
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
    """`Image.open` without its pixel limit, which is global and ignores reduced decoding."""
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
            continue  # how Pillow's decoders reject a file of another format
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
    """Shrink, turn upright and convert to RGB in bands, to avoid a second large copy."""
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
    """EXIF orientation; of a PNG it may follow the pixels, so that Pillow has to decode them."""
    if image.format == "PNG" and "exif" not in image.info:
        try:
            _draft(image, 1.0)
        except ValueError:  # raised again when it is decoded
            return 1
    orientation: Any = image.getexif().get(_ORIENTATION_TAG, 1)
    return int(orientation)


def _draft(opened: PillowImage.Image, factor: float) -> None:
    """Let the decoder shrink an image if it can, and check the decoded size.

    Raises:
        ValueError: if it is too large.
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
    """Memory of a progressive JPEG in libjpeg: two bytes per sample at full size."""
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
    """Round grey levels 0…full of a deeper image to uint8."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= full):
        raise ValueError(f"grey values span {low:g} to {high:g}, wanted 0 to {full:g}")
    return np.rint(values * (255 / full)).astype(np.uint8)


def _reason(error: Exception) -> str:
    """One line on why a decoder gave up."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not a supported image format"
    return str(error) or type(error).__name__
