"""Compiled kernels on disk: one file each, of the user's own, with a checksum.

A compiled kernel is machine code, and the pickle around it is a program: whoever can write such a
file can run what he likes. So files are read only from folders of the user's own (`cache_folder`),
and one that is not as it was written is compiled again.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import logging
import pickle
import platform
from pathlib import Path
from typing import Any, BinaryIO

import numba as numba_module
from numba.core import serialize as serialize_module

from zipsplat.files import write_atomically

serialize: Any = serialize_module  # its annotations differ between versions
logger = logging.getLogger(__name__)
_DIGEST_BYTES = 32


class KernelFiles:
    """The compiled forms of one function, by signature and processor.

    Args:
        folder: of the user's own; see `cache_folder.make_own_folder`.
        base: begin of their names.
    """

    def __init__(self, folder: Path, base: str) -> None:
        self.folder, self.base = folder, base

    def flush(self) -> None:
        """Remove them."""
        for path in self.folder.glob(glob.escape(self.base) + ".*.nbc"):
            path.unlink(missing_ok=True)

    def load(self, key: object) -> Any:
        """What was saved under a key, or None if there is nothing or it has changed since."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        payload = content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != content[:_DIGEST_BYTES]:
            logger.warning("replaced a damaged cache file in %s: %s", self.folder, path.name)
            return None
        found, data = pickle.loads(payload)
        return data if found == key else None

    def save(self, key: object, data: object) -> None:
        """Keep a compiled form.

        Raises:
            OSError: if it cannot be written.
        """
        payload = serialize.dumps((key, data))
        content = hashlib.sha256(payload).digest() + payload

        def write(file: BinaryIO) -> None:
            file.write(content)

        write_atomically(self._path(key), write)

    def _path(self, key: object) -> Path:
        name = hashlib.sha256(f"{_versions()} {key!r}".encode()).hexdigest()[:16]
        return self.folder / f"{self.base}.{name}.nbc"


@functools.cache
def _versions() -> str:
    return f"{numba_module.__version__} {platform.python_version()}"
