"""Cameras files beside a scene, transformed and written along when the scene is converted."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from zipsplat.camera_estimation.capture import Lens
    from zipsplat.pose import Pose

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CarriedCameras:
    """Cameras to write beside a converted scene.

    Args:
        target: the file to write.
        views: name, lens and world-from-camera pose (4, 4) of each.
    """

    target: Path
    views: list[tuple[str, Lens, np.ndarray]]

    def write(self, similarity: tuple[Pose, float] | None) -> None:
        """Write them, transformed like the scene: a scale factor, then a rigid motion."""
        from zipsplat.camera_estimation import cameras_json

        names, lenses, poses = map(list, zip(*self.views, strict=True))
        if similarity is not None:
            motion, factor = similarity
            poses = [_moved(pose, motion.Rt.numpy(), factor) for pose in poses]
        cameras_json.write(self.target, names, lenses, poses)


def cameras_to_carry(scene: Path, target: Path) -> CarriedCameras | None:
    """The cameras beside a scene, if there are any and the target has none yet.

    `NAME.cameras.json`, which belongs to one scene, is renamed with the target; `cameras.json`,
    which belongs to all scenes of its folder, keeps its name and is only copied to another folder.
    Unreadable files are left behind with a warning.
    """
    from zipsplat.camera_estimation.beside import NAME, own_file
    from zipsplat.cli.scene_output import is_page

    source, beside = own_file(scene), own_file(target)
    if not source.is_file():
        source, beside = scene.with_name(NAME), target.with_name(NAME)
    if not source.is_file() or is_page(target) or source.resolve() == beside.resolve():
        return None
    from zipsplat.camera_estimation import cameras_json

    try:
        return CarriedCameras(beside, cameras_json.read(source))
    except (ValueError, OSError) as error:
        logger.warning("left behind: %s", error)
        return None


def _moved(pose: np.ndarray, motion: np.ndarray, factor: float) -> np.ndarray:
    moved: np.ndarray = motion @ pose
    moved[:3, 3] = motion[:3, :3] @ (factor * pose[:3, 3]) + motion[:3, 3]
    return moved
