"""Undistortion: from photos with lenses to images with pinhole cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.camera_estimation.capture import Capture, FloatArray, Lens
from zipsplat.camera_estimation.colmap import undistort, undistort_points
from zipsplat.images import image_info, load_image, resize
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages, SparsePoints

Pixels = npt.NDArray[np.uint8]
_MAX_STRETCH = 0.02  # relative difference between the aspect ratios of a photo and of its camera


def load_with_lens(path: Path, lens: Lens, max_side: int | None = None) -> tuple[Pixels, Lens]:
    """Load the pixels of a photo, and scale its lens to their size.

    Intrinsics refer either to the stored pixels or to the image as displayed, rotated by its EXIF
    orientation. The aspect ratio tells which.

    Args:
        path: of the photo.
        lens: its intrinsics, at any size.
        max_side: the longer side has at most this many pixels; None keeps the size.

    Returns:
        (H, W, 3) and the lens of that size.

    Raises:
        ValueError: if the file is damaged or does not fit its lens.
    """
    if shows_stored_pixels(path, lens):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        pixels = shrunk(pixels, max_side)
    else:
        pixels = to_bytes(load_image(path, max_side=max_side))
    return pixels, fitted(lens, pixels, path)


def shows_stored_pixels(path: Path, lens: Lens) -> bool:
    """Whether a lens refers to the stored pixels of a photo that EXIF rotates."""
    info = image_info(path)
    if info.orientation == 1:
        return False
    turned = (lens.width < lens.height) != (info.width < info.height)
    with Image.open(path) as image:
        return turned or (lens.width, lens.height) == image.size


def fitted(lens: Lens, pixels: Pixels, path: Path) -> Lens:
    """Scale a lens to the size of an image.

    Raises:
        ValueError: if the aspect ratios differ.
    """
    height, width = pixels.shape[:2]
    if abs(width / height / (lens.width / lens.height) - 1) > _MAX_STRETCH:
        raise ValueError(
            f"{path} has {width} x {height} pixels, its camera {lens.width} x {lens.height}"
        )
    if (width, height) == (lens.width, lens.height):
        return lens
    return lens.resized(width, height)


def to_bytes(image: Tensor) -> Pixels:
    """Convert an image (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    pixels = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    return np.ascontiguousarray(pixels.cpu().numpy())


def to_image(pixels: Pixels) -> Tensor:
    """Convert an image (H, W, 3) uint8 to (3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float() / 255


def shrunk(pixels: Pixels, max_side: int | None) -> Pixels:
    """Scale an image down so that its longer side has at most `max_side` pixels."""
    height, width = pixels.shape[:2]
    if max_side is None or max(height, width) <= max_side:
        return pixels
    factor = max_side / max(height, width)
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return to_bytes(resize(to_image(pixels), *size))


def posed_images(
    capture: Capture,
    names: Sequence[str],
    load: Callable[[int], tuple[Pixels, Lens]],
    load_mask: Callable[[int, tuple[int, int]], Tensor] | None = None,
) -> PosedImages:
    """Undistort photos, giving images with pinhole cameras.

    Args:
        capture: V photos with their points.
        names: V names.
        load: returns the pixels of a photo, and its lens at their size.
        load_mask: returns the mask (H, W) of a photo, bool, at the size of its pixels.
    """
    images, packed, straight_lenses, masks = [], [], [], []
    for view in range(len(capture.photos)):
        pixels, lens = load(view)
        if load_mask is not None:
            masks.append(undistorted_mask(load_mask(view, pixels.shape[:2]), lens)[0])
        if lens.is_distorted:
            pixels, lens = undistort(pixels, lens)
        images.append(to_image(np.ascontiguousarray(pixels)))
        packed.append([lens.width, lens.height, *lens.packed])
        straight_lenses.append(lens)
    poses = np.stack([photo.world_from_camera for photo in capture.photos])
    posed = PosedImages(
        tuple(images),
        Camera.from_packed(torch.tensor(packed, dtype=torch.float32)),
        Pose.from_4x4mat(torch.tensor(poses, dtype=torch.float32)),
        tuple(names),
        _undistorted_points(capture, straight_lenses),
    )
    return posed if load_mask is None else posed.masked(masks)


def undistorted_mask(mask: Tensor, lens: Lens) -> tuple[Tensor, Lens]:
    """Undistort a mask (H, W) like its photo; drops pixels interpolated from masked ones."""
    if not lens.is_distorted:
        return mask, lens
    levels = (255 * mask).to(torch.uint8)[..., None].expand(-1, -1, 3)
    pixels, straight = undistort(np.ascontiguousarray(levels.cpu().numpy()), lens)
    return torch.from_numpy(pixels[..., 0] == 255), straight


def _undistorted_points(capture: Capture, straight: Sequence[Lens]) -> SparsePoints | None:
    points = capture.points
    if points is None:
        return None
    if not len(points.views):
        return observed_by_projection(
            points, straight, [photo.world_from_camera for photo in capture.photos]
        )
    pixels = points.pixels.copy()
    for view, photo in enumerate(capture.photos):
        rows = points.views == view
        if rows.any():
            pixels[rows] = undistort_points(pixels[rows], photo.lens, straight[view])
    return SparsePoints(
        points.positions, points.colors, points.errors, points.offsets, points.views, pixels
    )


def observed_by_projection(
    points: SparsePoints, lenses: Sequence[Lens], poses: Sequence[FloatArray]
) -> SparsePoints:
    """Add observations to points without tracks: every view observes what projects into it.

    Point clouds without tracks do not say which views see them. Hidden points count as seen, too;
    users of the observations (depth ranges, angles between views) take medians and quantiles.

    Args:
        points: P points.
        lenses: V undistorted intrinsics.
        poses: V (4, 4) world-from-camera.
    """
    rows = []
    for view, (lens, world_from_camera) in enumerate(zip(lenses, poses, strict=True)):
        camera_from_world = np.linalg.inv(world_from_camera)
        here = points.positions @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        fx, fy, cx, cy = lens.packed
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            pixels = here[:, :2] / here[:, 2:] * (fx, fy) + (cx, cy)
            inside = (pixels >= 0) & (pixels < (lens.width, lens.height))
        seen = np.flatnonzero(inside.all(axis=1) & (here[:, 2] > 0))
        rows += [(seen, np.full(len(seen), view), pixels[seen])]
    index, views, pixels = (np.concatenate(part) for part in zip(*rows, strict=True))
    order = np.argsort(index, kind="stable")
    counts = np.bincount(index, minlength=len(points))
    return SparsePoints(
        points.positions,
        points.colors,
        points.errors,
        np.concatenate([[0], counts.cumsum()]).astype(np.int64),
        views[order].astype(np.int64),
        pixels[order].astype(np.float32),
    )
