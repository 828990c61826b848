"""A bounded folder of pieces of remote files, shared by all processes of a machine."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

_SWEEP_SHARE = 0.02
"""A process looks how full the folder is each time it has written this share of the bound."""
_FILLED_SHARE = 0.8
"""What is left of the bound after the pieces that were not used for longest are deleted."""
_CHECKSUM_BYTES = 4


class SpanCache:
    """Pieces by name, each a file with its checksum in front; a damaged one is as good as none.

    Args:
        folder: made when something is kept.
        limit: bytes in it, exceeded by at most 2 % per process; 0 keeps nothing.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._unswept = limit  # so that the first piece kept finds what earlier runs have left

    def get(self, name: str) -> bytes | None:
        """The piece of this name, if it is kept."""
        path = self.folder / name
        try:
            content = path.read_bytes()
            os.utime(path)  # used now
        except OSError:
            return None
        data = content[_CHECKSUM_BYTES:]
        return data if content[:_CHECKSUM_BYTES] == _checksum(data) else None

    def put(self, name: str, data: bytes) -> None:
        """Keep a piece; a disk that is full or read-only keeps none."""
        if len(data) > self.limit * _SWEEP_SHARE:
            return
        temporary = self.folder / f"{name}.{os.getpid()}.partial"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_checksum(data) + data)
            temporary.replace(self.folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        self._unswept += len(data)
        if self._unswept > self.limit * _SWEEP_SHARE:
            self._unswept = 0
            with contextlib.suppress(OSError):
                self._sweep()

    def _sweep(self) -> None:
        """Delete the pieces that were not used for longest, if there are too many."""
        pieces = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):  # another process sweeps, too
                status = entry.stat()
                pieces.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in pieces)
        if total <= self.limit:
            return
        for _, size, path in sorted(pieces):
            if total <= self.limit * _FILLED_SHARE:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(_CHECKSUM_BYTES, "little")
