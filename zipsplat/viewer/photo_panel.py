"""The part of the panel about the photos: those of the scene, those added, and reconstructing."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from zipsplat.figures import contact_sheet, to_pixels
from zipsplat.framing import scene_body
from zipsplat.viewer.cameras import VIEW_FOV_DEG
from zipsplat.viewer.inputs import MAX_SIDE
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.uploads import Upload, load_upload
from zipsplat.viewer.worker import Job

if TYPE_CHECKING:
    from zipsplat.viewer.app import Viewer

_COLUMNS, _CELL_WIDTH = 4, 72
_FRUSTUM_SIZE = 0.12  # of the scene's radius


class PhotoPanel:
    """Thumbnails, uploads, and a button that makes a scene of them.

    Where a photo was taken is known for the first, which the scene's world is the camera of, and
    for all if poses were given; those stand in the scene as frustums.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._photos = Photos()
        self._added: tuple[Tensor, ...] = ()
        self._num_uploads = 0
        self._frustums: list[Any] = []
        self._lock = threading.Lock()
        gui: Any = viewer.server.gui
        with gui.add_folder("Photos"):
            self._sheet = gui.add_image(np.full((1, 1, 3), 255, np.uint8), visible=False)
            self._text = gui.add_markdown("None.")
            self._show = gui.add_checkbox(
                "Show cameras",
                False,  # the first stands where the view starts, and would fill it
                hint="Where photos were taken, as far as it is known.",
            )
            upload = gui.add_upload_button(
                "Add a photo, video or .zip",
                hint="A browser sends one file at a time; a .zip may hold many photos.",
            )
            self._keep = gui.add_checkbox(
                "Keep present photos", True, hint="Otherwise only the added ones are used."
            )
            self._make = gui.add_button("Reconstruct", disabled=True)
        self._show.on_update(lambda _: self._show_frustums())
        upload.on_upload(viewer.handled(self._receive))
        self._make.on_click(viewer.handled(self._reconstruct))

    def show(self, scene: Reconstruction) -> None:
        """Show the photos of a scene."""
        with self._lock:
            self._photos = scene.photos
            used = {id(picture) for picture in scene.photos.pictures}
            self._added = tuple(picture for picture in self._added if id(picture) not in used)
        self._describe()
        for frustum in self._frustums:
            frustum.remove()
        self._frustums = _frustums(self._viewer, scene)
        self._show_frustums()

    def _receive(self, event: Any) -> None:
        """Load an uploaded file in the background."""
        options = self._viewer.options
        upload = Upload(event.target.value.name, event.target.value.content)

        def work(job: Job) -> None:
            pictures = load_upload(
                upload,
                options.num_frames,
                MAX_SIDE,
                options.max_upload_bytes,
                job.stage(f"Reading {upload.name}"),
            )
            with self._lock:
                self._added += pictures
            self._describe()

        self._num_uploads += 1
        self._viewer.run(f"upload {self._num_uploads}", work, event.client_id)

    def _reconstruct(self, event: Any) -> None:
        with self._lock:
            photos = self._photos if self._keep.value else Photos()
            photos = photos.plus(self._added) if self._added else photos
        if not photos.pictures:
            raise ValueError("there are no photos to reconstruct from; add some first")
        self._viewer.reconstruct(photos, event.client_id)

    def _describe(self) -> None:
        pictures = self._photos.pictures + self._added
        names = [str(index + 1) for index in range(len(self._photos.pictures))]
        names += ["added"] * len(self._added)
        added = f", {len(self._added)} added" if self._added else ""
        self._text.content = f"{len(self._photos.pictures)} in the scene{added}."
        self._make.disabled = not pictures
        self._sheet.visible = bool(pictures)
        if pictures:
            cells = [to_pixels(picture) for picture in pictures]
            self._sheet.image = contact_sheet(
                cells, names, columns=_COLUMNS, cell_width=_CELL_WIDTH
            )

    def _show_frustums(self) -> None:
        for frustum in self._frustums:
            frustum.visible = self._show.value


def _frustums(viewer: Viewer, scene: Reconstruction) -> list[Any]:
    """A frustum with its photo for each view whose place is known."""
    photos = scene.photos
    if not photos.pictures or not scene.gaussians.num_gaussians:
        return []
    poses = photos.relative_poses()
    size = _FRUSTUM_SIZE * scene_body(scene.gaussians).radius
    frustums = []
    world: Any = viewer.server.scene
    for index, picture in enumerate(photos.pictures[: 1 if poses is None else None]):
        height, width = picture.shape[-2:]
        if photos.cameras is None:  # how wide the photo sees is not known
            vfov = 2 * math.atan(math.tan(math.radians(VIEW_FOV_DEG) / 2) * height / width)
        else:
            vfov = float(photos.cameras.vfov[index])
        frustum = world.add_camera_frustum(
            f"/photos/{index + 1}",
            fov=vfov,
            aspect=width / height,
            scale=size,
            thickness=0.02 * size,
            image=_thumbnail(picture),
            format="jpeg",
            wxyz=(1.0, 0.0, 0.0, 0.0) if poses is None else poses.quat[index].tolist(),
            position=(0.0, 0.0, 0.0) if poses is None else poses.t[index].tolist(),
            visible=False,
        )
        frustums.append(frustum)
    return frustums


def _thumbnail(picture: Tensor) -> np.ndarray:
    """A photo with few pixels."""
    step = max(1, max(picture.shape[-2:]) // 256)
    pixels: np.ndarray = to_pixels(picture[:, ::step, ::step])
    return pixels
