"""Panel section for photos: thumbnails, uploads, reconstruction."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from zipsplat.figures import contact_sheet, to_pixels
from zipsplat.viewer.host import Host
from zipsplat.viewer.photo_source import MAX_SIDE
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.uploads import Upload, load_upload
from zipsplat.viewer.worker import Job

_COLUMNS, _CELL_WIDTH = 4, 72


class PhotoPanel:
    """Thumbnails, uploads, a button to reconstruct, and buttons to fly from photo to photo.

    The camera of the first photo is the world of the scene, so it is always known; the others are
    known if poses were given or found. Known cameras are shown as frustums.
    """

    def __init__(self, viewer: Host) -> None:
        self._viewer = viewer
        self._photos = Photos()
        self._added: tuple[Tensor, ...] = ()
        self._num_uploads = 0
        self._num_cameras = 0
        self._visited: dict[int, int] = {}  # last photo visited, by client id
        self._lock = threading.Lock()
        gui: Any = viewer.server.gui
        with gui.add_folder("Photos"):
            self._sheet = gui.add_image(np.full((1, 1, 3), 255, np.uint8), visible=False)
            self._text = gui.add_markdown("None.")
            self._show = gui.add_checkbox(
                "Show cameras",
                False,  # off: the first frustum is at the start view and would fill it
                hint="Camera frustums of the photos, where known.",
            )
            self._where = gui.add_markdown("", visible=False)
            self._steps = (
                gui.add_button("Previous photo", disabled=True),
                gui.add_button("Next photo", disabled=True),
            )
            upload = gui.add_upload_button(
                "Add a photo, video or .zip",
                hint="One file at a time; a .zip may hold many photos.",
            )
            self._keep = gui.add_checkbox(
                "Keep present photos", True, hint="If off, only the added photos are used."
            )
            self._make = gui.add_button("Reconstruct", disabled=True)
        self._show.on_update(lambda _: viewer.browsers.show_photos(None, self._show.value))
        for button, step in zip(self._steps, (-1, 1), strict=True):
            button.on_click(viewer.handled(partial(self._walk, step)))
        upload.on_upload(viewer.handled(self._receive))
        self._make.on_click(viewer.handled(self._reconstruct))

    def show(self, scene: Reconstruction) -> None:
        """Show the photos of a scene."""
        with self._lock:
            self._photos = scene.photos
            used = {id(image) for image in scene.photos.images}
            self._added = tuple(image for image in self._added if id(image) not in used)
        self._describe()
        poses = scene.poses
        self._num_cameras = 0 if poses is None else len(poses.t)
        self._visited.clear()
        self._where.visible = False
        for button in self._steps:
            button.disabled = not self._num_cameras
        if self._num_cameras and not self._show.value:
            self._show.value = True
        self._viewer.browsers.show_photos(scene, self._show.value)

    def _receive(self, event: Any) -> None:
        """Load an uploaded file in the background."""
        options = self._viewer.options
        upload = Upload(event.target.value.name, event.target.value.content)

        def work(job: Job) -> None:
            images = load_upload(
                upload,
                options.num_frames,
                MAX_SIDE,
                options.max_upload_bytes,
                job.stage(f"Reading {upload.name}"),
            )
            with self._lock:
                self._added += images
            self._describe()

        self._num_uploads += 1
        self._viewer.run(f"upload {self._num_uploads}", work, event.client_id)

    def _reconstruct(self, event: Any) -> None:
        with self._lock:
            photos = self._photos if self._keep.value else Photos()
            photos = photos.plus(self._added) if self._added else photos
        if not photos.images:
            raise ValueError("there are no photos to reconstruct from; add some first")
        self._viewer.reconstruct(photos, event.client_id)

    def _describe(self) -> None:
        images = self._photos.images + self._added
        names = [str(index + 1) for index in range(len(self._photos.images))]
        names += ["added"] * len(self._added)
        added = f", {len(self._added)} added" if self._added else ""
        self._text.content = f"{len(self._photos.images)} in the scene{added}."
        self._make.disabled = not images
        self._sheet.visible = bool(images)
        if images:
            cells = [to_pixels(image) for image in images]
            self._sheet.image = contact_sheet(
                cells, names, columns=_COLUMNS, cell_width=_CELL_WIDTH
            )

    def _walk(self, step: int, event: Any) -> None:
        """Fly to the next or previous photo, wrapping around; browsers start at the first."""
        if not self._num_cameras:
            raise ValueError("the cameras of the photos are unknown")
        last = self._visited.get(event.client_id, 0)
        self.visit((last + step) % self._num_cameras, event.client_id)

    def visit(self, view: int, client_id: int) -> None:
        """Fly the camera of one browser to a photo."""
        if not self._num_cameras:  # only the first photo has a frustum, with unknown field of view
            self._viewer.reset_cameras(client_id)
            return
        self._visited[client_id] = view
        self._where.content = f"{self._photos.name(view)} ({view + 1} of {self._num_cameras})"
        self._where.visible = True
        self._viewer.fly_to_photo(view, client_id)
