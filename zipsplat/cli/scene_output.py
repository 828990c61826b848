"""Scene files that commands write: the formats of `Gaussians.save`, and pages for browsers."""

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
"""Behind scenes that were optimised against photos, as 3DGS does it: they are opaque on it."""


def check_scene_file(path: Path) -> None:
    """Raise a `ValueError` unless a scene can be written under this name."""
    from zipsplat.formats import by_suffix

    if not is_page(path):
        try:
            by_suffix(path)
        except ValueError as error:
            raise ValueError(f"{error}, .html (a page for browsers)") from error


def write_scene(
    path: Path,
    scene: Gaussians,
    *,
    note: str = "",
    title: str | None = None,
    photos: SceneCameras | PosedImages | None = None,
    autoplay: bool | str | CameraPath = True,
) -> None:
    """Write a scene in the format that the suffix names.

    Args:
        path: checked by `check_scene_file`.
        scene: one scene (N,).
        note: about licences; shown on pages, and kept in scene files that have a place for it.
        title: of pages; the name of the file if not given.
        photos: with cameras in the world of the scene, which pages start from and fly through.
        autoplay: of pages; see `zipsplat.webpage.write_page`.
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
    """Whether a name is that of a page for browsers."""
    return path.suffix.lower() in PAGE_SUFFIXES
