"""The interface of the viewer that the panels use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zipsplat.gaussians import Gaussians
from zipsplat.viewer.appearance import Appearance
from zipsplat.viewer.browsers import Browsers
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.worker import Job

if TYPE_CHECKING:
    import viser


@dataclass(frozen=True)
class Options:
    """Options of the command line.

    Args:
        name: base name for downloads.
        num_frames: frames to take from a video.
        compression: initial share of tokens to keep.
        max_upload_bytes: limit on all unfinished uploads together, and on the contents of a .zip.
        exact: whether exact frames are on at the start.
        note: licence note of the weights, for pages.
    """

    name: str = "scene"
    num_frames: int = 24
    compression: float = 1.0
    max_upload_bytes: int = 512_000_000
    exact: bool = False
    note: str = ""


class Host(Protocol):
    """The viewer as its panels see it; `zipsplat.viewer.app.Viewer` is one."""

    server: viser.ViserServer
    options: Options
    browsers: Browsers
    scene: Reconstruction | None
    look: Appearance
    up_axis: str

    def run(self, name: str, work: Callable[[Job], None], client_id: int | None = None) -> Job:
        """Run a job in the background."""

    def stop_running(self) -> None:
        """Ask the running job to stop."""

    def handled(self, work: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback for the panel; errors are shown in the browser that caused them."""

    def reconstruct(self, photos: Photos, client_id: int | None = None) -> Job:
        """Reconstruct photos in the background and show the scene."""

    def recompress(self, compression: float, client_id: int | None = None) -> Job:
        """Show the network's scene at another compression."""

    def feed_forward(self) -> Reconstruction:
        """The scene as it came from the network or the file; raises ValueError if there is none."""

    def make_scene(self, photos: Photos, job: Job) -> Reconstruction:
        """Reconstruct photos as part of a job, without showing the scene."""

    def show_scene(self, scene: Reconstruction) -> None:
        """Show another scene, and wait until it has been sent."""

    def show_soon(self, scene: Reconstruction) -> Job:
        """Show another scene without waiting until it has been sent."""

    def show_version(self, sharpened: bool) -> None:
        """Show the sharpened scene, or the original one from the network or file."""

    def set_sharpening(self, is_running: bool) -> None:
        """Disable what would change the scene or compete for compute while it is sharpened."""

    def change_look(self, **changes: Any) -> None:
        """Change the appearance; `changes` are fields of `Appearance`."""

    def set_up_axis(self, axis: str) -> None:
        """Set the axis of the scene that points up."""

    def reset_cameras(self, client_id: int | None = None) -> None:
        """Move the camera of one browser, or of all, to the start view."""

    def fly_to_photo(self, view: int, client_id: int) -> None:
        """Fly the camera of one browser to the camera of a photo."""

    def scene_as_kept(self) -> Gaussians:
        """The current scene after cleaning and cut-offs, in its own colours."""
