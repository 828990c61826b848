"""Which cameras file belongs to a scene file. Does not import PyTorch."""

from __future__ import annotations

from pathlib import Path

NAME = "cameras.json"


def own_file(scene: Path) -> Path:
    """`NAME.cameras.json` of the scene file `NAME.ply`, whether or not it exists."""
    return scene.with_name(f"{scene.name.split('.')[0]}.{NAME}")


def file_beside(scene: Path) -> Path | None:
    """The cameras file of a scene, if there is one."""
    folder = scene.parent
    run = folder.parent.parent if folder.name.startswith("iteration_") else folder
    places = (own_file(scene), folder / NAME, run / NAME)
    return next((path for path in places if path.is_file()), None)
