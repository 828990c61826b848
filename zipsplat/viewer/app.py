"""The viewer itself: the current scene, its appearance, and the background jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from zipsplat.gaussians import Gaussians
from zipsplat.predictor import ZipSplat
from zipsplat.viewer.appearance import Appearance, kept, painted
from zipsplat.viewer.browsers import Browsers
from zipsplat.viewer.camera_panel import CameraPanel
from zipsplat.viewer.clean_up import LastCleaned
from zipsplat.viewer.cleaning_panel import CleaningPanel
from zipsplat.viewer.client_view import Shown
from zipsplat.viewer.export_panel import ExportPanel
from zipsplat.viewer.host import Options
from zipsplat.viewer.photo_panel import PhotoPanel
from zipsplat.viewer.reconstruction import Photos, Reconstruction, recompress, reconstruct
from zipsplat.viewer.scene_panel import ScenePanel
from zipsplat.viewer.server import bound_uploads
from zipsplat.viewer.sharpen_panel import SharpenPanel
from zipsplat.viewer.sharpening import SharpeningTools
from zipsplat.viewer.status_panel import StatusPanel
from zipsplat.viewer.viewpoints import Viewpoint, first_view, overview, photo_view
from zipsplat.viewer.worker import Job, StopRequested, Worker

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)


class Viewer:
    """Connects a server's panel and browsers to scenes.

    Args:
        server: guarded and running; the viewer adds the panel.
        load_model: returns the predictor; called once, when photos are first reconstructed.
        options: of the command line.
        tools: finds cameras and refines scenes.
    """

    def __init__(
        self,
        server: viser.ViserServer,
        load_model: Callable[[], ZipSplat],
        options: Options,
        tools: SharpeningTools,
    ) -> None:
        self.server = server
        self.options = options
        self.scene: Reconstruction | None = None
        self.look = Appearance(exact=options.exact)
        self.up_axis = "-y"
        self._load_model = load_model
        self._model: ZipSplat | None = None
        self._feed_forward: Reconstruction | None = None
        self._sharpened: Reconstruction | None = None
        self._is_sharpening = False
        self._clean = LastCleaned()
        self._lock = threading.RLock()
        server.scene.set_up_direction("-y")
        server.gui.main_panel.dock_right()
        self._worker = Worker(self)
        self._painter = Worker(self)
        self.browsers = Browsers(server, self._visit_photo)
        self.status = StatusPanel(self)
        self.scene_panel = ScenePanel(self)
        self.cleaning_panel = CleaningPanel(self)
        self.photo_panel = PhotoPanel(self)
        self.sharpen_panel = SharpenPanel(self, tools)
        self.camera_panel = CameraPanel(self)
        self.export_panel = ExportPanel(self)
        bound_uploads(server, options.max_upload_bytes, self._refuse_upload)

    def close(self) -> None:
        """Stop the threads; does not wait for a running job."""
        self._worker.close()
        self._painter.close()
        self.browsers.close()

    def model(self, job: Job) -> ZipSplat:
        """The predictor, loaded at first use. Only for jobs started by `run`."""
        if self._model is None:
            job.stage("Loading the weights")
            self._model = self._load_model()
        return self._model

    def run(self, name: str, work: Callable[[Job], None], client_id: int | None = None) -> Job:
        """Run a job in the background; it replaces a waiting job of the same name."""
        return self._worker.submit(Job(name, work, client_id))

    def stop_running(self) -> None:
        """Ask the running job to stop."""
        self._worker.stop_running()

    def reconstruct(self, photos: Photos, client_id: int | None = None) -> Job:
        """Reconstruct photos in the background and show the scene."""
        return self.run("reconstruct", lambda job: self.reconstruct_now(photos, job), client_id)

    def reconstruct_now(self, photos: Photos, job: Job) -> None:
        """Reconstruct photos as part of a job, and show the scene."""
        self.show_scene(self.make_scene(photos, job))

    def make_scene(self, photos: Photos, job: Job) -> Reconstruction:
        """Reconstruct photos as part of a job, without showing the scene."""
        return reconstruct(self.model(job), photos, self.scene_panel.compression, job.stage)

    def recompress(self, compression: float, client_id: int | None = None) -> Job:
        """Show the network's scene at another compression, without running the backbone again."""

        def work(job: Job) -> None:
            scene = self._feed_forward
            if scene is not None and scene.compression != compression:
                self.show_scene(recompress(self.model(job), scene, compression, job.stage))
            elif scene is not None:
                self.show_scene(scene)

        return self.run("recompress", work, client_id)

    def feed_forward(self) -> Reconstruction:
        """The scene as it came from the network or the file.

        Raises:
            ValueError: there is no scene yet.
        """
        if self._feed_forward is None:
            raise ValueError("there is no scene yet; wait for it, or add photos")
        return self._feed_forward

    def show_version(self, sharpened: bool) -> None:
        """Show the sharpened scene, or the original one from the network or file."""
        with self._lock:
            scene = self._sharpened if sharpened else self._feed_forward
            is_other = scene is not self.scene
        if scene is not None and is_other:
            self.show_soon(scene)

    def show_scene(self, scene: Reconstruction) -> None:
        """Show another scene, and wait until it has been sent."""
        self.show_soon(scene).is_over.wait()

    def show_soon(self, scene: Reconstruction) -> Job:
        """Show another scene in all browsers; cameras stay if it shows the same place."""
        with self._lock:
            before, self.scene = self.scene, scene
            has_new_photos = before is None or before.photos is not scene.photos
            if scene.is_sharpened:
                self._sharpened = scene
            else:
                self._feed_forward = scene
                self._sharpened = None if has_new_photos else self._sharpened
        if before is None or not _share_first_photo(before, scene):
            self.reset_cameras()
            self.sharpen_panel.forget()
        if has_new_photos:
            self.photo_panel.show(scene)
        self._show_version(scene)
        return self.refresh()

    def set_sharpening(self, is_running: bool) -> None:
        """Disable what would change the scene or compete for compute while it is sharpened."""
        self._is_sharpening = is_running
        self.scene_panel.hold_compression(is_running)
        if self.scene is not None:
            self._show_version(self.scene)
        self.refresh()

    def change_look(self, **changes: Any) -> None:
        """Change the appearance; `changes` are fields of `Appearance`."""
        with self._lock:
            self.look = replace(self.look, **changes)
        self.refresh()

    def set_up_axis(self, axis: str) -> None:
        """Set the axis of the scene that points up."""
        self.up_axis = axis
        self.server.scene.set_up_direction(axis)  # type: ignore[arg-type, unused-ignore]
        self.reset_cameras()

    def refresh(self) -> Job:
        """Send the scene in its current appearance to all browsers."""

        def work(_job: Job) -> None:
            with self._lock:
                scene, look = self.scene, self.look
            if self._is_sharpening:  # exact frames would compete for the CPU
                look = replace(look, exact=False)
            if scene is not None:
                gaussians = painted(scene.gaussians, look, scene.group_size, self._clean)
                shown = Shown.of(gaussians, look)
                self.browsers.show(shown)
                self.scene_panel.describe(scene, shown.scene.num_gaussians)

        return self._painter.submit(Job("refresh", work))

    def reset_cameras(self, client_id: int | None = None) -> None:
        """Move the camera of one browser, or of all, to the start view."""
        if self.scene is not None:
            start = partial(self._start_view, self.scene)
            self.browsers.place_cameras(start, client_id)

    def fly_to_photo(self, view: int, client_id: int) -> None:
        """Fly the camera of one browser to the camera of a photo.

        Raises:
            ValueError: the camera is unknown, or the browser has disconnected.
        """
        self.browsers.fly(self._photo_view(self.scene, view), client_id)

    def scene_as_kept(self) -> Gaussians:
        """The current scene after cleaning and cut-offs, in its own colours.

        Raises:
            ValueError: there is no scene, or no Gaussian is left.
        """
        if self.scene is None:
            raise ValueError("there is no scene yet; wait for it, or add photos")
        scene = kept(self.scene.gaussians, self.look, self._clean)
        if not scene.num_gaussians:
            raise ValueError("cleaning and cut-offs remove all Gaussians; lower them")
        return scene

    def handled(self, work: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback for the panel; errors are shown in the browser that caused them."""

        def call(event: Any) -> None:
            try:
                work(event)
            except Exception as error:
                self._show_error(error, event.client_id)

        return call

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show the progress of the running job."""
        self.status.show(stage, done, total)

    def ended(self, job: Job, error: Exception | None) -> None:
        """Show that a job has ended, and its error if it failed."""
        self.status.hide()
        if error is not None and not isinstance(error, StopRequested):
            self._show_error(error, job.client_id)

    def _show_version(self, scene: Reconstruction) -> None:
        can_choose = self._sharpened is not None and not self._is_sharpening
        self.sharpen_panel.show(scene, can_choose=can_choose)

    def _visit_photo(self, view: int, client_id: int) -> None:
        self.photo_panel.visit(view, client_id)

    def _photo_view(self, scene: Reconstruction | None, view: int) -> Viewpoint:
        poses = None if scene is None else scene.poses
        if scene is None or poses is None or scene.photos.cameras is None:
            raise ValueError("the cameras of the photos are unknown")
        return photo_view(scene.gaussians, scene.photos.cameras[view], poses[view])

    def _start_view(self, scene: Reconstruction, fov_deg: float) -> Viewpoint:
        if scene.poses is not None and self.up_axis == "-y":
            return self._photo_view(scene, 0)
        if scene.photos.images and self.up_axis == "-y":
            return first_view(scene.gaussians)
        return overview(scene.gaussians, self.up_axis, fov_deg)

    def _show_error(self, error: Exception, client_id: int | None) -> None:
        if not isinstance(error, (ValueError, OSError, RuntimeError, ImportError)):
            logger.error("the viewer has a bug", exc_info=error)
        self.browsers.notify("That did not work", str(error) or type(error).__name__, client_id)

    def _refuse_upload(self, client_id: int, reason: str) -> None:
        limit = self.options.max_upload_bytes / 1e6
        body = f"{reason} (at most {limit:.3g} MB; --max-upload changes that)"
        self.browsers.notify("Too large", body, client_id)


def _share_first_photo(one: Reconstruction, other: Reconstruction) -> bool:
    """Whether the world of both scenes is the camera of the same photo."""
    images, others = one.photos.images, other.photos.images
    return bool(images) and bool(others) and images[0] is others[0]
