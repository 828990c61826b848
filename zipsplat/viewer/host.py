"""What the parts of the panel may ask of the viewer that they belong to."""

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
    """What the command was told.

    Args:
        name: of the input, for the names of downloads.
        num_frames: of a video.
        compression: share of tokens kept at the start.
        max_upload_bytes: of all unfinished uploads, and of what a .zip unpacks to.
        exact: whether resting cameras get exact frames from the start.
        note: about the licence of the weights, for pages.
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
        """Let something run in the background."""

    def stop_running(self) -> None:
        """Ask the running job to stop."""

    def handled(self, work: Callable[[Any], None]) -> Callable[[Any], None]:
        """A callback that shows what goes wrong to the browser that caused it."""

    def reconstruct(self, photos: Photos, client_id: int | None = None) -> Job:
        """Make a scene of photos in the background and show it."""

    def recompress(self, compression: float, client_id: int | None = None) -> Job:
        """Show the scene of the network with another compression."""

    def feed_forward(self) -> Reconstruction:
        """The scene as the network or the file gave it; an error if there is none."""

    def make_scene(self, photos: Photos, job: Job) -> Reconstruction:
        """Make a scene of photos as a part of a job, without showing it."""

    def show_scene(self, scene: Reconstruction) -> None:
        """Put another scene on show, and wait until it has been sent."""

    def show_soon(self, scene: Reconstruction) -> Job:
        """Put another scene on show without waiting until it has been sent."""

    def show_version(self, sharpened: bool) -> None:
        """Show the sharpened scene, or the one of the network or file again."""

    def set_sharpening(self, is_running: bool) -> None:
        """While a scene is sharpened, nothing else changes it or takes computing time."""

    def change_look(self, **changes: Any) -> None:
        """Show the scene otherwise."""

    def set_up_axis(self, axis: str) -> None:
        """Let another axis of the scene point up."""

    def reset_cameras(self, client_id: int | None = None) -> None:
        """Bring the camera of one browser, or of all, to where the scene is best seen from."""

    def fly_to_photo(self, view: int, client_id: int) -> None:
        """Let the camera of one browser fly to where a photo was taken."""

    def scene_as_kept(self) -> Gaussians:
        """What is on show after the cut-offs, in its own colours."""
