"""Inputs of the viewer: a saved scene, or photos with or without cameras."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zipsplat.camera import Camera
from zipsplat.camera_estimation import load_cameras
from zipsplat.camera_estimation.scene_cameras import cameras_beside, read_scene_cameras
from zipsplat.files import open_file
from zipsplat.formats import by_suffix
from zipsplat.inputs import InputFiles, find_inputs, load_views
from zipsplat.scene_files import is_scene_file
from zipsplat.trajectories import load_camera_path
from zipsplat.viewer.reconstruction import Photos

_PEEK = 4096  # bytes read to tell what a file is
MAX_SIDE = 1008  # of images in memory; four times the side that the network was trained with


def names_scene_file(path: str) -> bool:
    """Whether a path names a scene file, existing or not."""
    if Path(path).is_dir():
        return False
    if Path(path).exists():
        return is_scene_file(path)
    try:
        by_suffix(path)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class PhotoSource:
    """Where photos come from.

    Args:
        inputs: images, folders, patterns, or one video.
        cameras: a camera path with one pose per view, in order, and a field of view; or a COLMAP
            model, a `transforms.json` or a `cameras.json`, as `load_cameras` reads them.
        num_frames: frames to take from a video.
        skip_bad: leave out unreadable images.
    """

    inputs: tuple[str, ...]
    cameras: str | None = None
    num_frames: int = 24
    skip_bad: bool = False


def load_photos(source: PhotoSource, report: Callable[[int, int], object]) -> Photos:
    """Load photos, and their cameras if given.

    Args:
        source: where they come from.
        report: called with (done, total).

    Raises:
        OSError: a file cannot be opened.
        ValueError: a file is not readable as what it should be, or the numbers of cameras and views
            differ.
    """
    if source.cameras is not None and not is_camera_path(source.cameras):
        return _with_lenses(source, source.cameras)
    files = find_inputs(source.inputs)
    images = tuple(
        load_views(
            source.inputs,
            num_frames=source.num_frames if files.video is not None else None,
            max_side=MAX_SIDE,
            min_side=MAX_SIDE // 2,
            skip_bad=source.skip_bad,
            report=report,
        )
    )
    photos = Photos(images, names=_names(files, len(images)))
    if source.cameras is None:
        return photos
    path = load_camera_path(source.cameras)
    if len(path.poses) != len(images) or path.fov_deg is None:
        raise ValueError(
            f"{source.cameras}: wanted {len(images)} poses, one for each view, and a fov_deg;"
            f" got {len(path.poses)} and {path.fov_deg}"
        )
    height, width = torch.tensor([image.shape[-2:] for image in images]).float().T
    fov = torch.full_like(width, math.radians(path.fov_deg))
    return replace(photos, cameras=Camera.from_fov(fov, w=width, h=height), poses=path.poses)


def load_scene_cameras(path: str | None, scene: str) -> Photos:
    """The cameras of a saved scene, from the given file or the one beside the scene.

    Raises:
        OSError: the named file cannot be opened.
        ValueError: it holds no cameras.
    """
    found = cameras_beside(scene) if path is None else read_scene_cameras(path)
    if found is None:
        return Photos()
    return Photos((), found.cameras, found.poses, found.names)


def is_camera_path(path: str) -> bool:
    """Whether a file looks like a camera path of `zipsplat.trajectories`, from its first bytes."""
    if Path(path).is_dir():
        return False
    with open_file(path) as file:
        return b'"world_from_camera"' in file.read(_PEEK)


def _with_lenses(source: PhotoSource, cameras: str) -> Photos:
    """Photos undistorted with the lenses of a cameras file or folder."""
    posed = load_cameras(cameras, source.inputs, max_side=MAX_SIDE)
    return Photos(posed.images, posed.cameras, posed.poses, posed.names, posed.points)


def _names(files: InputFiles, count: int) -> tuple[str, ...]:
    """File names of the photos, or numbers if some were left out or they are frames."""
    if len(files.images) == count:
        return tuple(path.name for path in files.images)
    kind = "frame" if files.video is not None else "photo"
    return tuple(f"{kind} {number + 1}" for number in range(count))
