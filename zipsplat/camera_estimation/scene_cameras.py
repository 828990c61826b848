"""The cameras of a saved scene, from the `cameras.json` beside it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch

from zipsplat.camera import Camera
from zipsplat.camera_estimation.beside import file_beside
from zipsplat.camera_estimation.load import list_cameras
from zipsplat.pose import Pose

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneCameras:
    """The cameras of a scene's photos; the photos themselves need not exist.

    Args:
        cameras: (V,) intrinsics.
        poses: (V,) camera-to-world, in the world of the scene.
        names: V names of the photos.
    """

    cameras: Camera
    poses: Pose
    names: tuple[str, ...]

    def transform(self, pose: Pose, scale: float = 1.0) -> SceneCameras:
        """The cameras after `Gaussians.transform(pose, scale=scale)` of the scene."""
        scaled = Pose(self.poses.R, self.poses.t * scale)
        return SceneCameras(self.cameras, pose.to(scaled.t).compose(scaled), self.names)


def read_scene_cameras(path: str | PathLike[str]) -> SceneCameras:
    """Read the cameras of a scene without its photos; distortion is ignored.

    Args:
        path: a folder with a COLMAP model, a `transforms.json`, or the `cameras.json` of 3DGS
            viewers, in the world of the scene.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, or another kind of file. The message names it.
    """
    _, capture = list_cameras(Path(path))
    lenses = [photo.lens for photo in capture.photos]
    packed = [(lens.width, lens.height, *lens.packed) for lens in lenses]
    matrices = np.stack([photo.world_from_camera for photo in capture.photos])
    matrices[:, :3, 3] += (
        capture.origin
    )  # undo `moved_to`, since the scene is in the world of its file
    return SceneCameras(
        Camera.from_packed(torch.tensor(packed, dtype=torch.float32)),
        Pose.from_4x4mat(torch.from_numpy(matrices).float()),
        tuple(photo.path.name for photo in capture.photos),
    )


def cameras_beside(scene: str | PathLike[str]) -> SceneCameras | None:
    """The cameras beside a scene file, or in the folder of its 3DGS run.

    Those of `NAME.ply` are in `NAME.cameras.json` or `cameras.json`. A 3DGS run keeps its scenes in
    `point_cloud/iteration_N/` and `cameras.json` two folders above. An unreadable file is skipped
    with a warning.
    """
    path = file_beside(Path(scene))
    if path is None:
        return None
    try:
        return read_scene_cameras(path)
    except (OSError, ValueError) as error:
        logger.warning("no cameras are shown: %s", error)
        return None
