"""Photos with known cameras: the output of camera estimation and the input of refinement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.images import resize
from zipsplat.masks import resized
from zipsplat.pose import Pose


@dataclass(frozen=True)
class SparsePoints:
    """Sparse points of structure from motion, with their observations.

    The observations of point p are rows `offsets[p]` to `offsets[p + 1]` of `views` and `pixels`.

    Args:
        positions: (P, 3) float32, world units.
        colors: (P, 3) float32, RGB in [0, 1].
        errors: (P,) float32, mean reprojection error in pixels.
        offsets: (P + 1,) int64, where the observations of each point begin.
        views: (L,) int64, index of the view of each observation.
        pixels: (L, 2) float32, position of each observation in the undistorted image.
    """

    positions: npt.NDArray[np.float32]
    colors: npt.NDArray[np.float32]
    errors: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.int64]
    views: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.positions)

    def seen_by(self, view: int) -> npt.NDArray[np.int64]:
        """Unique indices of the points that a view observes."""
        observed = self.views == view
        point_of_row = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return np.unique(point_of_row[observed])


@dataclass(frozen=True)
class PosedImages:
    """V undistorted images with their pinhole cameras and poses; sizes may differ.

    Args:
        images: V of (3, H, W) float32, RGB in [0, 1].
        cameras: (V,) intrinsics in pixels of the images.
        poses: (V,) camera-to-world, OpenCV axes.
        names: V names, of files or video frames.
        points: sparse points in the same world frame, if any.
        masks: V of (H, W) bool, True where the photo counts; None if all pixels do. `masked` also
            removes points observed only at masked pixels.

    Raises:
        ValueError: if the counts differ, or an image does not have the size of its camera.
    """

    images: tuple[Tensor, ...]
    cameras: Camera
    poses: Pose
    names: tuple[str, ...]
    points: SparsePoints | None = None
    masks: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        """Check that counts and sizes match."""
        V = len(self.images)
        if self.cameras.shape != (V,) or self.poses.shape != (V,) or len(self.names) != V:
            raise ValueError(
                f"{V} images need {V} cameras, poses and names, got {tuple(self.cameras.shape)}"
                f", {tuple(self.poses.shape)} and {len(self.names)}"
            )
        for image, size, name in zip(self.images, self.cameras.size, self.names, strict=True):
            width, height = (round(value) for value in size.tolist())
            if image.shape != (3, height, width):
                raise ValueError(
                    f"{name}: its camera is {width} x {height} pixels, the image is"
                    f" {tuple(image.shape)} instead of (3, {height}, {width})"
                )
        if self.masks is not None:
            self._check_masks(self.masks)

    def _check_masks(self, masks: tuple[Tensor, ...]) -> None:
        if len(masks) != len(self.images):
            raise ValueError(
                f"there must be one mask per image, {len(self.images)}, got {len(masks)}"
            )
        for mask, image, name in zip(masks, self.images, self.names, strict=True):
            if mask.shape != image.shape[1:] or mask.dtype != torch.bool:
                raise ValueError(
                    f"{name}: a mask must be bool {tuple(image.shape[1:])} as its image, got"
                    f" {mask.dtype} {tuple(mask.shape)}"
                )
            if not bool(mask.any()):
                raise ValueError(f"{name}: its mask leaves no pixel")

    def __len__(self) -> int:
        return len(self.images)

    def select(self, views: Sequence[int]) -> PosedImages:
        """Select views, in the given order; points keep the observations of those views."""
        chosen = list(views)
        index = torch.tensor(chosen, dtype=torch.long)
        points = None if self.points is None else _observed_by(self.points, chosen)
        return PosedImages(
            tuple(self.images[view] for view in chosen),
            self.cameras[index],
            self.poses[index],
            tuple(self.names[view] for view in chosen),
            points,
            None if self.masks is None else tuple(self.masks[view] for view in chosen),
        )

    def masked(self, masks: Sequence[Tensor]) -> PosedImages:
        """Add masks; removes points observed only at masked pixels.

        Args:
            masks: V of (H, W) bool, True where the photo counts.

        Raises:
            ValueError: if they do not match the images, or one masks all pixels.
        """
        masked = replace(self, masks=tuple(masks))
        points = self.points
        if points is None or not len(points.views):
            return masked
        counts = np.zeros(len(points.views), bool)
        for view, mask in enumerate(masks):
            rows = points.views == view
            column, row = np.floor(points.pixels[rows]).astype(np.int64).T
            height, width = mask.shape
            counts[rows] = mask.cpu().numpy()[row.clip(0, height - 1), column.clip(0, width - 1)]
        return replace(masked, points=_with_rows(points, counts))

    def resized(self, max_side: int) -> PosedImages:
        """Scale images down so that no side exceeds `max_side` pixels; smaller ones are kept."""
        images: list[Tensor] = []
        cameras: list[Camera] = []
        scales: list[tuple[float, float]] = []
        for view, image in enumerate(self.images):
            height, width = image.shape[1:]
            factor = min(1.0, max_side / max(height, width))
            new_width, new_height = max(1, round(width * factor)), max(1, round(height * factor))
            scales.append((new_width / width, new_height / height))
            is_smaller = factor < 1
            images.append(resize(image, new_height, new_width).clamp(0, 1) if is_smaller else image)
            cameras.append(self.cameras[view].scale(scales[-1]))
        points = self.points
        if points is not None:
            pixels = points.pixels * np.asarray(scales, np.float32)[points.views]
            points = SparsePoints(
                points.positions, points.colors, points.errors, points.offsets, points.views, pixels
            )
        # torch.stack works on structs, but its annotations do not say so.
        joined: Any = torch.stack(cameras)  # type: ignore[arg-type]
        masks = self.masks and tuple(
            resized(mask, *image.shape[1:]) for mask, image in zip(self.masks, images, strict=True)
        )
        return PosedImages(tuple(images), joined, self.poses, self.names, points, masks)


def _observed_by(points: SparsePoints, chosen: Sequence[int]) -> SparsePoints:
    """The points observed by some views, with the observations of those views."""
    new_view = {old: new for new, old in enumerate(chosen)}
    kept = _with_rows(points, np.isin(points.views, chosen))
    return replace(kept, views=np.array([new_view[view] for view in kept.views.tolist()], np.int64))


def _with_rows(points: SparsePoints, kept: npt.NDArray[np.bool_]) -> SparsePoints:
    """Select observations (L,), and drop points without any."""
    point_of_row = np.repeat(np.arange(len(points)), np.diff(points.offsets))[kept]
    seen, counts = np.unique(point_of_row, return_counts=True)
    return SparsePoints(
        points.positions[seen],
        points.colors[seen],
        points.errors[seen],
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        points.views[kept],
        points.pixels[kept],
    )
