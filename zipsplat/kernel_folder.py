"""The folder of compiled kernels, which nobody but the user can write to."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

from zipsplat.files import user_cache, write_bytes

CACHE_VARIABLE = "ZIPSPLAT_KERNEL_CACHE"
_DIGEST_BYTES = 32
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_directory() -> Path:
    """`$ZIPSPLAT_KERNEL_CACHE`, or the folder of kernels in the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path.home() / "Library/Caches" if sys.platform == "darwin" else user_cache()
    return root / "zipsplat" / "kernels"


def make_own_folder(folder: Path) -> Path:
    """Create a folder for kernels, or reject one that others can write to.

    Returns:
        The folder without symbolic links, which somebody else could point elsewhere later.

    Raises:
        OSError: if it cannot be made or written, or somebody else may write there.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written")
    if sys.platform == "win32":  # no such owners and modes; users' folders are protected by default
        return folder
    mine = os.getuid()
    status = folder.stat()
    if status.st_uid != mine or status.st_mode & _OTHERS:
        raise OSError(f"others than you own {folder} or can write there")
    for parent in folder.parents:  # whoever may rename a parent can replace the folder
        status = parent.stat()
        is_open = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, mine) or is_open:
            raise OSError(f"others than you own {parent} or can write there")
    return folder


def read_checked(path: Path) -> bytes | None:
    """What `write_checked` wrote; None if it has changed since.

    Raises:
        OSError: if the file cannot be read.
    """
    content = path.read_bytes()
    payload = content[_DIGEST_BYTES:]
    return payload if hashlib.sha256(payload).digest() == content[:_DIGEST_BYTES] else None


def write_checked(path: Path, payload: bytes) -> None:
    """Write a file that begins with the digest of the rest.

    Raises:
        OSError: if it cannot be written.
    """
    write_bytes(path, hashlib.sha256(payload).digest() + payload)
