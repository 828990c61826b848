"""The cameras of the photos as frustums that show the photos."""

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
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.viewpoints import VIEW_FOV_DEG

if TYPE_CHECKING:
    import viser

Clicked = Callable[[int, int], object]

MAX_FRUSTUMS = 500
_SIZE = 0.12  # of the scene's radius
_SPACING = 0.6  # of the median distance between neighbours; larger ones would overlap
_NEAR = 0.5  # frustum sizes within which the browser's camera counts as being at a photo
_THUMBNAIL_SIDE = 256  # pixels


class Frustums:
    """The camera frustums in one browser: at most `MAX_FRUSTUMS`, evenly chosen.

    Without poses only the first photo has one, since its camera is the world of the scene. All are
    hidden while the browser's camera is at a photo, where they would block the view.

    Args:
        client: the browser.
        clicked: called with (photo index, client id).
    """

    def __init__(self, client: viser.ClientHandle, clicked: Clicked) -> None:
        self._world: Any = client.scene
        self._client_id = client.client_id
        self._clicked = clicked
        self._handles: dict[int, Any] = {}
        self._positions = np.empty((0, 3))
        self._size = 1.0
        self._is_shown = False
        self._eye = np.full(3, np.inf)
        self._lock, self._building = threading.Lock(), threading.Lock()

    @property
    def handles(self) -> list[Any]:
        """viser's handles, in the order of the photos."""
        return list(self._handles.values())

    def show(self, scene: Reconstruction, is_shown: bool) -> None:
        """Show the cameras of a scene's photos.

        Args:
            scene: with the photos.
            is_shown: whether they are visible.
        """
        photos, poses = scene.photos, scene.poses
        if poses is None:
            poses = Pose.identity((1 if photos.images else 0,))
        if not scene.gaussians.num_gaussians:
            poses = poses[:0]
        positions = poses.t.detach().cpu().double().numpy()
        count = min(len(positions), MAX_FRUSTUMS)
        views = np.linspace(0, len(positions) - 1, count).round().astype(int)
        with self._building:
            self._replace({}, positions[:0])
            self._size = _frustum_size(scene, positions)
            # Encode images without holding the lock, which the event loop waits for.
            handles = {view: self._add(photos, poses[view], view) for view in views.tolist()}
            self._is_shown = is_shown
            self._replace(handles, positions[views])

    def set_shown(self, is_shown: bool) -> None:
        """Show or hide all of them."""
        with self._lock:
            self._is_shown = is_shown
            self._update()

    def look_from(self, eye: Sequence[float]) -> None:
        """Update the centre (3,) of the browser's camera, world units."""
        with self._lock:
            self._eye = np.asarray(eye, float)
            self._update()

    def _replace(self, handles: dict[int, Any], positions: np.ndarray) -> None:
        with self._lock:
            before, self._handles, self._positions = self._handles, handles, positions
            for handle in before.values():
                handle.remove()
            self._update()

    def _update(self) -> None:
        distances = np.linalg.norm(self._positions - self._eye, axis=-1)
        is_free = bool((distances > _NEAR * self._size).all())
        for handle in self._handles.values():
            handle.visible = self._is_shown and is_free

    def _add(self, photos: Photos, pose: Pose, view: int) -> Any:
        vfov, aspect = _shape(photos, view)
        image = _thumbnail(photos.images[view]) if photos.images else None
        handle = self._world.add_camera_frustum(
            f"/photos/{view + 1}",
            fov=vfov,
            aspect=aspect,
            scale=self._size,
            thickness=0.02 * self._size,
            image=image,
            format="jpeg",
            wxyz=pose.quat.tolist(),
            position=pose.t.tolist(),
            visible=False,
        )
        handle.on_click(lambda _: self._clicked(view, self._client_id))
        return handle


def _shape(photos: Photos, view: int) -> tuple[float, float]:
    """Vertical field of view in radians, and width / height."""
    if photos.cameras is not None:
        width, height = photos.cameras.size[view].tolist()
        return float(photos.cameras.vfov[view]), width / height
    height, width = photos.images[view].shape[-2:]  # the field of view is unknown
    return 2 * math.atan(math.tan(math.radians(VIEW_FOV_DEG) / 2) * height / width), width / height


def _frustum_size(scene: Reconstruction, positions: np.ndarray) -> float:
    """Frustum size in world units: a share of the scene, but neighbours must not overlap."""
    if not scene.gaussians.num_gaussians:
        return 1.0
    size = _SIZE * scene_body(scene.gaussians).radius
    if len(positions) > 1:
        spacing = float(np.median(np.linalg.norm(np.diff(positions, axis=0), axis=-1)))
        size = min(size, _SPACING * spacing) if spacing > 0 else size
    return size


def _thumbnail(image: Tensor) -> np.ndarray:
    """A small version of a photo."""
    step = max(1, max(image.shape[-2:]) // _THUMBNAIL_SIDE)
    pixels: np.ndarray = to_pixels(image[:, ::step, ::step])
    return pixels
