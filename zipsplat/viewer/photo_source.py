"""What the command was pointed at: a saved scene, or photos with or without their cameras."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zipsplat.camera import Camera
from zipsplat.camera_estimation import load_cameras
from zipsplat.camera_estimation.scene_cameras import cameras_beside, read_scene_cameras
from zipsplat.formats import by_suffix
from zipsplat.inputs import InputFiles, find_inputs, load_views
from zipsplat.scene_files import is_scene_file
from zipsplat.trajectories import load_camera_path
from zipsplat.viewer.reconstruction import Photos

_PEEK = 4096  # bytes of a file, to see what it is
MAX_SIDE = 1008  # of pictures in memory; four times the side that the network was trained with


def names_scene_file(path: str) -> bool:
    """Whether a path is that of a scene file, or would be if there were one."""
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
        inputs: pictures, folders, patterns, or one video.
        cameras: a camera path with one pose per view, in order, and a field of view; or a COLMAP
            model, a `transforms.json` or a `cameras.json`, as `load_cameras` reads them.
        num_frames: how many frames of a video.
        skip_bad: leave out unreadable pictures.
    """

    inputs: tuple[str, ...]
    cameras: str | None = None
    num_frames: int = 24
    skip_bad: bool = False


def load_photos(source: PhotoSource, report: Callable[[int, int], object]) -> Photos:
    """Load the views of a scene, and their cameras if they are given.

    Args:
        source: where from.
        report: is told (done, total).

    Raises:
        OSError: a file cannot be opened.
        ValueError: it holds something else, or the cameras are not as many as the views.
    """
    if source.cameras is not None and not is_camera_path(source.cameras):
        return _with_lenses(source, source.cameras)
    files = find_inputs(source.inputs)
    pictures = tuple(
        load_views(
            source.inputs,
            num_frames=source.num_frames if files.video is not None else None,
            max_side=MAX_SIDE,
            min_side=MAX_SIDE // 2,
            skip_bad=source.skip_bad,
            report=report,
        )
    )
    photos = Photos(pictures, names=_names(files, len(pictures)))
    if source.cameras is None:
        return photos
    path = load_camera_path(source.cameras)
    if len(path.poses) != len(pictures) or path.fov_deg is None:
        raise ValueError(
            f"{source.cameras}: wanted {len(pictures)} poses, one for each view, and a fov_deg;"
            f" got {len(path.poses)} and {path.fov_deg}"
        )
    height, width = torch.tensor([picture.shape[-2:] for picture in pictures]).float().T
    fov = torch.full_like(width, math.radians(path.fov_deg))
    return replace(photos, cameras=Camera.from_fov(fov, w=width, h=height), poses=path.poses)


def load_scene_cameras(path: str | None, scene: str) -> Photos:
    """The cameras of a saved scene: of a file that is named, or lies beside it.

    Raises:
        OSError: the named file cannot be opened.
        ValueError: it holds no cameras.
    """
    found = cameras_beside(scene) if path is None else read_scene_cameras(path)
    if found is None:
        return Photos()
    return Photos((), found.cameras, found.poses, found.names)


def is_camera_path(path: str) -> bool:
    """Whether a file holds a camera path of `zipsplat.trajectories`, judging by its start."""
    if Path(path).is_dir():
        return False
    with Path(path).open("rb") as file:
        return b'"world_from_camera"' in file.read(_PEEK)


def _with_lenses(source: PhotoSource, cameras: str) -> Photos:
    """Photos straightened by the lenses that a file or folder describes."""
    posed = load_cameras(cameras, source.inputs, max_side=MAX_SIDE)
    return Photos(posed.images, posed.cameras, posed.poses, posed.names, posed.points)


def _names(files: InputFiles, count: int) -> tuple[str, ...]:
    """The names of the photos, or their numbers if some were left out or they are frames."""
    if len(files.pictures) == count:
        return tuple(path.name for path in files.pictures)
    kind = "frame" if files.video is not None else "photo"
    return tuple(f"{kind} {number + 1}" for number in range(count))
