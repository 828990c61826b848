"""Where compiled kernels are kept: in a folder that nobody else can write to."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from zipsplat.files import user_cache

CACHE_VARIABLE = "ZIPSPLAT_KERNEL_CACHE"
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_directory() -> Path:
    """Where compiled kernels are kept: `$ZIPSPLAT_KERNEL_CACHE`, or the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path.home() / "Library/Caches" if sys.platform == "darwin" else user_cache()
    return root / "zipsplat" / "kernels"


def make_own_folder(folder: Path) -> Path:
    """Make a folder for kernels, and refuse one that is not the user's alone.

    Returns:
        The folder without symbolic links, which somebody else could point elsewhere later.

    Raises:
        OSError: if it cannot be made or written, or somebody else may write there.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written")
    if sys.platform == "win32":  # has no owners of this kind; folders of users are theirs
        return folder
    mine = os.getuid()
    status = folder.stat()
    if status.st_uid != mine or status.st_mode & _OTHERS:
        raise OSError(f"others than you own {folder} or can write there")
    for parent in folder.parents:  # who may rename a folder can put another in its place
        status = parent.stat()
        is_open = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, mine) or is_open:
            raise OSError(f"others than you own {parent} or can write there")
    return folder
