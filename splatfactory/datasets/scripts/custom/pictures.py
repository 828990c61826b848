"""From a photo and its lens to a picture as shards hold it: straight, centred, not too large."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from splatfactory.datasets.depth_codec import open_picture
from zipsplat.camera_estimation.capture import Lens, Photo
from zipsplat.camera_estimation.colmap import straighten
from zipsplat.camera_estimation.straightening import Pixels, load_with_lens, shrunk
from zipsplat.images import image_info

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
    pixels, lens = load_with_lens(photo.path, photo.lens)
    is_original = image_info(photo.path).orientation == 1 and not lens.is_distorted
    original = (pixels.shape, lens.packed)
    if lens.is_distorted:
        pixels, lens = straighten(pixels, lens)
    pixels, lens = _centre(pixels, lens)
    pixels = shrunk(pixels, max_side)
    lens = lens.resized(pixels.shape[1], pixels.shape[0])
    row = np.array([lens.width, lens.height, *lens.packed], dtype=np.float32)
    if is_original and (pixels.shape, lens.packed) == original:
        data = photo.path.read_bytes()
        if _is_kept(data):
            return data, row
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue(), row


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


def _is_kept(data: bytes) -> bool:
    with open_picture(data) as picture:
        return picture.format in _KEPT_FORMATS and picture.mode == "RGB"
