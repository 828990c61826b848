"""Files of a shard directory, local or remote: names, indices, and the bytes of members."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from splatfactory.datasets.offsets import ShardOffsets, Span
from splatfactory.datasets.offsets import load as load_offsets
from zipsplat.files import open_file
from zipsplat.untrusted_files import MAX_JSON_BYTES

_MAX_OPEN_FILES = 64


class ShardFiles(Protocol):
    """The files of one shard directory. Picklable and thread-safe.

    Attributes:
        bytes_read: bytes of tar members this process has read.
        reads_ahead: whether `prefetch` has an effect.
    """

    bytes_read: int
    reads_ahead: bool

    def names(self) -> Sequence[str]:
        """Names of the shards, sorted.

        Raises:
            FileNotFoundError: if the directory does not exist or has no shards.
        """

    def listing(self) -> bytes | None:
        """The content of `index.json`, if it exists."""

    def offsets(self, shards: Sequence[str]) -> Iterable[ShardOffsets]:
        """The indices of some shards."""

    def size(self, shard: str) -> int:
        """Bytes of a shard."""

    def read(self, shard: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of some members; fewer if a shard is truncated."""

    def prefetch(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        """Start prefetching what will be read next, by shard; drop everything else prefetched."""

    def close(self) -> None:
        """Release open files; they are reopened on demand."""


class LocalFiles:
    """A local folder. Reads are positional, so any number of processes may share it.

    Args:
        directory: folder with `*.tar`.
        only: restrict to a single file of the directory.
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
        """Names of the shards, sorted; raises as in `ShardFiles`."""
        if self._only is not None:
            return [self._only.name]
        if not self.directory.is_dir():
            raise FileNotFoundError(
                f"shard directory {self.directory} does not exist; convert or generate a data set"
                " first, see `python -m splatfactory.datasets.scripts.<data set>.convert --help`"
            )
        shards = sorted(path.name for path in self.directory.glob("*.tar"))
        shards = [name for name in shards if not name.startswith(".")]
        if not shards:
            raise FileNotFoundError(f"no *.tar shards in {self.directory}")
        return shards

    def listing(self) -> bytes | None:
        """The content of `index.json`, if it exists; none for a single file."""
        path = self.directory / "index.json"
        if self._only is not None or not path.exists():
            return None
        with open_file(path) as file:
            return file.read(MAX_JSON_BYTES + 1)

    def offsets(self, shards: Sequence[str]) -> Iterable[ShardOffsets]:
        """The indices of some shards; missing ones are built."""
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

    def prefetch(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        """Do nothing: the operating system reads ahead."""

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
        if self._pid != os.getpid():  # after a fork, do not use the parent's files
            self._open, self._pid = OrderedDict(), os.getpid()
        if shard not in self._open:
            self._open[shard] = os.open(self.directory / shard, os.O_RDONLY)
            if len(self._open) > _MAX_OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(shard)
        return self._open[shard]
