"""Writing of scenes: the formats of `Gaussians.save`, and web pages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipsplat.camera_estimation.scene_cameras import SceneCameras
    from zipsplat.gaussians import Gaussians
    from zipsplat.posed_images import PosedImages
    from zipsplat.trajectories import CameraPath

PAGE_SUFFIXES = (".html", ".htm")
BLACK = (0.0, 0.0, 0.0)
"""Background of scenes optimised against photos, as in 3DGS, where they look opaque."""


def check_scene_file(path: Path) -> None:
    """Raise a `ValueError` unless the suffix is one a scene can be written to."""
    from zipsplat.formats import by_suffix

    if not is_page(path):
        try:
            by_suffix(path)
        except ValueError as error:
            raise ValueError(f"{error}, .html (a web page)") from error


def write_scene(
    path: Path,
    scene: Gaussians,
    *,
    note: str = "",
    title: str | None = None,
    photos: SceneCameras | PosedImages | None = None,
    autoplay: bool | str | CameraPath = True,
) -> None:
    """Write a scene in the format given by the suffix.

    Args:
        path: checked by `check_scene_file`.
        scene: one scene (N,).
        note: licence note; shown on pages, and stored in formats that have a place for it.
        title: heading of a page; default is the file name.
        photos: their cameras in the world of the scene, which a page starts from and flies through.
        autoplay: what a page plays; see `zipsplat.webpage.write_page`.
    """
    if not is_page(path):
        scene.save(path, note=note)
        return
    from zipsplat.webpage import write_page

    if photos is None:
        write_page(path, scene, note=note, title=title, autoplay=autoplay)
        return
    write_page(
        path,
        scene,
        note=note,
        title=title,
        background=BLACK,
        autoplay=autoplay,
        cameras=photos.cameras,
        poses=photos.poses,
        names=photos.names,
    )


def is_page(path: Path) -> bool:
    """Whether a path names a web page."""
    return path.suffix.lower() in PAGE_SUFFIXES
