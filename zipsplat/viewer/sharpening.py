"""From photos without cameras to a scene that was refined against them; knows no browser."""

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

_SHOW_S, _TELL_S = 1.0, 0.25  # between two snapshots, and between two reports


@dataclass(frozen=True)
class FoundCameras:
    """What a search for cameras found.

    Args:
        photos: the placed ones with cameras, poses and points; the first pose is the identity.
        views: which of the photos that were given these are, rising.
        remarks: signs that the cameras may be wrong, and what was left out; a line each.
    """

    photos: Photos
    views: tuple[int, ...]
    remarks: tuple[str, ...] = ()


FindCameras = Callable[[Photos, Callable[[str], object]], FoundCameras]
"""Finds the cameras of photos and is told where to say what it is doing."""


class Refine(Protocol):
    """`zipsplat.refinement.refine`, or what does the same."""

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
        """Sharpen a scene."""
        ...


@dataclass(frozen=True)
class SharpeningTools:
    """What finds cameras and refines scenes."""

    find_cameras: FindCameras
    refine: Refine


class Watcher(Protocol):
    """Is told how a refinement goes; called from the thread that refines."""

    def told(self, progress: RefinementProgress) -> bool:
        """A report, a few times a second; False stops the refinement, which keeps the best."""

    def shown(self, scene: Reconstruction) -> None:
        """The scene as it is now, about every second."""


def with_cameras(
    scene: Reconstruction, found: FoundCameras, reconstruct: Callable[[Photos], Reconstruction]
) -> Reconstruction:
    """The scene of the network with the cameras that were found, in one world.

    Both have the first photo's camera as their world, but not the same scale: the cameras are
    brought to that of the scene, by the median depths in the first photo. If the first photo could
    not be placed, the placed ones are reconstructed anew.

    Args:
        scene: of the network, for photos without cameras.
        found: their cameras.
        reconstruct: makes a scene of photos.
    """
    photos = found.photos
    if found.views[0] != 0:
        scene = reconstruct(replace(photos, cameras=None, poses=None, points=None))
    return replace(scene, photos=_scaled(photos, _scale(scene.gaussians, photos)))


def sharpen(
    scene: Reconstruction, refine: Refine, settings: RefinementSettings, watcher: Watcher
) -> tuple[Reconstruction, RefinedScene]:
    """Refine a scene against its photos, which need cameras.

    Args:
        scene: whose photos have cameras and poses.
        refine: does it.
        settings: for how long.
        watcher: is told and shown how it goes.

    Returns:
        the refined scene, whose photos are those of `scene`, and how it came about.

    Raises:
        ValueError: the photos have no cameras, or `refine` cannot use them.
    """
    photos = scene.photos.relative()
    if photos.cameras is None or photos.poses is None:
        raise ValueError("sharpening needs the cameras of the photos")
    sharpened = replace(scene, group_size=None, encode_s=None, decode_s=None, is_sharpened=True)
    told_s = shown_s = time.monotonic()

    def on_step(progress: RefinementProgress) -> bool:
        nonlocal told_s, shown_s
        now = time.monotonic()
        goes_on = True
        if now - told_s >= _TELL_S or progress.step == 1:
            told_s = now
            goes_on = watcher.told(progress)
        if now - shown_s >= _SHOW_S:
            watcher.shown(replace(sharpened, gaussians=progress.snapshot()))
            shown_s = time.monotonic()  # after the copy, which shall not take all of the time
        return goes_on

    refined = refine(
        None, photos.pictures, photos.cameras, photos.poses, photos.points, settings, on_step
    )
    return replace(sharpened, gaussians=refined.gaussians.detach()), refined


def _scale(scene: Gaussians, photos: Photos) -> float:
    """By how much the cameras' world must grow to be that of the scene."""
    if photos.cameras is None or photos.poses is None:
        raise ValueError("cameras were found, but there are none")
    first = Pose.identity()
    depth = photo_depth(scene, photos.cameras[0], first)
    points = photos.points
    seen = [] if points is None else points.positions[points.seen_by(0), 2]
    if depth is None or points is None or not len(seen):
        return 1.0
    return depth / float(torch.tensor(seen).median())


def _scaled(photos: Photos, factor: float) -> Photos:
    """The same photos in a world that is so many times larger."""
    if photos.poses is None:
        return photos
    points = photos.points
    if points is not None:
        points = replace(points, positions=points.positions * factor)
    poses = Pose(photos.poses.R, photos.poses.t * factor)
    return replace(photos, poses=poses, points=points)
