"""Files that are either whole or not there, and opening files of others."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import platform
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from filelock import FileLock

logger = logging.getLogger(__name__)

PARTIAL = ".partial-"
"""Prefix of the names of files being written."""
LOCK = ".lock"
"""Name of the lock file held by the only writer of a folder."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def user_cache() -> Path:
    """The user's cache folder.

    A relative `$XDG_CACHE_HOME` is ignored, as the XDG Base Directory Specification requires.

    Raises:
        RuntimeError: for a user without a home directory.
    """
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


def open_file(path: str | PathLike[str]) -> BinaryIO:
    """Open a file of others for reading.

    Raises:
        OSError: if it cannot be opened, or is a pipe or a device, which could block or never end.
    """
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, flags: int) -> int:
    handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for a writer
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # for a folder, `open` raises the usual error
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, "this is a pipe or a device, wanted a regular file", path)


@contextmanager
def atomic_path(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` if the block ends without error.

    Creates the folder, and removes partial files of killed processes in it. The temporary name
    keeps the suffix, for writers that depend on it. A symbolic link is kept: its target is
    replaced. An existing file keeps its permissions.

    Args:
        path: the final name.

    Raises:
        OSError: if it cannot be written; for a full disk it names `path`.
    """
    final = Path(path).resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(final.parent)
    name = f"{PARTIAL}{_this_machine()}-{os.getpid()}-{secrets.token_hex(4)}{final.suffix}"
    temporary = final.parent / name
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _try_lock(handle)  # shows other processes, even in other containers, that this one is alive
        yield temporary
        if final.exists():
            temporary.chmod(final.stat().st_mode & 0o7777)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
        sync_folder(final.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        os.close(handle)


def write_atomically(path: str | PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Write a file under a temporary name and rename it when complete.

    Args:
        path: the final name; its folder is created.
        write: writes the contents to an open file.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write(file)


def write_bytes(path: str | PathLike[str], content: bytes) -> None:
    """Write a file, completely or not at all; creates its folder."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, completely or not at all; creates its folder."""
    write_bytes(path, text.encode())


def put_aside(folder: Path) -> Path:
    """Rename a folder to `NAME.old-1`, or to the first such name that is free, and return that."""
    number = 1
    while (old := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    return folder.rename(old)


def sync_folder(folder: Path) -> None:
    """Flush a folder's directory entries to disk, where the system supports it."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not supported by some file systems
            os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(folder: Path) -> None:
    """Remove partial files of killed processes, recursively.

    Args:
        folder: no other process may be writing in it.
    """
    for path in folder.rglob(f"{PARTIAL}*"):
        if path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes while the context is open; see `lock`."""
    held = lock(folder)
    try:
        yield
    finally:
        held.release()


def lock(folder: Path) -> FileLock:
    """Lock a folder against other processes; creates it.

    Returns:
        A lock that holds until it is released or this process ends.

    Raises:
        ValueError: if another process holds the lock.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / LOCK)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another process is working in {folder}; wait for it, or choose another folder"
        ) from None
    except (OSError, NotImplementedError):  # as some network disks and mounted buckets
        logger.warning("%s cannot be locked; let no other process write there", folder)
    return held


@functools.lru_cache(maxsize=256)
def _sweep_once(folder: Path) -> None:
    """Remove partial files of dead processes of this machine in a folder, once per process.

    A process is dead if its id is free here and its file is not locked: on shared disks and in
    containers, there may be live processes that are not visible here.
    """
    for path in folder.glob(f"{PARTIAL}{_this_machine()}-*"):
        number = path.name.removeprefix(f"{PARTIAL}{_this_machine()}-").partition("-")[0]
        if number.isdecimal() and not _is_alive(int(number)):
            with contextlib.suppress(OSError):
                _remove_if_free(path)


def _remove_if_free(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        if _try_lock(handle):
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":  # on Windows, os.kill would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _try_lock(handle: int) -> bool:
    """Try to lock an open file until it is closed."""
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@functools.cache
def _this_machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
