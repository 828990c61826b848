"""A size-bounded disk cache of byte spans of remote files, shared by all processes."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import Path

_SWEEP_SHARE = 0.02
"""A process checks the size of the folder each time it has written this fraction of the limit."""
_FILLED_SHARE = 0.8
"""Fraction of the limit that remains after the least recently used spans are evicted."""
_CHECKSUM_BYTES = 4


class SpanCache:
    """Spans by name, each a file with a leading checksum; damaged ones count as missing.

    Args:
        folder: created on first use.
        limit: maximum bytes, exceeded by at most 2 % per process; 0 disables the cache.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._unswept = limit  # so that the first put also evicts files of earlier runs

    def get(self, name: str) -> bytes | None:
        """The span with this name, if cached."""
        path = self.folder / name
        try:
            content = path.read_bytes()
            os.utime(path)  # mark as recently used
        except OSError:
            return None
        data = content[_CHECKSUM_BYTES:]
        return data if content[:_CHECKSUM_BYTES] == _checksum(data) else None

    def put(self, name: str, data: bytes) -> None:
        """Cache a span; ignored on a full or read-only disk."""
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
        """Evict the least recently used spans if the cache is over its limit."""
        pieces = []
        for entry in os.scandir(self.folder):
            with contextlib.suppress(OSError):  # another process may evict at the same time
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
