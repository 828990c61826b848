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
    """Where the photos of a scene were taken; the photos themselves need not be there.

    Args:
        cameras: (V,) intrinsics.
        poses: (V,) camera-to-world, in the world of the scene.
        names: V names of the photos.
    """

    cameras: Camera
    poses: Pose
    names: tuple[str, ...]

    def transform(self, pose: Pose, scale: float = 1.0) -> SceneCameras:
        """Cameras of the scene after `Gaussians.transform(pose, scale=scale)`."""
        scaled = Pose(self.poses.R, self.poses.t * scale)
        return SceneCameras(self.cameras, pose.to(scaled.t).compose(scaled), self.names)


def read_scene_cameras(path: str | PathLike[str]) -> SceneCameras:
    """Read the cameras of a scene without its photos; distortion is left out of account.

    Args:
        path: a folder with a COLMAP model, a `transforms.json`, or the `cameras.json` of 3DGS
            viewers, in the world of the scene.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, or another kind of file. It names the file.
    """
    _, capture = list_cameras(Path(path))
    lenses = [photo.lens for photo in capture.photos]
    packed = [(lens.width, lens.height, *lens.packed) for lens in lenses]
    matrices = np.stack([photo.world_from_camera for photo in capture.photos])
    matrices[:, :3, 3] += capture.origin  # the scene is where its file says
    return SceneCameras(
        Camera.from_packed(torch.tensor(packed, dtype=torch.float32)),
        Pose.from_4x4mat(torch.from_numpy(matrices).float()),
        tuple(photo.path.name for photo in capture.photos),
    )


def cameras_beside(scene: str | PathLike[str]) -> SceneCameras | None:
    """The cameras that lie beside a scene file, or in the folder of the 3DGS run that it is of.

    Those of `NAME.ply` are in `NAME.cameras.json` or `cameras.json`. A run keeps its scenes in
    `point_cloud/iteration_N/` and its `cameras.json` two folders above. A file that cannot be read
    is left alone with a warning.
    """
    path = file_beside(Path(scene))
    if path is None:
        return None
    try:
        return read_scene_cameras(path)
    except (OSError, ValueError) as error:
        logger.warning("no cameras are shown: %s", error)
        return None
