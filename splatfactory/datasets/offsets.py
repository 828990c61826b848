"""Sidecar index of a shard: byte offsets that make single frames readable.

The index of `shard-000000.tar` is `shard-000000.offsets.npz` beside it, or in the cache directory
if the shard's folder is read-only, and nowhere if both are. One pass over the tar headers builds
it, and it is rebuilt when the shard's size or modification time changes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory import paths
from splatfactory.datasets.shards import split_member
from zipsplat.files import open_file, write_atomically
from zipsplat.untrusted_files import open_zip, parse_json

logger = logging.getLogger(__name__)
VERSION = 1
MAX_META_BYTES = 1 << 20

Span = tuple[int, int]
"""Offset and size of a member's content, bytes."""

_ABSENT: Span = (0, 0)


@dataclass(frozen=True)
class ShardOffsets:
    """The scenes of one shard and the byte spans of their members.

    Attributes:
        keys: S scene keys in file order.
        num_views: (S,) images per scene.
        has_depth: (S,) bool, whether every image has a depth map.
        first: (S + 1,) row of each scene's first span.
        spans: (M, 2) offsets and sizes in bytes. Per scene: cameras, poses, depth ranges, all
            images, then all depth maps, if any.
        broken: keys of unusable scenes, with the reason.
        damage: damage of the file itself, or an empty string.
    """

    keys: tuple[str, ...]
    num_views: npt.NDArray[np.int32]
    has_depth: npt.NDArray[np.bool_]
    first: npt.NDArray[np.int64]
    spans: npt.NDArray[np.int64]
    broken: dict[str, str]
    damage: str

    def cameras(self, scene: int) -> Span:
        """Span of the camera array."""
        return self._span(scene, 0)

    def poses(self, scene: int) -> Span:
        """Span of the pose array."""
        return self._span(scene, 1)

    def depth_ranges(self, scene: int) -> Span:
        """Span of the depth ranges; (0, 0) without depth."""
        return self._span(scene, 2)

    def image(self, scene: int, view: int) -> Span:
        """Span of an image."""
        return self._span(scene, 3 + view)

    def depth(self, scene: int, view: int) -> Span:
        """Span of a depth map; only for scenes that have depth."""
        return self._span(scene, 3 + int(self.num_views[scene]) + view)

    def _span(self, scene: int, part: int) -> Span:
        offset, size = self.spans[self.first[scene] + part]
        return int(offset), int(size)


def load(shard: Path) -> ShardOffsets:
    """Load the index of a shard from its sidecar; build it if missing or stale.

    Raises:
        OSError: if the shard cannot be read.
    """
    for sidecar in (_sidecar(shard), _cached_sidecar(shard)):
        index = _read(sidecar, shard)
        if index is not None:
            return index
    return build(shard)


def build(shard: Path) -> ShardOffsets:
    """Scan a shard and store the index beside it, in the cache directory, or nowhere."""
    index = scan(shard)
    for sidecar in (_sidecar(shard), _cached_sidecar(shard)):
        try:
            _write(sidecar, shard, index)
        except OSError as error:
            logger.debug("no index of %s is kept in %s: %s", shard, sidecar.parent, error)
        else:
            break
    return index


def remove(shard: Path) -> None:
    """Delete the sidecar of a shard about to be deleted."""
    _sidecar(shard).unlink(missing_ok=True)


@dataclass
class _Found:
    """Members of one key, collected while scanning."""

    key: str
    parts: dict[str, Span] = field(default_factory=dict)
    views: dict[str, dict[int, Span]] = field(default_factory=lambda: {"img": {}, "dep": {}})
    meta: Any = None

    def fault(self) -> str:
        """Why the scene is unusable; empty if it is not."""
        for part in ("meta.json", "cameras.npy", "poses.npy"):
            if part not in self.parts:
                return f"no {part}"
        if not isinstance(self.meta, dict) or not isinstance(self.meta.get("num_views"), int):
            return "meta.json is not valid"
        count = self.meta["num_views"]
        numbers = self.views["img"].keys()
        if len(numbers) != count or max(numbers, default=-1) != count - 1:
            return f"{len(self.views['img'])} of {count} images"
        return ""

    @property
    def has_depth(self) -> bool:
        complete = set(self.views["dep"]) == set(self.views["img"])
        return complete and "depth_ranges.json" in self.parts and bool(self.views["img"])

    def spans(self) -> list[Span]:
        parts = ("cameras.npy", "poses.npy", "depth_ranges.json")
        rows = [self.parts.get(part, _ABSENT) for part in parts]
        for kind in ("img", "dep") if self.has_depth else ("img",):
            rows += [self.views[kind][view] for view in sorted(self.views[kind])]
        return rows


def scan(shard: Path) -> ShardOffsets:
    """Index a shard from its tar headers; damage is reported in the result."""
    with open_file(shard) as file:
        scan_state = _Scan()
        found: dict[str, _Found] = {}
        for header in scan_state.headers(file):
            key, part, view = split_member(header.name)
            if not part:
                continue
            scene = found.setdefault(key, _Found(key))
            span = (header.offset_data, header.size)
            if view >= 0:
                scene.views[part][view] = span
            else:
                scene.parts[part] = span
        for scene in found.values():
            scene.meta = _read_json(file, scene.parts.get("meta.json", _ABSENT))
    return _assemble(list(found.values()), scan_state.damage)


class _Scan:
    """Iterates over tar headers and detects truncation."""

    damage = ""

    def headers(self, file: Any) -> Iterator[tarfile.TarInfo]:
        size = os.fstat(file.fileno()).st_size
        end = 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for header in tar:
                    end = header.offset_data + header.size
                    if end > size:
                        self.damage = f"cut off at {size} bytes, inside {header.name}"
                        return
                    if header.isfile():
                        yield header
                stop = tar.offset
        except (tarfile.TarError, ArithmeticError, LookupError, ValueError, MemoryError) as error:
            # Damaged headers make tarfile raise other exceptions too.
            self.damage = f"not a tar file after byte {end}: {error}"
            return
        file.seek(stop)
        # tarfile treats an unreadable header as the end; a real end is a block of zeros.
        if file.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
            file.seek(max(0, stop - tarfile.BLOCKSIZE))
            if file.read(tarfile.BLOCKSIZE) != b"\0" * tarfile.BLOCKSIZE:
                self.damage = f"unreadable after byte {end}"


def _read_json(file: Any, span: Span) -> Any:
    if span[1] > MAX_META_BYTES:
        return None
    file.seek(span[0])
    try:
        return parse_json(file.read(span[1]))
    except ValueError:
        return None


def _assemble(found: list[_Found], damage: str) -> ShardOffsets:
    broken = {scene.key: scene.fault() for scene in found if scene.fault()}
    whole = [scene for scene in found if scene.key not in broken]
    rows = [scene.spans() for scene in whole]
    return ShardOffsets(
        keys=tuple(scene.key for scene in whole),
        num_views=np.array([len(scene.views["img"]) for scene in whole], dtype=np.int32),
        has_depth=np.array([scene.has_depth for scene in whole], dtype=np.bool_),
        first=np.cumsum([0, *(len(spans) for spans in rows)], dtype=np.int64),
        spans=np.array([span for spans in rows for span in spans], np.int64).reshape(-1, 2),
        broken=broken,
        damage=damage,
    )


def sidecar_name(shard: str) -> str:
    """Name of the sidecar of a shard."""
    return f"{shard.removesuffix('.tar')}.offsets.npz"


def _sidecar(shard: Path) -> Path:
    return shard.with_name(f"{shard.stem}.offsets.npz")


def _cached_sidecar(shard: Path) -> Path:
    name = hashlib.sha256(str(shard.resolve()).encode()).hexdigest()[:24]
    return paths.cache_root() / "offsets" / f"{name}.npz"


def _stamp(shard: Path) -> dict[str, Any]:
    status = shard.stat()
    return {"version": VERSION, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _write(sidecar: Path, shard: Path, index: ShardOffsets) -> None:
    text = {
        "stamp": _stamp(shard),
        "keys": index.keys,
        "broken": index.broken,
        "damage": index.damage,
    }
    arrays: dict[str, Any] = {
        "text": np.frombuffer(json.dumps(text).encode(), dtype=np.uint8),
        "num_views": index.num_views,
        "has_depth": index.has_depth,
        "first": index.first,
        "spans": index.spans,
    }
    write_atomically(sidecar, lambda file: np.savez(file, **arrays))


def _read(sidecar: Path, shard: Path) -> ShardOffsets | None:
    """The index in a sidecar, or None if it is missing or stale."""
    try:
        _check_stored(sidecar)
        index = _parse(sidecar, _stamp(shard))
        if index is not None:
            _check_index(index, shard.stat().st_size)
        return index
    except Exception:  # NumPy's reader raises many exception types
        return None  # a damaged sidecar is rebuilt from the shard


def from_bytes(content: bytes, size: int | None) -> ShardOffsets | None:
    """Parse the content of a sidecar; None if it is damaged or belongs to another shard.

    Args:
        content: bytes of the sidecar.
        size: bytes of the shard, if known. Modification times differ between copies.
    """
    wanted = {"version": VERSION} if size is None else {"version": VERSION, "size": size}
    try:
        _check_stored(io.BytesIO(content))
        index = _parse(io.BytesIO(content), wanted)
        if index is not None:
            _check_index(index, size)
        return index
    except Exception:  # as in `_read`
        return None


def _parse(sidecar: Path | io.BytesIO, stamp: dict[str, Any]) -> ShardOffsets | None:
    """The index in a sidecar; None if its stamp differs."""
    with np.load(sidecar, allow_pickle=False) as arrays:
        text = parse_json(arrays["text"].tobytes())
        if {name: text["stamp"][name] for name in stamp} != stamp:
            return None
        return ShardOffsets(
            keys=tuple(text["keys"]),
            num_views=arrays["num_views"],
            has_depth=arrays["has_depth"],
            first=arrays["first"],
            spans=arrays["spans"],
            broken=text["broken"],
            damage=text["damage"],
        )


def _check_stored(sidecar: Path | io.BytesIO) -> None:
    """Reject a compressed sidecar: ours are not, and it could unpack to any size."""
    with open_zip(sidecar) as archive:
        if any(member.compress_size != member.file_size for member in archive.infolist()):
            raise ValueError("the sidecar is compressed")


def _check_index(index: ShardOffsets, size: int | None) -> None:
    """Reject an index that is inconsistent or exceeds its shard.

    Raises:
        ValueError: if the index is invalid.
    """
    S, first, spans = len(index.keys), index.first, index.spans
    lengths = 3 + index.num_views.astype(np.int64) * (1 + index.has_depth)
    is_index = (
        index.num_views.shape == index.has_depth.shape == (S,)
        and index.num_views.min(initial=0) >= 0
        and np.array_equal(first, np.cumsum([0, *lengths]))
        and spans.shape == (first[-1], 2)
        and spans.min(initial=0) >= 0
        and (size is None or spans.sum(axis=1).max(initial=0) <= size)
    )
    texts = (*index.keys, *index.broken, *index.broken.values(), index.damage)
    if not is_index or not all(isinstance(text, str) for text in texts):
        raise ValueError("the index is inconsistent")
