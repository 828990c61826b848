"""Random access to the scenes of a shard directory, reading only the bytes in use."""

from __future__ import annotations

import io
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from splatfactory.datasets.depth_codec import EncodedDepth
from splatfactory.datasets.frames import EncodedFrame, Frame
from splatfactory.datasets.offsets import ShardOffsets, Span
from splatfactory.datasets.remote_files import open_files
from splatfactory.datasets.shard_files import LocalFiles
from splatfactory.datasets.shards import FloatArray, StoredScene
from zipsplat.untrusted_files import parse_json

logger = logging.getLogger(__name__)

MAX_MEMBER_BYTES = 128 << 20
_MAX_LOADED_INDICES = 64


@dataclass(frozen=True)
class SceneInfo:
    """Facts about a scene known before it is read."""

    key: str
    num_views: int
    has_depth: bool


class SceneError(ValueError):
    """An unusable scene.

    Args:
        reason: short and equal for all scenes with this fault, so they can be counted.
        detail: details of this case.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return SceneError, (self.reason, self.detail)


class SceneStore(Protocol):
    """Scenes that can be read in any order: a shard directory, or a generator."""

    @property
    def scenes(self) -> Sequence[SceneInfo]:
        """All usable scenes."""

    @property
    def faults(self) -> Sequence[tuple[str, SceneError]]:
        """Missing or unusable scenes, with the reason."""

    def cameras(self, scene: int) -> FloatArray:
        """Camera rows (N, 6) of a scene: w, h, fx, fy, cx, cy."""

    def poses(self, scene: int) -> FloatArray:
        """Pose rows (N, 12) of a scene: camera-to-world R, row by row, then t."""

    def frames(self, scene: int, views: Sequence[int]) -> Sequence[Frame]:
        """Frames of a scene."""


class ShardStore:
    """The scenes of all shards in a directory.

    Opening it reads one small index per shard, and builds missing ones. Reads are
    positional, so any number of processes and threads may share the files.

    Args:
        directory: holds `*.tar`, and optionally `index.json` with the expected scenes: a
            folder, or a URL for `RemoteFiles`.
        show_progress: show a progress bar while building indices.
        only: open a single file of the directory, and ignore what else is expected.

    Raises:
        FileNotFoundError: if the directory does not exist or has no shards.
        OSError: if it cannot be reached.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        show_progress: bool = False,
        only: Path | None = None,
    ) -> None:
        self.name = os.fspath(directory)
        self._files = open_files(self.name, only)
        self._shards = self._files.names()
        self.damage: dict[str, str] = {}
        self._scenes: list[SceneInfo] = []
        self._keys: set[str] = set()
        self._places: list[tuple[int, int]] = []
        self._faults: dict[str, SceneError] = {}
        self._indices: OrderedDict[int, ShardOffsets] = OrderedDict()
        # None: only on a terminal.
        is_hidden = None if show_progress else True
        indices = self._files.offsets(self._shards)
        total = len(self._shards)
        bar = tqdm(indices, "index", total, unit="shard", disable=is_hidden, leave=False)
        for number, index in enumerate(bar):
            self._add(number, index)
        self._compare_with_list()

    @property
    def scenes(self) -> Sequence[SceneInfo]:
        """All usable scenes, in the order of shards."""
        return self._scenes

    @property
    def faults(self) -> Sequence[tuple[str, SceneError]]:
        """Missing or unusable scenes, with the reason; a shard by its name if none can be told."""
        return list(self._faults.items())

    @property
    def directory(self) -> Path:
        """The folder.

        Raises:
            ValueError: if the shards are remote.
        """
        if not isinstance(self._files, LocalFiles):
            raise ValueError(f"{self.name} is remote; copy it to this machine first")
        return self._files.directory

    @property
    def shards(self) -> list[Path]:
        """The files; raises as `directory`."""
        return [self.directory / name for name in self._shards]

    @property
    def shard_sizes(self) -> list[tuple[str, int]]:
        """Name and bytes of each shard."""
        return [(name, self._files.size(name)) for name in self._shards]

    @property
    def bytes_read(self) -> int:
        """Bytes of tar members that this process has read."""
        return self._files.bytes_read

    def shard_of(self, scene: int) -> Path:
        """The shard that holds a scene; raises as `directory`."""
        return self.directory / self._shards[self._places[scene][0]]

    def cameras(self, scene: int) -> FloatArray:
        """Camera rows (N, 6) of a scene.

        Raises:
            SceneError: if they are damaged.
        """
        index, local = self._locate(scene)
        return self._array(scene, index.cameras(local), "cameras.npy", 6)

    def poses(self, scene: int) -> FloatArray:
        """Pose rows (N, 12) of a scene.

        Raises:
            SceneError: if they are damaged.
        """
        index, local = self._locate(scene)
        return self._array(scene, index.poses(local), "poses.npy", 12)

    def frames(self, scene: int, views: Sequence[int]) -> Sequence[EncodedFrame]:
        """Frames of a scene, still encoded.

        Raises:
            SceneError: if the depth ranges are damaged; images are decoded later.
        """
        index, local = self._locate(scene)
        depths = self._depths(scene, views)
        images = self._read(scene, [index.image(local, view) for view in views])
        return [EncodedFrame(*pair) for pair in zip(images, depths, strict=True)]

    @property
    def reads_ahead(self) -> bool:
        """Whether `prefetch` has an effect."""
        return self._files.reads_ahead

    def prefetch(self, views: Mapping[int, Sequence[int]]) -> None:
        """Start prefetching the views, by scene, that will be read next; drop all others."""
        wanted: dict[str, list[Span]] = {}
        for scene, chosen in views.items():
            index, local = self._locate(scene)
            spans = wanted.setdefault(self._shards[self._places[scene][0]], [])
            spans += [index.cameras(local), index.poses(local)]
            spans += [index.image(local, view) for view in chosen]
            if self._scenes[scene].has_depth:
                spans.append(index.depth_ranges(local))
                spans += [index.depth(local, view) for view in chosen]
        self._files.prefetch(wanted)

    def read(self, scene: int) -> StoredScene:
        """Read a complete scene.

        Raises:
            SceneError: if arrays or depth ranges are damaged; images are not decoded.
        """
        index, local = self._locate(scene)
        views = range(self._scenes[scene].num_views)
        depths = self._depths(scene, views)
        whole = tuple(depth for depth in depths if depth is not None)
        return StoredScene(
            key=self._scenes[scene].key,
            cameras=self.cameras(scene),
            poses=self.poses(scene),
            images=tuple(self._read(scene, [index.image(local, view) for view in views])),
            depths=whole if self._scenes[scene].has_depth else None,
        )

    def close(self) -> None:
        """Close the files; they are reopened on demand."""
        self._files.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_indices": OrderedDict()}

    def _add(self, number: int, index: ShardOffsets) -> None:
        shard = self._shards[number]
        if index.damage:
            self.damage[shard] = index.damage
            if not index.broken:  # otherwise its broken scenes are reported
                self._faults[shard] = SceneError("damaged shard", index.damage)
        reason = "truncated shard" if index.damage else "incomplete scene"
        for key, detail in index.broken.items():
            self._faults[key] = SceneError(reason, f"{shard}, {detail}")
        for local, key in enumerate(index.keys):
            if key in self._keys:
                self._faults[key] = SceneError("duplicate key", f"again in {shard}")
                continue
            self._keys.add(key)
            info = SceneInfo(key, int(index.num_views[local]), bool(index.has_depth[local]))
            self._scenes.append(info)
            self._places.append((number, local))

    def _compare_with_list(self) -> None:
        """Record scenes that `index.json` lists and no shard holds."""
        listing = self._files.listing()
        if listing is None:
            return
        try:
            promised = parse_json(listing)
        except ValueError:
            promised = None
        if not isinstance(promised, dict):
            warning = "%s/index.json is not a valid JSON list of scenes and is ignored"
            logger.warning(warning, self.name)
            return
        for key in promised.keys() - self._keys - self._faults.keys():
            self._faults[key] = SceneError("missing from shard", f"{promised[key]}")

    def _locate(self, scene: int) -> tuple[ShardOffsets, int]:
        number, local = self._places[scene]
        indices = self._indices
        if number not in indices:
            [indices[number]] = self._files.offsets([self._shards[number]])
            if len(indices) > _MAX_LOADED_INDICES:
                indices.popitem(last=False)
        indices.move_to_end(number)
        return indices[number], local

    def _array(self, scene: int, span: Span, name: str, columns: int) -> FloatArray:
        [data] = self._read(scene, [span])
        try:
            array = read_array(data)
        except (ValueError, OSError, EOFError) as error:
            raise SceneError("corrupt member", f"{name}, {error}") from error
        shape = (self._scenes[scene].num_views, columns)
        if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise SceneError(
                "corrupt member",
                f"{name} must hold finite floats of shape {shape}, has {array.shape}",
            )
        return np.array(array, dtype=np.float32)

    def _depths(self, scene: int, views: Sequence[int]) -> list[EncodedDepth | None]:
        if not self._scenes[scene].has_depth:
            return [None] * len(views)
        index, local = self._locate(scene)
        spans = [index.depth_ranges(local), *(index.depth(local, view) for view in views)]
        text, *maps = self._read(scene, spans)
        try:
            ranges = np.array(parse_json(text), dtype=np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise SceneError("corrupt member", f"depth_ranges.json, {error}") from error
        if ranges.shape != (self._scenes[scene].num_views, 2):
            raise SceneError("corrupt member", f"depth_ranges.json has shape {ranges.shape}")
        return [
            EncodedDepth(data, *map(float, ranges[view]))
            for view, data in zip(views, maps, strict=True)
        ]

    def _read(self, scene: int, spans: Sequence[Span]) -> list[bytes]:
        largest = max((size for _, size in spans), default=0)
        if largest > MAX_MEMBER_BYTES:
            raise SceneError("corrupt member", f"{largest / 1e6:.0f} MB exceed the limit")
        shard = self._shards[self._places[scene][0]]
        found = self._files.read(shard, spans)
        if [len(data) for data in found] != [size for _, size in spans]:
            raise SceneError("truncated shard", f"{shard} has become shorter")
        return found


def read_array(data: bytes) -> npt.NDArray[Any]:
    """The array in the bytes of an NPY file, read-only.

    Raises:
        ValueError: if it is damaged or would need unpickling.
    """
    start = 10 + int.from_bytes(data[8:10], "little")
    shape, is_fortran, dtype = _parse_header(data[:start])
    count = math.prod(shape)
    if dtype.hasobject or is_fortran or len(data) - start < count * dtype.itemsize:
        raise ValueError("not a plain C-ordered array, or truncated")
    return np.frombuffer(data, dtype, count, start).reshape(shape)


@lru_cache(maxsize=1024)
def _parse_header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype; cached, as NumPy takes 0.3 ms and most scenes share their headers."""
    file = io.BytesIO(head)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an NPY file of an unsupported version")
    try:
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # NumPy uses Python's parser, which raises many exception types
        raise ValueError(f"an unreadable NPY header ({error})") from error
    return shape, is_fortran, dtype
