"""Sharpening: from photos without cameras to a refined scene. Independent of the browser."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.framing import photo_depth
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.posed_images import SparsePoints
from zipsplat.refinement.settings import (
    OnStep,
    RefinedScene,
    RefinementProgress,
    RefinementSettings,
)
from zipsplat.viewer.reconstruction import Photos, Reconstruction

_SHOW_S, _REPORT_S = 1.0, 0.25  # seconds between snapshots, and between reports


@dataclass(frozen=True)
class FoundCameras:
    """The result of estimating cameras.

    Args:
        photos: the registered photos with cameras, poses and points; the first pose is the
            identity.
        views: indices of these among the given photos, ascending.
        remarks: signs that the cameras may be wrong, and photos left out; one line each.
    """

    photos: Photos
    views: tuple[int, ...]
    remarks: tuple[str, ...] = ()


FindCameras = Callable[[Photos, Callable[[str], object]], FoundCameras]
"""Estimates the cameras of photos; the second argument is called with each stage."""


class Refine(Protocol):
    """The signature of `zipsplat.refinement.refine`."""

    def __call__(
        self,
        gaussians: Gaussians | None,
        images: Sequence[Tensor],
        cameras: Camera,
        poses: Pose,
        points: SparsePoints | None = None,
        settings: RefinementSettings = ...,
        on_step: OnStep | None = None,
    ) -> RefinedScene:
        """Refine a scene."""
        ...


@dataclass(frozen=True)
class SharpeningTools:
    """Finds cameras and refines scenes."""

    find_cameras: FindCameras
    refine: Refine


class Watcher(Protocol):
    """Receives the progress of a refinement, on the thread that refines."""

    def report(self, progress: RefinementProgress) -> bool:
        """Receive a report, a few times a second; return False to stop at the best so far."""

    def show(self, scene: Reconstruction) -> None:
        """Receive an intermediate scene, about once a second."""


def with_cameras(
    scene: Reconstruction, found: FoundCameras, reconstruct: Callable[[Photos], Reconstruction]
) -> Reconstruction:
    """Bring the network's scene and the estimated cameras into one world.

    The world of both is the first photo's camera, but their scales differ: the cameras are scaled
    to the scene by the median depths in the first photo. If the first photo could not be
    registered, the registered ones are reconstructed again.

    Args:
        scene: the network's scene of photos without cameras.
        found: the estimated cameras.
        reconstruct: reconstructs photos.
    """
    photos = found.photos
    if found.views[0] != 0:
        scene = reconstruct(replace(photos, cameras=None, poses=None, points=None))
    return replace(scene, photos=_scaled(photos, _scale(scene.gaussians, photos)))


def sharpen(
    scene: Reconstruction, refine: Refine, settings: RefinementSettings, watcher: Watcher
) -> tuple[Reconstruction, RefinedScene]:
    """Refine a scene against its photos, whose cameras must be known.

    Args:
        scene: its photos have cameras and poses.
        refine: the refinement function.
        settings: of the refinement.
        watcher: receives the progress.

    Returns:
        the refined scene with the photos of `scene`, and the result of the refinement.

    Raises:
        ValueError: the photos have no cameras, or `refine` rejects them.
    """
    photos = scene.photos.relative()
    if photos.cameras is None or photos.poses is None:
        raise ValueError("sharpening needs the cameras of the photos")
    sharpened = replace(scene, group_size=None, encode_s=None, decode_s=None, is_sharpened=True)
    reported_s = shown_s = time.monotonic()

    def on_step(progress: RefinementProgress) -> bool:
        nonlocal reported_s, shown_s
        now = time.monotonic()
        goes_on = True
        if now - reported_s >= _REPORT_S or progress.step == 1:
            reported_s = now
            goes_on = watcher.report(progress)
        if now - shown_s >= _SHOW_S:
            watcher.show(replace(sharpened, gaussians=progress.snapshot()))
            shown_s = (
                time.monotonic()
            )  # after the copy, so that slow copies do not take all the time
        return goes_on

    refined = refine(
        None, photos.images, photos.cameras, photos.poses, photos.points, settings, on_step
    )
    return replace(sharpened, gaussians=refined.gaussians.detach()), refined


def _scale(scene: Gaussians, photos: Photos) -> float:
    """The factor from the cameras' world to the scene's."""
    if photos.cameras is None or photos.poses is None:
        raise ValueError("the photos have no cameras; estimate them first")
    first = Pose.identity()
    depth = photo_depth(scene, photos.cameras[0], first)
    points = photos.points
    seen = [] if points is None else points.positions[points.seen_by(0), 2]
    if depth is None or points is None or not len(seen):
        return 1.0
    return depth / float(torch.tensor(seen).median())


def _scaled(photos: Photos, factor: float) -> Photos:
    """The photos in a world scaled by `factor`."""
    if photos.poses is None:
        return photos
    points = photos.points
    if points is not None:
        points = replace(points, positions=points.positions * factor)
    poses = Pose(photos.poses.R, photos.poses.t * factor)
    return replace(photos, poses=poses, points=points)
