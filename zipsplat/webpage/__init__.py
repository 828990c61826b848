"""A self-contained web page with a scene and a viewer, which needs no server and no network.

The scene is embedded as SPZ in base64; the viewer beside this file is plain JavaScript and WebGL 2.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from os import PathLike, fspath
from pathlib import Path

import torch

from zipsplat._version import __version__
from zipsplat.camera import Camera
from zipsplat.files import write_text
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath
from zipsplat.webpage.photo_cameras import MAX_CAMERAS, PhotoCamera, photo_cameras
from zipsplat.webpage.rule_constants import with_rules
from zipsplat.webpage.start_view import StartView, first_view
from zipsplat.webpage.tour import Tour, tour, waypoints

__all__ = ["MAX_CAMERAS", "StartView", "first_view", "page", "write_page"]

_SOURCES = (
    "splat.vert.glsl",
    "splat.frag.glsl",
    "resolve.vert.glsl",
    "resolve.frag.glsl",
    "sorter.js",
    "scene.js",
    "camera.js",
    "flight.js",
    "controls.js",
    "renderer.js",
    "viewer.js",
)
_POSTER_WIDTH, _POSTER_ASPECT = 640, 1.6
_SECONDS_PER_TURN = 30.0
_WIGGLE_DEG = 16.0
_TO_SPZ_AXES = torch.tensor([1.0, -1.0, -1.0])
WHITE = (1.0, 1.0, 1.0)
PHOTOS = "photos"

Autoplay = bool | str | CameraPath


def write_page(
    path: str | PathLike[str],
    gaussians: Gaussians,
    *,
    title: str | None = None,
    note: str = "",
    start: StartView | None = None,
    background: Sequence[float] = WHITE,
    autoplay: Autoplay = True,
    cameras: Camera | None = None,
    poses: Pose | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Write a page that shows one scene in any browser, even when opened from disk.

    With the cameras of the photos it starts at the first one, with the whole photo in view, and can
    fly from photo to photo. The page contains camera parameters and names, but no photos.

    Args:
        path: name of the page, ending in .html; its folder is created.
        gaussians: one scene (N,).
        title: heading of the page; default is the file name.
        note: a line about the licence of the photos and weights used.
        start: first view; default is the first photo, or else `first_view`.
        background: colour behind the scene, RGB in [0, 1].
        autoplay: whether the scene turns until the user takes over; or "photos", to fly through the
            cameras of the photos; or a camera path in the world of the scene, to fly along. Without
            photos, ‹ and › step through the cameras of that path.
        cameras: (V,) intrinsics of the photos; at most `MAX_CAMERAS`, evenly spaced, are used.
        poses: (V,) their camera-to-world poses in the world of the scene.
        names: of the photos, shown as text; default "photo 1" and so on.

    Raises:
        ValueError: if the scene is a batch or contains NaN, a colour is outside [0, 1], cameras and
            poses are not given together with equal counts, or autoplay needs them and they are
            missing.
    """
    name = Path(fspath(path)).stem
    text = page(
        gaussians,
        title=title or name,
        note=note,
        start=start,
        background=background,
        autoplay=autoplay,
        cameras=cameras,
        poses=poses,
        names=names,
    )
    write_text(path, text)


def page(
    gaussians: Gaussians,
    *,
    title: str,
    note: str = "",
    start: StartView | None = None,
    background: Sequence[float] = WHITE,
    autoplay: Autoplay = True,
    cameras: Camera | None = None,
    poses: Pose | None = None,
    names: Sequence[str] | None = None,
) -> str:
    """The text of the page; see `write_page`."""
    if len(background) != 3 or not all(0 <= value <= 1 for value in background):
        raise ValueError(f"background must be three numbers in [0, 1], got {tuple(background)}")
    scene = gaussians.to_bytes("spz")
    photos = _photos(gaussians, cameras, poses, names)
    path = _tour(gaussians, photos, autoplay)
    if isinstance(autoplay, CameraPath):
        photos = photos or waypoints(gaussians, autoplay)
    opening = _opening(gaussians, start, photos if path is None else path.views)
    settings = {
        **_settings(opening, photos),
        "path": None if path is None else [_view(view) for view in path.views],
        "pathSeconds": 0.0 if path is None else path.seconds,
        "background": list(background),
        "autoplay": bool(autoplay),
    }
    settings["name"] = re.sub(r"[^\w.-]+", "-", title).strip("-.") or "scene"
    values = {
        "version": __version__,
        "title": html.escape(title),
        "note": html.escape(note),
        "facts": _facts(gaussians, len(scene)),
        "poster": _poster(gaussians, opening, background),
        "style": _style(background, opening),
        "config": json.dumps(settings).replace("<", "\\u003c"),
        "scene": base64.b64encode(scene).decode("ascii"),
        **{name: with_rules(name, _source(name)) for name in _SOURCES},
    }
    return re.sub(r"@@([\w.]+)@@", lambda match: values[match[1]], _source("page.html"))


def _source(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Opening:
    """The first view: a pose, the distance of its pivot, its extent, and its turntable."""

    pose: Pose
    distance: float
    extent: tuple[float, float]
    sweep_deg: float | None


def _photos(
    gaussians: Gaussians,
    cameras: Camera | None,
    poses: Pose | None,
    names: Sequence[str] | None,
) -> list[PhotoCamera]:
    if cameras is None and poses is None:
        return []
    if cameras is None or poses is None:
        missing = "cameras" if cameras is None else "poses"
        raise ValueError(f"a page takes cameras and poses together; there are no {missing}")
    return photo_cameras(gaussians, cameras, poses, names)


def _tour(gaussians: Gaussians, photos: list[PhotoCamera], autoplay: Autoplay) -> Tour | None:
    """The tour to play, unless it is a turntable."""
    if isinstance(autoplay, CameraPath):
        return tour(waypoints(gaussians, autoplay))
    if isinstance(autoplay, bool):
        return None
    if autoplay != PHOTOS:
        raise ValueError(f"autoplay is true, false, {PHOTOS!r} or a camera path, got {autoplay!r}")
    if not photos:
        raise ValueError("autoplay through the photos needs their cameras, and there are none")
    return tour(photos)


def _opening(
    gaussians: Gaussians, start: StartView | None, photos: Sequence[PhotoCamera]
) -> _Opening:
    if start is None and photos:
        first = photos[0]
        return _Opening(first.pose, first.distance, first.extent, None)
    start = start or first_view(gaussians)
    half = math.tan(math.radians(start.fov_deg) / 2)
    return _Opening(start.pose, start.distance, (half, half), start.sweep_deg)


def _settings(opening: _Opening, photos: Sequence[PhotoCamera]) -> dict[str, object]:
    """The viewer's settings, in the axes of SPZ, angles in radians."""
    sweep = opening.sweep_deg
    return {
        "start": _view(opening),
        "photos": [{"name": photo.name, **_view(photo)} for photo in photos],
        "sweep": None if sweep is None else math.radians(sweep) / _SECONDS_PER_TURN,
        "wiggle": math.radians(_WIGGLE_DEG),
    }


def _view(view: _Opening | PhotoCamera) -> dict[str, object]:
    """A view in the axes of SPZ; axes are the rows right, down, forward."""
    axes = view.pose.R.detach().cpu().float().T * _TO_SPZ_AXES
    position = view.pose.t.detach().cpu().float() * _TO_SPZ_AXES
    return {
        "position": [_short(value) for value in position.tolist()],
        "axes": [[_short(value) for value in row] for row in axes.tolist()],
        "distance": _short(view.distance),
        "extent": [_short(value) for value in view.extent],
    }


def _short(value: float) -> float:
    """Round to the digits that float32 holds."""
    return float(f"{value:.7g}")


def _facts(gaussians: Gaussians, num_bytes: int) -> str:
    degree = gaussians.max_sh_degree
    kilobytes = max(1, round(num_bytes / 1e3))
    size = f"{kilobytes} KB" if kilobytes < 1000 else f"{num_bytes / 1e6:.1f} MB"
    return (
        f"{gaussians.num_gaussians:,} Gaussians, spherical harmonics of degree {degree}, "
        f"{size}. Made with ZipSplat {__version__}."
    )


def _style(background: Sequence[float], opening: _Opening) -> str:
    """The style sheet, with dark text on light backgrounds and light text on dark ones."""
    red, green, blue = (round(255 * value) for value in background)
    ink = "#222" if 0.3 * red + 0.6 * green + 0.1 * blue > 110 else "#eee"
    shape = opening.extent[0] / opening.extent[1]
    colors = f"--background: rgb({red} {green} {blue}); --ink: {ink};"
    return f":root {{ {colors} --shape: {shape:.6g}; }}\n" + _source("viewer.css")


def _poster(gaussians: Gaussians, opening: _Opening, background: Sequence[float]) -> str:
    """The first view as a JPEG in a data URL, shown until the browser has rendered it."""
    from PIL import Image

    x, y = opening.extent
    width = _POSTER_WIDTH
    height = max(1, round(width / max(_POSTER_ASPECT, x / y)))
    camera = Camera.from_focal(height / 2 / y, w=width, h=height)
    color = torch.tensor(background, dtype=gaussians.dtype, device=gaussians.device)
    pose = opening.pose.to(gaussians.means)
    with torch.no_grad():
        image, _ = gaussians.render(camera, pose, backgrounds=color)
    pixels = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
