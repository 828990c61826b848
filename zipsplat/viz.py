"""Visualization: turntables, wiggles and camera paths as images and H.264 videos.

Also re-exports `color_depth`, `depth_legend`, `contact_sheet`, camera paths and framing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zipsplat.animation import ANIMATION_SUFFIXES, write_animation
from zipsplat.camera import Camera
from zipsplat.figures import color_depth, contact_sheet, depth_legend, to_pixels
from zipsplat.framing import camera_orbit, check_scene, scene_body, scene_center_radius
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.trajectories import dolly_poses, interpolate_poses, orbit_poses
from zipsplat.video import Report, write_video

__all__ = [
    "Look",
    "camera_orbit",
    "color_depth",
    "contact_sheet",
    "depth_legend",
    "depth_range",
    "dolly_poses",
    "interpolate_poses",
    "orbit_poses",
    "render_frames",
    "render_video",
    "save_image",
    "save_video",
    "scene_center_radius",
    "turntable",
    "turntable_frames",
]

MODES = ("rgb", "depth")
RGB = Sequence[float]
WHITE = (1.0, 1.0, 1.0)
FOV_DEG = 55.0


@dataclass(frozen=True)
class Look:
    """How the frames of a video are rendered.

    Args:
        mode: "rgb", or "depth" as colours.
        bg: colour behind the scene, RGB in [0, 1].
        chunk: frames rendered at once; default 16 on a GPU and 4 on a CPU.
        renderer: as in `Gaussians.render`.
        depth_range: distances of the first and last colour; default from the scene.
    """

    mode: str = "rgb"
    bg: RGB = WHITE
    chunk: int | None = None
    renderer: str = "auto"
    depth_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {self.chunk}")
        if len(self.bg) != 3 or not all(0 <= value <= 1 for value in self.bg):
            raise ValueError(f"bg must be three numbers in [0, 1], got {tuple(self.bg)}")


def depth_range(g: Gaussians, poses: Pose) -> tuple[float, float]:
    """Nearest and farthest distance of the scene's body from these poses."""
    body = scene_body(g)
    distances = (poses.t.to(body.center) - body.center).norm(dim=-1)
    near = max(float(distances.min()) - body.radius, 0.0)
    far = float(distances.max()) + body.radius
    return (near, far) if near < far else (0.0, 1.0)


def render_frames(
    g: Gaussians,
    cameras: Camera,
    poses: Pose,
    look: Look | None = None,
    report: Report | None = None,
) -> Iterator[np.ndarray]:
    """Render the frames of a video, a few at a time.

    Args:
        g: one scene (N,).
        cameras: () or (T,), of one size.
        poses: (T,) camera-to-world.
        look: how to render; default colours on white.
        report: called with (rendered frames, all frames).

    Yields:
        (H, W, 3) uint8 RGB, rounded.
    """
    look = look or Look()
    check_scene(g)
    if poses.ndim != 1 or not len(poses):
        raise ValueError(f"poses must be (T,), at least one, got {tuple(poses.shape)}")
    limits = look.depth_range or (depth_range(g, poses) if look.mode == "depth" else (0.0, 1.0))
    # Images of more frames do not fit CPU caches (benchmarks/videos.md).
    chunk = look.chunk or (4 if g.device.type == "cpu" else 16)
    for start in range(0, len(poses), chunk):
        part = slice(start, start + chunk)
        with torch.no_grad():
            images = _render(
                g, cameras[part] if cameras.ndim else cameras, poses[part], look, limits
            )
        yield from to_pixels(images)
        if report is not None:
            report(min(start + chunk, len(poses)), len(poses))


def render_video(
    g: Gaussians, cameras: Camera, poses: Pose, *, bg: RGB = WHITE, chunk: int | None = None
) -> np.ndarray:
    """Render a scene from every pose of a path.

    Args:
        g: one scene (N,).
        cameras: () or (T,), of one size.
        poses: (T,) camera-to-world.
        bg: colour behind the scene, RGB in [0, 1].
        chunk: frames rendered at once; see `Look`.

    Returns:
        (T, H, W, 3) uint8 RGB.
    """
    return np.stack(list(render_frames(g, cameras, poses, Look(bg=bg, chunk=chunk))))


def save_video(frames: Iterable[np.ndarray], path: str | Path, fps: float = 30) -> None:
    """Write frames (H, W, 3) uint8 as an H.264 video, or as an animated .gif or .webp.

    See `zipsplat.video.write_video` and `zipsplat.animation.write_animation`.
    """
    is_animation = Path(path).suffix.lower() in ANIMATION_SUFFIXES
    (write_animation if is_animation else write_video)(path, frames, fps)


def save_image(pixels: np.ndarray, path: str | Path) -> None:
    """Write one image (H, W, 3) uint8; the suffix selects the format, e.g. `.png`."""
    from PIL import Image

    from zipsplat.files import atomic_path

    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary)


def turntable(
    g: Gaussians,
    path: str | Path,
    *,
    fov_deg: float = FOV_DEG,
    render_size: int = 512,
    num_frames: int = 180,
    fps: float = 30,
    sweep_deg: float | None = 360.0,
    elevation_deg: float = 0.0,
    bg: RGB = WHITE,
    chunk: int | None = None,
    report: Report | None = None,
) -> np.ndarray:
    """Render a scene with `turntable_frames`, and write an H.264 video.

    Args:
        g: one scene (N,).
        path: a video ending in .mp4, or an animation ending in .gif or .webp.
        fov_deg: field of view, horizontal and vertical.
        render_size: width and height in pixels.
        num_frames: number of frames.
        fps: frames per second.
        sweep_deg: angle of the orbit; None wiggles in front of the scene.
        elevation_deg: elevation of the camera; positive is above.
        bg: colour behind the scene, RGB in [0, 1].
        chunk: frames rendered at once; see `Look`.
        report: called with (rendered frames, all frames).

    Returns:
        (T, H, W, 3) uint8 RGB, the frames of the video.
    """

    def keep(stream: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for number, frame in enumerate(stream):
            frames[number] = frame
            yield frame

    stream = turntable_frames(
        g,
        fov_deg=fov_deg,
        render_size=render_size,
        num_frames=num_frames,
        sweep_deg=sweep_deg,
        elevation_deg=elevation_deg,
        look=Look(bg=bg, chunk=chunk),
        report=report,
    )
    frames = np.empty((num_frames, render_size, render_size, 3), np.uint8)
    save_video(keep(stream), path, fps)
    return frames


def turntable_frames(
    g: Gaussians,
    *,
    fov_deg: float = FOV_DEG,
    render_size: int = 512,
    num_frames: int = 180,
    sweep_deg: float | None = 360.0,
    elevation_deg: float = 0.0,
    camera: Camera | None = None,
    look: Look | None = None,
    report: Report | None = None,
) -> Iterator[np.ndarray]:
    """Render a scene from a camera that circles or wiggles around it, a few frames at a time.

    The whole body of the scene is visible in every frame of an orbit (see `zipsplat.framing`);
    scenes that surround the first camera, as rooms do, look better in a wiggle. The video loops.
    `camera` replaces the square image of `fov_deg`; see `zipsplat.framing.video_camera`. The other
    arguments are as in `turntable` and `render_frames`.
    """
    if camera is None:
        camera = Camera.from_fov(math.radians(fov_deg), w=render_size, h=render_size)
    poses = camera_orbit(
        g, num_frames, fov_deg=fov_deg, sweep_deg=sweep_deg, elevation_deg=elevation_deg
    )
    return render_frames(g, camera, poses, look, report)


def _render(
    g: Gaussians, cameras: Camera, poses: Pose, look: Look, limits: tuple[float, float]
) -> Tensor:
    """Images (T, 3, H, W) of a few frames."""
    if look.mode == "rgb":
        background = torch.tensor(look.bg, dtype=g.dtype, device=g.device)
        images, _ = g.render(cameras, poses, backgrounds=background, renderer=look.renderer)
        return images
    depth, info = g.render(cameras, poses, mode="ED", renderer=look.renderer)
    return color_depth(depth[:, 0], *limits, alpha=info["alphas"][:, 0], background=look.bg)
