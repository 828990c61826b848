"""From a photo and its lens to a picture as shards hold it: straight, centred, not too large."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from splatfactory.datasets.scripts.custom import colmap
from splatfactory.datasets.scripts.custom.capture import Lens, Photo
from zipsplat.images import image_info, load_image, resize

Pixels = npt.NDArray[np.uint8]
_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")


def encode_photo(photo: Photo, max_side: int | None) -> tuple[bytes, npt.NDArray[np.float32]]:
    """Bring a photo into the form of shards.

    The lens distortion is taken out, the principal point is moved to the centre by cropping, and
    the picture is scaled down. A file that needs none of this keeps its bytes.

    Args:
        photo: with pose and lens.
        max_side: pixels of the longer side at most; None keeps the size.

    Returns:
        Encoded picture and camera row (6,) w, h, fx, fy, cx, cy.

    Raises:
        ValueError: if the file is damaged or does not fit its lens.
    """
    pixels, lens, is_upright = _load(photo)
    is_original = is_upright and not lens.is_distorted
    original = (pixels.shape, lens.packed)
    if lens.is_distorted:
        pixels, lens = colmap.straighten(pixels, lens)
    pixels, lens = _centre(pixels, lens)
    pixels, lens = _shrink(pixels, lens, max_side)
    row = np.array([lens.width, lens.height, *lens.packed], dtype=np.float32)
    if is_original and (pixels.shape, lens.packed) == original:
        data = photo.path.read_bytes()
        if _is_kept(data):
            return data, row
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue(), row


def _load(photo: Photo) -> tuple[Pixels, Lens, bool]:
    """Pixels, the lens at their size, and whether the stored pixels are upright ones.

    A lens was measured either on the stored pixels or on the picture as it is shown, turned by its
    EXIF note. The shape tells which.
    """
    info, lens = image_info(photo.path), photo.lens
    turned = (lens.width < lens.height) != (info.width < info.height)
    if info.orientation != 1 and (turned or (lens.width, lens.height) == _stored_size(photo.path)):
        with Image.open(photo.path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    else:
        pixels = _bytes(load_image(photo.path))
    height, width = pixels.shape[:2]
    if abs(width / height / (lens.width / lens.height) - 1) > 0.02:
        raise ValueError(
            f"{photo.path} has {width} x {height} pixels, its camera {lens.width} x {lens.height}"
        )
    if (width, height) != (lens.width, lens.height):
        lens = lens.resized(width, height)
    return pixels, lens, info.orientation == 1


def _stored_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        width, height = picture.size
    return width, height


def _bytes(image: torch.Tensor) -> Pixels:
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0)
    return np.ascontiguousarray(pixels.numpy())


def _centre(pixels: Pixels, lens: Lens) -> tuple[Pixels, Lens]:
    """Crop so that the principal point is in the middle, up to a pixel."""
    fx, fy, cx, cy = lens.packed
    width = 2 * int(min(cx, lens.width - cx) + 0.5)
    height = 2 * int(min(cy, lens.height - cy) + 0.5)
    # Half a pixel is not worth a crop.
    width = lens.width if lens.width - width < 2 else width
    height = lens.height if lens.height - height < 2 else height
    if min(width, height) < 0.5 * min(lens.width, lens.height):
        raise ValueError(
            f"the principal point ({cx:.0f}, {cy:.0f}) is far from the middle of"
            f" {lens.width} x {lens.height} pixels; check the camera's parameters"
        )
    x = min(max(round(cx - width / 2), 0), lens.width - width)
    y = min(max(round(cy - height / 2), 0), lens.height - height)
    straight = Lens("PINHOLE", width, height, (fx, fy, cx - x, cy - y))
    return np.ascontiguousarray(pixels[y : y + height, x : x + width]), straight


def _shrink(pixels: Pixels, lens: Lens, max_side: int | None) -> tuple[Pixels, Lens]:
    longest = max(lens.width, lens.height)
    if max_side is None or longest <= max_side:
        return pixels, lens
    width = max(1, round(lens.width * max_side / longest))
    height = max(1, round(lens.height * max_side / longest))
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    return _bytes(resize(image, height, width).clamp(0, 1)), lens.resized(width, height)


def _is_kept(data: bytes) -> bool:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.format in _KEPT_FORMATS and picture.mode == "RGB"
