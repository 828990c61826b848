"""Panel section for sharpening: refine the scene against its photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zipsplat.refinement.settings import RefinedScene, RefinementProgress, RefinementSettings
from zipsplat.viewer.host import Host
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.sharpening import SharpeningTools, sharpen, with_cameras
from zipsplat.viewer.worker import Job, StopRequested

MAX_SECONDS = 3600.0
VERSIONS = ("Feed-forward", "Sharpened")
_PER_CENT = 100


class SharpenPanel:
    """Duration, start button, progress, and the choice between the two scenes.

    Args:
        host: the viewer.
        tools: finds cameras and refines.
    """

    def __init__(self, host: Host, tools: SharpeningTools) -> None:
        self._host, self._tools = host, tools
        self._remarks = ""
        gui: Any = host.server.gui
        with gui.add_folder("Sharpen"):
            self._text = gui.add_markdown("")
            self._seconds = gui.add_number(
                "Seconds",
                30.0,
                min=1.0,
                max=MAX_SECONDS,
                step=1.0,
                hint="Not counting the search for cameras and geometry.",
            )
            self._start = gui.add_button(
                "Sharpen",
                disabled=True,
                hint="Estimates the cameras of the photos if they are unknown, then optimises the"
                " scene until it renders like the photos.",
            )
            self._version = gui.add_dropdown(
                "Shown scene", VERSIONS, disabled=True, hint="Both are kept."
            )
        self._start.on_click(host.handled(self._sharpen))
        self._version.on_update(
            host.handled(lambda _: host.show_version(self._version.value == VERSIONS[1]))
        )

    def show(self, scene: Reconstruction, *, can_choose: bool) -> None:
        """Show which scene is displayed.

        Args:
            scene: the displayed scene.
            can_choose: whether there is another version to switch to.
        """
        self._start.disabled = not scene.photos.images
        self._version.disabled = not can_choose
        version = VERSIONS[scene.is_sharpened]
        if self._version.value != version:
            self._version.value = version

    def forget(self) -> None:
        """Clear the status, because the photos have changed."""
        self._say("", remarks=())

    def _sharpen(self, event: Any) -> None:
        seconds = float(self._seconds.value)

        def work(job: Job) -> None:
            self._host.set_sharpening(True)
            try:
                self._work(seconds, job)
            except StopRequested:
                self._say("Stopped.")
                raise
            except Exception as error:
                self._say(f"**That did not work:** {_first_line(error)}")
                raise
            finally:
                self._host.set_sharpening(False)

        self._host.run("sharpen", work, event.client_id)

    def _work(self, seconds: float, job: Job) -> None:
        scene = self._with_cameras(self._host.feed_forward(), job)
        self._say("Finding geometry to start from …")
        watcher = _Watcher(self._host, self._describe, job)
        try:
            settings = RefinementSettings(seconds=seconds)
            sharpened, refined = sharpen(scene, self._tools.refine, settings, watcher)
        except Exception:
            self._host.show_scene(scene)  # not the last intermediate state
            raise
        self._host.show_scene(sharpened)
        self._say(_outcome(refined))

    def _with_cameras(self, scene: Reconstruction, job: Job) -> Reconstruction:
        """The scene with the cameras of its photos, which are estimated if unknown."""
        if not scene.photos.images:
            raise ValueError("there are no photos to sharpen the scene with; add them first")
        if scene.photos.poses is not None:
            return scene
        self._say("Finding the cameras …", remarks=())

        def remake(photos: Photos) -> Reconstruction:
            return self._host.make_scene(photos, job)

        found = self._tools.find_cameras(scene.photos, job.stage)
        scene = with_cameras(scene, found, remake)
        self._host.show_scene(scene)
        self._say("Cameras found.", found.remarks)
        return scene

    def _say(self, text: str, remarks: Sequence[str] | None = None) -> None:
        """Show one line, and below it remarks on the cameras; None keeps the present remarks."""
        if remarks is not None:
            self._remarks = "".join(f"\n\n*{remark}*" for remark in remarks)
        self._text.content = text + self._remarks

    def _describe(self, progress: RefinementProgress) -> None:
        quality = _quality(progress.train_psnr, progress.held_out_psnr)
        size = f"{progress.num_gaussians:,} Gaussians"
        self._say(f"{quality} · {size} · {progress.seconds_left:.0f} s left")


class _Watcher:
    """Reports a refinement to the panel and the browsers."""

    def __init__(self, host: Host, describe: Any, job: Job) -> None:
        self._host, self._describe = host, describe
        self._show_share = job.stage("Sharpening")

    def report(self, progress: RefinementProgress) -> bool:
        """Show the progress; returns whether to continue."""
        self._describe(progress)
        try:
            self._show_share(round(progress.share * _PER_CENT), _PER_CENT)
        except StopRequested:
            return False
        return True

    def show(self, scene: Reconstruction) -> None:
        """Show an intermediate scene."""
        self._host.show_soon(scene)


def _quality(trained: float, held_out: float | None) -> str:
    if held_out is None:
        return f"**{trained:.1f} dB** PSNR"
    return f"**{held_out:.1f} dB** PSNR held out, {trained:.1f} trained"


def _outcome(refined: RefinedScene) -> str:
    """One line about a finished refinement."""
    count = len(refined.held_out)
    views = f"{count} held-out photo{'s' * (count > 1)}" if count else "the photos"
    end = {"interrupted": ", stopped", "converged": ", converged"}.get(refined.stopped, "")
    return (
        f"**{refined.start_psnr:.1f} → {refined.psnr:.1f} dB** PSNR of {views}"
        f" · {refined.gaussians.num_gaussians:,} Gaussians · {refined.num_steps} steps{end}"
    )


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
