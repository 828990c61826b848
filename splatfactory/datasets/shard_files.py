"""The files of a shard directory, wherever they are: names, indices, and the bytes of members."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from splatfactory.datasets.offsets import ShardOffsets, Span
from splatfactory.datasets.offsets import load as load_offsets

_MAX_OPEN_FILES = 64


class ShardFiles(Protocol):
    """The files of one shard directory. It can be pickled, and used by several threads.

    Attributes:
        bytes_read: bytes of tar members that this process has read.
        reads_ahead: whether `hold` does something.
    """

    bytes_read: int
    reads_ahead: bool

    def names(self) -> Sequence[str]:
        """Names of the shards, sorted.

        Raises:
            FileNotFoundError: if there is no such directory, or no shard in it.
        """

    def listing(self) -> bytes | None:
        """The content of `index.json`, if there is one."""

    def offsets(self, shards: Sequence[str]) -> Iterable[ShardOffsets]:
        """Where the members of some shards lie."""

    def size(self, shard: str) -> int:
        """Bytes of a shard."""

    def read(self, shard: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of some members; fewer where a shard ends too early."""

    def hold(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        """Begin to fetch what will be read next, by shard; let go of all else fetched ahead."""

    def close(self) -> None:
        """Give back what is open; it is opened again when it is needed."""


class LocalFiles:
    """A folder. Files are read at positions, so any number of processes may share them.

    Args:
        directory: holds `*.tar`.
        only: a single file of the directory to be looked at.
    """

    reads_ahead = False

    def __init__(self, directory: Path, only: Path | None = None) -> None:
        self.directory = directory
        self.bytes_read = 0
        self._only = only
        self._open: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def names(self) -> Sequence[str]:
        """Names of the shards, sorted; errors as `ShardFiles`."""
        if self._only is not None:
            return [self._only.name]
        if not self.directory.is_dir():
            raise FileNotFoundError(
                f"no shard directory {self.directory}; convert or generate a data set first, see"
                " `python -m splatfactory.datasets.scripts.<data set>.convert --help`"
            )
        shards = sorted(path.name for path in self.directory.glob("*.tar"))
        shards = [name for name in shards if not name.startswith(".")]
        if not shards:
            raise FileNotFoundError(f"no *.tar shards in {self.directory}")
        return shards

    def listing(self) -> bytes | None:
        """The content of `index.json`, if there is one; of a single file nobody asks for others."""
        path = self.directory / "index.json"
        return path.read_bytes() if self._only is None and path.exists() else None

    def offsets(self, shards: Sequence[str]) -> Iterable[ShardOffsets]:
        """The indices of some shards; those that are missing are built."""
        return (load_offsets(self.directory / shard) for shard in shards)

    def size(self, shard: str) -> int:
        """Bytes of a shard."""
        return (self.directory / shard).stat().st_size

    def read(self, shard: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of some members."""
        with self._lock:
            descriptor = self._descriptor(shard)
        found = [os.pread(descriptor, size, offset) for offset, size in spans]
        self.bytes_read += sum(map(len, found))
        return found

    def hold(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        """Nothing: the system reads ahead."""

    def close(self) -> None:
        """Close the files."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def __del__(self) -> None:
        if getattr(self, "_pid", None) == os.getpid():
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self.directory, "_only": self._only}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["directory"], state["_only"])  # type: ignore[misc]

    def _descriptor(self, shard: str) -> int:
        if self._pid != os.getpid():  # after a fork, files of the parent are left alone
            self._open, self._pid = OrderedDict(), os.getpid()
        if shard not in self._open:
            self._open[shard] = os.open(self.directory / shard, os.O_RDONLY)
            if len(self._open) > _MAX_OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(shard)
        return self._open[shard]
