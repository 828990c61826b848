"""The tar-shard format: scenes as runs of tar members, many scenes per file.

An uncompressed POSIX tar. The members of a scene share a key, are contiguous, and are named
`<key>.meta.json`, `.cameras.npy`, `.poses.npy`, `.img<i>.<ext>`, then, with depth, `.dep<i>.webp`
and `.depth_ranges.json`. This is the public format of the ZipSplat training data; files
are interchangeable.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.depth_codec import EncodedDepth
from zipsplat.digests import HashedFile
from zipsplat.files import sync_folder

PARTIAL_SUFFIX = ".partial"

FloatArray = npt.NDArray[np.float32]

_MAGIC = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"))
_MEMBER = re.compile(
    r"\.(?:(?P<part>meta\.json|cameras\.npy|poses\.npy|depth_ranges\.json)"
    r"|(?P<kind>img|dep)(?P<view>\d{1,9})\.[^.]*)$"
)


@dataclass(frozen=True)
class StoredScene:
    """A scene as stored in a shard.

    Attributes:
        key: unique name; no dot, no slash.
        cameras: (N, 6) float32 rows w, h, fx, fy, cx, cy in pixels.
        poses: (N, 12) float32 rows, camera-to-world: R row by row, then t.
        images: N encoded images (JPEG, PNG or WebP).
        depths: N encoded depth maps, or None.
    """

    key: str
    cameras: FloatArray
    poses: FloatArray
    images: tuple[bytes, ...]
    depths: tuple[EncodedDepth, ...] | None = None

    def __post_init__(self) -> None:
        """Validate the parts against each other."""
        if not self.key or any(character in self.key for character in "./\\\0"):
            raise ValueError(f"a scene key must be a name without dots and slashes: {self.key!r}")
        N = len(self.images)
        for name, shape in (("cameras", (N, 6)), ("poses", (N, 12))):
            value = getattr(self, name)
            if value.shape != shape or value.dtype != np.float32:
                raise ValueError(
                    f"scene {self.key}: {name} must be float32 {shape} for {N} images,"
                    f" got {value.dtype} {value.shape}"
                )
            if not np.isfinite(value).all():
                raise ValueError(f"scene {self.key}: {name} must be finite")
        if self.depths is not None and len(self.depths) != N:
            raise ValueError(f"scene {self.key}: {N} images need {N} depths: {len(self.depths)}")

    @property
    def num_views(self) -> int:
        """Number of images."""
        return len(self.images)


def image_extension(data: bytes) -> str:
    """File name extension of an encoded image, from its first bytes."""
    for magic, extension in _MAGIC:
        if data.startswith(magic):
            return extension
    return "webp" if data.startswith(b"RIFF") and data[8:12] == b"WEBP" else "bin"


def split_member(name: str) -> tuple[str, str, int]:
    """Key, part and view number of a member name.

    Returns:
        The key; one of `meta.json`, `cameras.npy`, `poses.npy`, `depth_ranges.json`, `img`, `dep`,
        or an empty string for other names; the view number, or −1.
    """
    key, dot, rest = name.partition(".")
    match = _MEMBER.match(dot + rest)
    if match is None:
        return key, "", -1
    if match["part"]:
        return key, match["part"], -1
    return key, match["kind"], int(match["view"])


def members(scene: StoredScene) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a scene's tar members, in the order of the format."""
    has_depth = scene.depths is not None
    meta = {"num_views": scene.num_views, "has_depth": has_depth}
    yield f"{scene.key}.meta.json", json.dumps(meta).encode()
    yield f"{scene.key}.cameras.npy", array_bytes(scene.cameras)
    yield f"{scene.key}.poses.npy", array_bytes(scene.poses)
    for view, data in enumerate(scene.images):
        yield f"{scene.key}.img{view}.{image_extension(data)}", data
    if scene.depths is not None:
        for view, depth in enumerate(scene.depths):
            yield f"{scene.key}.dep{view}.webp", depth.data
        ranges = [[depth.near, depth.far] for depth in scene.depths]
        yield f"{scene.key}.depth_ranges.json", json.dumps(ranges).encode()


def array_bytes(array: npt.NDArray[Any]) -> bytes:
    """An array as the content of an NPY file."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


class ShardWriter:
    """Writes one shard under a temporary name and renames it when it is complete.

    Use as a context manager; an exception inside discards the file.

    Args:
        path: final path of the shard.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: list[str] = []
        self.num_views = 0
        self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
        self._opened = self._partial.open("wb")
        self._file = HashedFile(self._opened)
        self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes written so far."""
        return self._file.sha256

    def add(self, scene: StoredScene) -> None:
        """Append a scene.

        Raises:
            ValueError: if the shard already has a scene with this key.
        """
        self.add_members(scene.key, members(scene))

    def add_members(self, key: str, content: Iterable[tuple[str, bytes]]) -> None:
        """Append a scene as names and contents of tar members.

        Raises:
            ValueError: if the shard already has a scene with this key.
        """
        if key in self.keys:
            raise ValueError(f"{self.path.name} already has a scene {key}")
        for name, data in content:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            self._tar.addfile(header, io.BytesIO(data))
            self.num_views += split_member(name)[1] == "img"
        self.keys.append(key)

    def commit(self) -> None:
        """Finish and rename the file, replacing an older one."""
        self._tar.close()
        with self._opened as file:
            file.flush()
            os.fsync(file.fileno())
        os.replace(self._partial, self.path)
        sync_folder(self.path.parent)

    def discard(self) -> None:
        """Delete the unfinished file."""
        # On a full disk, flushing on close fails again; the file is deleted anyway.
        with contextlib.suppress(OSError):
            self._opened.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            if self._partial.exists():
                self.discard()
