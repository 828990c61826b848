"""The cameras of the photos as frustums with the photos in them, in the scenes of all browsers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from zipsplat.figures import to_pixels
from zipsplat.framing import scene_body
from zipsplat.pose import Pose
from zipsplat.viewer.cameras import VIEW_FOV_DEG
from zipsplat.viewer.reconstruction import Photos, Reconstruction

if TYPE_CHECKING:
    import viser

MAX_FRUSTUMS = 500
_SIZE = 0.12  # of the scene's radius
_SPACING = 0.6  # of the median distance between neighbours; closer ones would cover each other
_NEAR = 1.5  # sizes, within which a frustum would fill the view
_THUMBNAIL_SIDE = 256  # pixels


class Frustums:
    """One frustum for each photo whose camera is known, at most `MAX_FRUSTUMS`, evenly chosen.

    Without poses that is the first photo, whose camera is the world of the scene. A frustum that a
    browser's camera stands in is hidden, as it would fill the view.

    Args:
        server: in whose scene they stand.
        clicked: is called with the number of the photo and of the client.
    """

    def __init__(self, server: viser.ViserServer, clicked: Callable[[int, int], object]) -> None:
        self._world: Any = server.scene
        self._clicked = clicked
        self._handles: dict[int, Any] = {}
        self._positions = np.empty((0, 3))
        self._size = 1.0
        self._is_shown = False
        self._eyes = np.empty((0, 3))
        self._lock = threading.Lock()

    @property
    def handles(self) -> list[Any]:
        """What viser knows them by, in the order of the photos."""
        return list(self._handles.values())

    def show(self, scene: Reconstruction) -> None:
        """Stand where the photos of a scene were taken."""
        photos, poses = scene.photos, scene.poses
        if poses is None:
            poses = Pose.identity((1 if photos.pictures else 0,))
        if not scene.gaussians.num_gaussians:
            poses = poses[:0]
        positions = poses.t.detach().cpu().double().numpy()
        count = min(len(positions), MAX_FRUSTUMS)
        views = np.linspace(0, len(positions) - 1, count).round().astype(int)
        with self._lock:
            for handle in self._handles.values():
                handle.remove()
            self._size = _frustum_size(scene, positions)
            self._positions = positions[views]
            self._handles = {view: self._add(photos, poses[view], view) for view in views.tolist()}
            self._update()

    def set_shown(self, is_shown: bool) -> None:
        """Show or hide all of them."""
        with self._lock:
            self._is_shown = is_shown
            self._update()

    def hide_around(self, eyes: Sequence[Sequence[float]]) -> None:
        """Hide those that one of these camera centres (3,) is in, and show the others again."""
        with self._lock:
            self._eyes = np.asarray(eyes, float).reshape(-1, 3)
            self._update()

    def _update(self) -> None:
        distances = np.linalg.norm(self._positions[:, None] - self._eyes, axis=-1)
        is_free = distances.min(axis=1, initial=np.inf) > _NEAR * self._size
        for handle, free in zip(self._handles.values(), is_free.tolist(), strict=True):
            handle.visible = self._is_shown and free

    def _add(self, photos: Photos, pose: Pose, view: int) -> Any:
        vfov, aspect = _shape(photos, view)
        picture = _thumbnail(photos.pictures[view]) if photos.pictures else None
        handle = self._world.add_camera_frustum(
            f"/photos/{view + 1}",
            fov=vfov,
            aspect=aspect,
            scale=self._size,
            thickness=0.02 * self._size,
            image=picture,
            format="jpeg",
            wxyz=pose.quat.tolist(),
            position=pose.t.tolist(),
            visible=False,
        )
        handle.on_click(lambda event: self._clicked(view, event.client_id))
        return handle


def _shape(photos: Photos, view: int) -> tuple[float, float]:
    """Vertical field of view in radians, and width / height."""
    if photos.cameras is not None:
        width, height = photos.cameras.size[view].tolist()
        return float(photos.cameras.vfov[view]), width / height
    height, width = photos.pictures[view].shape[-2:]  # how wide it sees is not known
    return 2 * math.atan(math.tan(math.radians(VIEW_FOV_DEG) / 2) * height / width), width / height


def _frustum_size(scene: Reconstruction, positions: np.ndarray) -> float:
    """World units: a share of the scene, but so that neighbours do not cover each other."""
    if not scene.gaussians.num_gaussians:
        return 1.0
    size = _SIZE * scene_body(scene.gaussians).radius
    if len(positions) > 1:
        spacing = float(np.median(np.linalg.norm(np.diff(positions, axis=0), axis=-1)))
        size = min(size, _SPACING * spacing) if spacing > 0 else size
    return size


def _thumbnail(picture: Tensor) -> np.ndarray:
    """A photo with few pixels."""
    step = max(1, max(picture.shape[-2:]) // _THUMBNAIL_SIDE)
    pixels: np.ndarray = to_pixels(picture[:, ::step, ::step])
    return pixels
