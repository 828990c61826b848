"""Films of a scene, drawn by our own renderer, as the bytes of an .mp4."""

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
class Film:
    """What to film.

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


def film(scene: Gaussians, order: Film, report: Callable[[int, int], None]) -> bytes:
    """Draw and encode a film.

    Args:
        scene: (N,) at least one Gaussian.
        order: what to film.
        report: is told (drawn frames, all frames).
    """
    red, green, blue = order.background
    look = Look(bg=(red / 255, green / 255, blue / 255), chunk=1)
    frames = render_frames(scene, film_camera(order), film_poses(scene, order), look, report)
    with TemporaryDirectory(prefix="zipsplat-viewer-") as folder:
        file = Path(folder) / "film.mp4"
        write_video(file, frames, FPS)
        return file.read_bytes()


def film_camera(order: Film) -> Camera:
    """The camera of all frames; its field of view is horizontal, as in files of camera paths."""
    width, height = order.size
    fov_deg = VIEW_FOV_DEG if order.path is None else order.path.fov_deg or VIEW_FOV_DEG
    return Camera.from_focal(width / 2 / math.tan(math.radians(fov_deg) / 2), w=width, h=height)


def film_poses(scene: Gaussians, order: Film) -> Pose:
    """The camera's places (F,), one for each frame."""
    num_frames = max(1, round(order.seconds * FPS))
    if order.path is not None:
        return interpolate_poses(order.path.poses, num_frames, closed=order.is_loop)
    camera = film_camera(order)
    around = camera_orbit(
        scene.transform(upright_rotation(order.up_axis).inv()),
        num_frames,
        fov_deg=math.degrees(min(float(camera.hfov), float(camera.vfov))),
        sweep_deg=360.0 if order.move == "Orbit" else None,
    )
    return turned(around.cpu(), order.up_axis)
