"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

PARTIAL = ".partial-"
"""Begin of the names of files that are being written."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def atomic_path(path: str | PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place if the block ends without error.

    The folder is made. The temporary name keeps the suffix, for writers that look at it. A
    symbolic link stays: the file that it points to is written.

    Args:
        path: the final name.

    Raises:
        OSError: if it cannot be written; a full disk is told with the final name.
    """
    final = Path(path).resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=final.parent, prefix=PARTIAL, suffix=final.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(final)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_atomically(path: str | PathLike[str], write: Callable[[BinaryIO], None]) -> None:
    """Write a file under a temporary name and rename it when it is complete.

    Args:
        path: the final name; its folder is made.
        write: writes the contents to an open file.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write(file)


def remove_partial(folder: Path) -> None:
    """Remove what killed processes left half written in a folder and below.

    Args:
        folder: one in which no other process writes.
    """
    for path in folder.rglob(f"{PARTIAL}*"):
        if path.is_file():
            path.unlink(missing_ok=True)


def _umask() -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
