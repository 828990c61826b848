"""SHA-256 digests of files, existing ones and ones being written."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

_BLOCK_BYTES = 1 << 20


def sha256_of(*files: Path) -> str:
    """Hexadecimal SHA-256 of the contents of one file, or of several one after another."""
    digest = hashlib.sha256()
    for file in files:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def _blocks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


class HashedFile(io.RawIOBase):
    """A file wrapper that hashes what is written through it.

    Args:
        file: open for writing; whoever opened it closes it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes written so far."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes; returns how many."""
        self._digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def flush(self) -> None:
        """Flush the file's buffers."""
        if not self._file.closed:
            self._file.flush()
