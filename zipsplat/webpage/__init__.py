"""One self-contained web page with a scene and a viewer: nothing is fetched, no server is needed.

The scene travels as SPZ in base64; the viewer beside this file is plain JavaScript and WebGL 2.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from os import PathLike, fspath
from pathlib import Path
from typing import BinaryIO

import torch

from zipsplat._version import __version__
from zipsplat.camera import Camera
from zipsplat.files import write_atomically
from zipsplat.gaussians import Gaussians
from zipsplat.webpage.start_view import StartView, first_view

__all__ = ["StartView", "first_view", "page", "write_page"]

_SOURCES = (
    "splat.vert.glsl",
    "splat.frag.glsl",
    "resolve.vert.glsl",
    "resolve.frag.glsl",
    "sorter.js",
    "scene.js",
    "camera.js",
    "controls.js",
    "renderer.js",
    "viewer.js",
)
_POSTER_SIZE = (640, 400)
_SECONDS_PER_TURN = 30.0
_WIGGLE_DEG = 16.0
_TO_SPZ_AXES = torch.tensor([1.0, -1.0, -1.0])
WHITE = (1.0, 1.0, 1.0)


def write_page(
    path: str | PathLike[str],
    gaussians: Gaussians,
    *,
    title: str | None = None,
    note: str = "",
    start: StartView | None = None,
    background: Sequence[float] = WHITE,
    autoplay: bool = True,
) -> None:
    """Write a page that shows one scene in any browser, also when opened from disk.

    Args:
        path: name of the page, ending in .html; its folder is made.
        gaussians: one scene (N,).
        title: heading of the page; the name of the file if not given.
        note: a line about the licence of the pictures and weights that the scene comes from.
        start: first view; chosen by `first_view` if not given.
        background: colour behind the scene, RGB in [0, 1].
        autoplay: whether the scene turns until somebody touches it.

    Raises:
        ValueError: if the scene is a batch or holds values that are no numbers, or a colour is
            outside [0, 1].
    """
    name = Path(fspath(path)).stem
    text = page(
        gaussians,
        title=title or name,
        note=note,
        start=start,
        background=background,
        autoplay=autoplay,
    )
    write_atomically(path, lambda file: _write(file, text))


def page(
    gaussians: Gaussians,
    *,
    title: str,
    note: str = "",
    start: StartView | None = None,
    background: Sequence[float] = WHITE,
    autoplay: bool = True,
) -> str:
    """The text of the page; see `write_page`."""
    if len(background) != 3 or not all(0 <= value <= 1 for value in background):
        raise ValueError(f"background must be three numbers in [0, 1], got {tuple(background)}")
    scene = gaussians.to_bytes("spz")
    start = start or first_view(gaussians)
    settings = {**_settings(start), "background": list(background), "autoplay": autoplay}
    settings["name"] = re.sub(r"[^\w.-]+", "-", title).strip("-.") or "scene"
    values = {
        "version": __version__,
        "title": html.escape(title),
        "note": html.escape(note),
        "facts": _facts(gaussians, len(scene)),
        "poster": _poster(gaussians, start, background),
        "style": _style(background),
        "config": json.dumps(settings).replace("<", "\\u003c"),
        "scene": base64.b64encode(scene).decode("ascii"),
        **{name: _source(name) for name in _SOURCES},
    }
    return re.sub(r"@@([\w.]+)@@", lambda match: values[match[1]], _source("page.html"))


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode("utf-8"))


def _source(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _settings(start: StartView) -> dict[str, object]:
    """The first view in the axes of SPZ, angles in radians."""
    axes = start.pose.R.detach().cpu().float().T * _TO_SPZ_AXES
    position = start.pose.t.detach().cpu().float() * _TO_SPZ_AXES
    sweep = start.sweep_deg
    return {
        "start": {
            "position": position.tolist(),
            "axes": axes.tolist(),
            "distance": start.distance,
            "fov": math.radians(start.fov_deg),
        },
        "sweep": None if sweep is None else math.radians(sweep) / _SECONDS_PER_TURN,
        "wiggle": math.radians(_WIGGLE_DEG),
    }


def _facts(gaussians: Gaussians, num_bytes: int) -> str:
    degree = gaussians.max_sh_degree
    kilobytes = max(1, round(num_bytes / 1e3))
    size = f"{kilobytes} KB" if kilobytes < 1000 else f"{num_bytes / 1e6:.1f} MB"
    return (
        f"{gaussians.num_gaussians:,} Gaussians, spherical harmonics of degree {degree}, "
        f"{size}. Made with ZipSplat {__version__}."
    )


def _style(background: Sequence[float]) -> str:
    """The style sheet, with dark writing on light backgrounds and light writing on dark ones."""
    red, green, blue = (round(255 * value) for value in background)
    ink = "#222" if 0.3 * red + 0.6 * green + 0.1 * blue > 110 else "#eee"
    return f":root {{ --background: rgb({red} {green} {blue}); --ink: {ink}; }}\n" + _source(
        "viewer.css"
    )


def _poster(gaussians: Gaussians, start: StartView, background: Sequence[float]) -> str:
    """The first view as a JPEG inside a data address, shown until the browser has drawn it."""
    from PIL import Image

    width, height = _POSTER_SIZE
    focal = height / 2 / math.tan(math.radians(start.fov_deg) / 2)
    camera = Camera.from_focal(focal, w=width, h=height)
    color = torch.tensor(background, dtype=gaussians.dtype, device=gaussians.device)
    with torch.no_grad():
        picture, _ = gaussians.render(camera, start.pose, backgrounds=color)
    pixels = (picture[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
