"""What the command was pointed at: a saved scene, or photos with or without their cameras."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from zipsplat.camera import Camera
from zipsplat.formats import by_suffix
from zipsplat.inputs import find_inputs, load_views
from zipsplat.scene_files import is_scene_file
from zipsplat.trajectories import load_camera_path
from zipsplat.viewer.reconstruction import Photos

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
        cameras: a file with a camera path: one pose per view, in order, and a field of view.
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
    is_video = find_inputs(source.inputs).video is not None
    pictures = tuple(
        load_views(
            source.inputs,
            num_frames=source.num_frames if is_video else None,
            max_side=MAX_SIDE,
            min_side=MAX_SIDE // 2,
            skip_bad=source.skip_bad,
            report=report,
        )
    )
    if source.cameras is None:
        return Photos(pictures)
    path = load_camera_path(source.cameras)
    if len(path.poses) != len(pictures) or path.fov_deg is None:
        raise ValueError(
            f"{source.cameras}: wanted {len(pictures)} poses, one for each view, and a fov_deg;"
            f" got {len(path.poses)} and {path.fov_deg}"
        )
    height, width = torch.tensor([picture.shape[-2:] for picture in pictures]).float().T
    fov = torch.full_like(width, math.radians(path.fov_deg))
    return Photos(pictures, Camera.from_fov(fov, w=width, h=height), path.poses)
