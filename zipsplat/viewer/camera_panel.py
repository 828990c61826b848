"""Panel section for camera paths: record, save, load, render a video."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from zipsplat.framing import scene_body
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath, load_camera_path, save_camera_path
from zipsplat.viewer.host import Host
from zipsplat.viewer.video_export import MOVES, SIZES, VideoSettings, export_video
from zipsplat.viewer.viewpoints import VIEW_FOV_DEG
from zipsplat.viewer.worker import Job

MAX_PATH_BYTES = 10_000_000
_KEY_SIZE = 0.05  # of the scene's radius


class CameraPanel:
    """A camera path shared by all browsers, and videos along it or around the scene."""

    def __init__(self, viewer: Host) -> None:
        self._viewer = viewer
        self.path: CameraPath | None = None
        self._keys: list[Any] = []
        gui: Any = viewer.server.gui
        with gui.add_folder("Camera path", expand_by_default=False):
            self._text = gui.add_markdown("No views yet.")
            add = gui.add_button("Add this view")
            clear = gui.add_button("Clear path", color="gray")
            save = gui.add_button("Save path")
            load = gui.add_upload_button("Load path", mime_type="application/json")
        with gui.add_folder("Video", expand_by_default=False):
            self._move = gui.add_dropdown("Move", MOVES)
            self._size = gui.add_dropdown("Size", tuple(SIZES), initial_value=next(iter(SIZES)))
            self._seconds = gui.add_number("Seconds", 4.0, min=0.1, max=120.0, step=0.1)
            self._is_loop = gui.add_checkbox("Loop", False, hint="Close the recorded path.")
            render = gui.add_button("Render video")
        add.on_click(viewer.handled(self._add))
        clear.on_click(viewer.handled(lambda _: self._set(None)))
        save.on_click(viewer.handled(self._save))
        load.on_upload(viewer.handled(self._load))
        render.on_click(viewer.handled(self._record))

    def _add(self, event: Any) -> None:
        camera = self._viewer.browsers.view(event.client_id).camera()
        pose = camera.pose()[None]
        if self.path is None:
            self._set(CameraPath(pose, camera.hfov_deg))
        else:
            keys = self.path.poses
            poses = Pose(torch.cat((keys.R, pose.R)), torch.cat((keys.t, pose.t)))
            self._set(replace(self.path, poses=poses))

    def _save(self, event: Any) -> None:
        with TemporaryDirectory(prefix="zipsplat-viewer-") as folder:
            file = Path(folder) / "path.json"
            save_camera_path(self._recorded(), file)
            name = f"{self._viewer.options.name}-path.json"
            self._viewer.browsers.send_file(name, file.read_bytes(), event.client_id)

    def _load(self, event: Any) -> None:
        upload = event.target.value
        if len(upload.content) > MAX_PATH_BYTES:
            raise ValueError(f"{upload.name}: too large for a camera path")
        with TemporaryDirectory(prefix="zipsplat-viewer-") as folder:
            file = Path(folder) / "path.json"
            file.write_bytes(upload.content)
            try:
                self._set(load_camera_path(file))
            except ValueError as error:
                raise ValueError(str(error).replace(str(file), upload.name)) from error

    def _record(self, event: Any) -> None:
        viewer = self._viewer
        scene, client_id = viewer.scene_as_kept(), event.client_id
        settings = VideoSettings(
            move=self._move.value,
            size=SIZES[self._size.value],
            seconds=self._seconds.value,
            up_axis=viewer.up_axis,
            background=viewer.look.background,
            path=self._recorded() if self._move.value == "Recorded path" else None,
            is_loop=self._is_loop.value,
        )

        def work(job: Job) -> None:
            content = export_video(scene, settings, job.stage("Rendering video"))
            name = f"{viewer.options.name}-{settings.move.split()[0].lower()}.mp4"
            viewer.browsers.send_file(name, content, client_id)

        viewer.run(f"video {client_id}", work, client_id)

    def _recorded(self) -> CameraPath:
        if self.path is None:
            raise ValueError("the camera path is empty; add views to it or load one first")
        return self.path

    def _set(self, path: CameraPath | None) -> None:
        """Replace the path and show its views."""
        self.path = path
        num = 0 if path is None else len(path.poses)
        self._text.content = f"{num} views." if num != 1 else "1 view."
        for key in self._keys:
            key.remove()
        self._keys = [] if path is None else _key_frustums(self._viewer, path.poses)


def _key_frustums(viewer: Host, poses: Pose) -> list[Any]:
    scene = viewer.scene
    has_extent = scene is not None and scene.gaussians.num_gaussians
    size = _KEY_SIZE * (scene_body(scene.gaussians).radius if scene and has_extent else 1.0)
    world: Any = viewer.server.scene
    return [
        world.add_camera_frustum(
            f"/path/{index + 1}",
            fov=math.radians(VIEW_FOV_DEG),
            aspect=1.5,
            scale=size,
            thickness=0.04 * size,
            color=(200, 60, 20),
            wxyz=poses.quat[index].tolist(),
            position=poses.t[index].tolist(),
        )
        for index in range(len(poses))
    ]
