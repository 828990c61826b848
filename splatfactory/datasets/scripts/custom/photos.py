"""Prepares photos for shards: undistorts, centres and downscales them."""

from __future__ import annotations

import io
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from splatfactory.datasets.depth_codec import open_image
from zipsplat.camera_estimation.capture import Lens, Photo
from zipsplat.camera_estimation.colmap import undistort
from zipsplat.camera_estimation.undistortion import (
    load_with_lens,
    shows_stored_pixels,
    shrunk,
    undistorted_mask,
)
from zipsplat.images import image_info
from zipsplat.masks import MaskSource, load_mask, resized

Values = TypeVar("Values", bound=npt.NDArray[Any])

_KEPT_FORMATS = ("JPEG", "PNG", "WEBP")


def encode_photo(
    photo: Photo, max_side: int | None, masks: MaskSource | None = None
) -> tuple[bytes, npt.NDArray[np.float32]]:
    """Encode a photo for a shard.

    It is undistorted, cropped so that the principal point is at the centre, and scaled down. A file
    that needs none of this keeps its bytes. A mask becomes the alpha channel of a lossless WebP.

    Args:
        photo: photo with pose and lens.
        max_side: maximum longer side in pixels; None keeps the size.
        masks: source of its mask, if any.

    Returns:
        Encoded image and camera row (6,) w, h, fx, fy, cx, cy.

    Raises:
        ValueError: if the file or its mask is damaged or does not match the lens.
        FileNotFoundError: if the photo's mask is missing.
    """
    pixels, lens = load_with_lens(photo.path, photo.lens)
    mask = None if masks is None else _undistorted_mask(photo, lens, pixels.shape[:2], masks)
    is_original = image_info(photo.path).orientation == 1 and not lens.is_distorted
    original = (pixels.shape, lens.packed)
    if lens.is_distorted:
        pixels, lens = undistort(pixels, lens)
    pixels, lens = _centre(pixels, lens)
    pixels = shrunk(pixels, max_side)
    if mask is not None:
        alpha = resized(torch.from_numpy(mask), *pixels.shape[:2]).numpy()
        pixels = np.dstack([pixels, np.uint8(255) * alpha])
    lens = lens.resized(pixels.shape[1], pixels.shape[0])
    row = np.array([lens.width, lens.height, *lens.packed], dtype=np.float32)
    if mask is None and is_original and (pixels.shape, lens.packed) == original:
        data = photo.path.read_bytes()
        if _is_kept(data):
            return data, row
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": 0, "method": 0}
    Image.fromarray(pixels).save(buffer, "WEBP", exact=mask is not None, **options)
    return buffer.getvalue(), row


def _undistorted_mask(
    photo: Photo, lens: Lens, size: tuple[int, int], masks: MaskSource
) -> npt.NDArray[np.bool_]:
    """The mask of a photo, undistorted and cropped like its pixels."""
    as_stored = shows_stored_pixels(photo.path, photo.lens)
    mask = load_mask(photo.path, masks, size, as_stored=as_stored)
    if lens.is_distorted:
        mask, lens = undistorted_mask(mask, lens)
    centred, _ = _centre(mask.numpy(), lens)
    return centred


def _centre(pixels: Values, lens: Lens) -> tuple[Values, Lens]:
    """Crop so that the principal point is at the centre, to within a pixel."""
    fx, fy, cx, cy = lens.packed
    width = 2 * int(min(cx, lens.width - cx) + 0.5)
    height = 2 * int(min(cy, lens.height - cy) + 0.5)
    # Half a pixel is not worth re-encoding.
    width = lens.width if lens.width - width < 2 else width
    height = lens.height if lens.height - height < 2 else height
    if min(width, height) < 0.5 * min(lens.width, lens.height):
        raise ValueError(
            f"the principal point ({cx:.0f}, {cy:.0f}) is far from the centre of"
            f" {lens.width} x {lens.height} pixels; check the camera's parameters"
        )
    x = min(max(round(cx - width / 2), 0), lens.width - width)
    y = min(max(round(cy - height / 2), 0), lens.height - height)
    straight = Lens("PINHOLE", width, height, (fx, fy, cx - x, cy - y))
    cropped: Any = np.ascontiguousarray(pixels[y : y + height, x : x + width])
    return cropped, straight


def _is_kept(data: bytes) -> bool:
    with open_image(data) as image:
        return image.format in _KEPT_FORMATS and image.mode == "RGB"
