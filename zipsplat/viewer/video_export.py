"""Videos of a scene, rendered by `Gaussians.render`, as the bytes of an .mp4."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from zipsplat.camera import Camera
from zipsplat.framing import camera_orbit
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath, interpolate_poses
from zipsplat.video import write_video
from zipsplat.viewer.viewpoints import VIEW_FOV_DEG, turned, upright_rotation
from zipsplat.viz import Look, render_frames

FPS = 30
MOVES = ("Orbit", "Wiggle", "Recorded path")
SIZES = {
    f"{width} × {height}": (width, height)
    for width, height in ((512, 512), (854, 480), (1280, 720), (1920, 1080), (1080, 1920))
}


@dataclass(frozen=True)
class VideoSettings:
    """What the video shows.

    Args:
        move: one of `MOVES`.
        size: width and height in pixels.
        seconds: length.
        up_axis: of the scene, for orbits and wiggles.
        background: RGB in [0, 255].
        path: for the move "Recorded path".
        is_loop: whether the recorded path is closed.
    """

    move: str
    size: tuple[int, int]
    seconds: float
    up_axis: str = "-y"
    background: tuple[int, int, int] = (255, 255, 255)
    path: CameraPath | None = None
    is_loop: bool = False


def export_video(
    scene: Gaussians, settings: VideoSettings, report: Callable[[int, int], None]
) -> bytes:
    """Render and encode a video.

    Args:
        scene: (N,) at least one Gaussian.
        settings: what the video shows.
        report: called with (rendered frames, all frames).
    """
    red, green, blue = settings.background
    look = Look(bg=(red / 255, green / 255, blue / 255), chunk=1)
    frames = render_frames(
        scene, video_camera(settings), video_poses(scene, settings), look, report
    )
    with TemporaryDirectory(prefix="zipsplat-viewer-") as folder:
        file = Path(folder) / "video.mp4"
        write_video(file, frames, FPS)
        return file.read_bytes()


def video_camera(settings: VideoSettings) -> Camera:
    """The camera of all frames; the field of view is horizontal, as in camera path files."""
    width, height = settings.size
    fov_deg = VIEW_FOV_DEG if settings.path is None else settings.path.fov_deg or VIEW_FOV_DEG
    return Camera.from_focal(width / 2 / math.tan(math.radians(fov_deg) / 2), w=width, h=height)


def video_poses(scene: Gaussians, settings: VideoSettings) -> Pose:
    """Camera-to-world poses (F,), one per frame."""
    num_frames = max(1, round(settings.seconds * FPS))
    if settings.path is not None:
        return interpolate_poses(settings.path.poses, num_frames, closed=settings.is_loop)
    camera = video_camera(settings)
    around = camera_orbit(
        scene.transform(upright_rotation(settings.up_axis).inv()),
        num_frames,
        fov_deg=math.degrees(min(float(camera.hfov), float(camera.vfov))),
        sweep_deg=360.0 if settings.move == "Orbit" else None,
    )
    return turned(around.cpu(), settings.up_axis)
