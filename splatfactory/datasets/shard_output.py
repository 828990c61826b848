"""Writer of a shard directory: rotation, index, manifest, and resuming after a kill."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from splatfactory._version import __version__
from splatfactory.datasets import offsets
from splatfactory.datasets.shards import PARTIAL_SUFFIX, ShardWriter, StoredScene
from zipsplat.digests import sha256_of
from zipsplat.files import only_writer, write_text
from zipsplat.untrusted_files import read_json

INDEX_NAME = "index.json"
MANIFEST_NAME = "manifest.json"
DEFAULT_SHARD_SIZE_MB = 512.0

_FORMAT = 1


@dataclass(frozen=True)
class ShardRecord:
    """Manifest entry of one shard."""

    scenes: int
    views: int
    bytes: int
    sha256: str


@dataclass
class Manifest:
    """Content and origin of a shard directory.

    Attributes:
        tool: command that made it.
        settings: options that determine the scenes.
        version: version of the package at the last write.
        is_complete: whether the command finished.
        shards: entry of each finished shard.
        failures: scenes that could not be made, by reason.
        sources: sources of scenes whose name does not show them.
    """

    tool: str
    settings: dict[str, Any]
    version: str = __version__
    is_complete: bool = False
    shards: dict[str, ShardRecord] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write `manifest.json`."""
        write_json(directory / MANIFEST_NAME, {"format": _FORMAT, **asdict(self)}, indent=2)

    @staticmethod
    def load(directory: Path) -> Manifest | None:
        """Read `manifest.json`; None if it does not exist.

        Raises:
            ValueError: if it is damaged.
        """
        path = directory / MANIFEST_NAME
        if not path.exists():
            return None
        try:
            content = read_json(path)
            if content.pop("format") != _FORMAT:
                raise ValueError("unknown format")
            shards = {name: ShardRecord(**entry) for name, entry in content.pop("shards").items()}
            return Manifest(shards=shards, **content)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error}); start over with --overwrite") from error


class ShardOutput:
    """Writes scenes into the shards of one directory; use as a context manager.

    Finished shards are recorded at once. When the block raises or the process is
    killed, the unfinished shard is lost, and the next run continues after the finished ones:
    `done` holds the scenes that need not be made again.

    Args:
        directory: created if missing.
        tool: name of the command, for the manifest.
        settings: options that determine the scenes; a run can only be resumed with the
            same ones.
        shard_size_mb: a shard is closed once it reaches this size, MiB.
        overwrite: delete existing shards first.
        one_scene_per_shard: name each shard after its only scene.
        made_elsewhere: keys of scenes stored in another directory.

    Attributes:
        done: scenes that need not be made again.
        root: the directory, or the one that this is a part of.
        is_finished: whether an earlier run finished.

    Raises:
        ValueError: if the directory holds shards made differently; or, on entering the block or
            deleting shards, if another process works there.
    """

    def __init__(
        self,
        directory: Path,
        tool: str,
        settings: Mapping[str, Any] | None = None,
        shard_size_mb: float = DEFAULT_SHARD_SIZE_MB,
        overwrite: bool = False,
        one_scene_per_shard: bool = False,
        made_elsewhere: Collection[str] = (),
    ) -> None:
        if shard_size_mb <= 0:
            raise ValueError(f"the shard size must be positive, got {shard_size_mb} MB")
        self.directory = self.root = directory
        self.limit = int(shard_size_mb * 2**20)
        self.one_scene_per_shard = one_scene_per_shard
        self._shard: ShardWriter | None = None
        self._alone = ExitStack()
        if overwrite and directory.is_dir():
            with only_writer(directory):
                clear(directory)
        old = Manifest.load(directory)
        self.is_finished = old is not None and old.is_complete and not old.failures
        self.manifest = _continue(directory, tool, dict(settings or {}), old)
        self._index = self._known_scenes()
        self.done = frozenset(self._index) | frozenset(made_elsewhere)

    @property
    def num_failures(self) -> int:
        """Scenes that could not be made in this run."""
        return sum(len(items) for items in self.manifest.failures.values())

    def holds(self, key: str) -> bool:
        """Whether a scene with this key exists, finished or not."""
        return key in self._index or key in self.done

    def part(self, folder: Path, settings: Mapping[str, Any]) -> ShardOutput:
        """An output for some of these scenes, in a folder of its own."""
        part = ShardOutput(
            folder,
            self.manifest.tool,
            {**self.manifest.settings, **settings},
            self.limit / 2**20,
            one_scene_per_shard=self.one_scene_per_shard,
            made_elsewhere=self.done,
        )
        part.root = self.root
        part.manifest.sources = self.manifest.sources | part.manifest.sources
        return part

    def reopened(self) -> ShardOutput:
        """The same output, as it now is on disk."""
        manifest, size = self.manifest, self.limit / 2**20
        single = self.one_scene_per_shard
        return ShardOutput(
            self.directory, manifest.tool, manifest.settings, size, one_scene_per_shard=single
        )

    def add(self, scene: StoredScene) -> None:
        """Append a scene.

        Raises:
            ValueError: if a scene with this key already exists.
            OSError: if the disk is full.
        """
        if scene.key in self._index:
            raise ValueError(f"{self.directory} already has a scene {scene.key}")
        if self._shard is None:
            self._shard = ShardWriter(self.directory / self._next_name(scene))
        self._shard.add(scene)
        self._index[scene.key] = self._shard.path.name
        if self.one_scene_per_shard or self._shard.size >= self.limit:
            self._finish_shard()

    def fail(self, item: str, reason: str) -> None:
        """Record that a scene could not be made."""
        self.manifest.failures.setdefault(reason, []).append(item)

    def finish(self) -> None:
        """Close the last shard and mark the directory as complete."""
        self._finish_shard()
        self.manifest.is_complete = True
        write_json(self.directory / INDEX_NAME, self._index, indent=2)
        self.manifest.save(self.directory)

    def __enter__(self) -> ShardOutput:
        self._alone.enter_context(only_writer(self.directory))
        for partial in self.directory.glob(f"*.tar{PARTIAL_SUFFIX}"):
            partial.unlink()
        self.manifest.save(self.directory)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._alone:
            if kind is None:
                self.finish()
            elif self._shard is not None:
                self._shard.discard()

    def _finish_shard(self) -> None:
        shard, self._shard = self._shard, None
        if shard is None:
            return
        with shard:
            pass
        offsets.build(shard.path)
        record = ShardRecord(
            len(shard.keys), shard.num_views, shard.path.stat().st_size, shard.sha256
        )
        self.manifest.shards[shard.path.name] = record
        write_json(self.directory / INDEX_NAME, self._index)
        self.manifest.save(self.directory)

    def _next_name(self, scene: StoredScene) -> str:
        if self.one_scene_per_shard:
            return f"{scene.key}.tar"
        numbers = [int(name[6:12]) for name in self.manifest.shards]
        return f"shard-{max(numbers, default=-1) + 1:06d}.tar"

    def _known_scenes(self) -> dict[str, str]:
        """Scenes of the finished shards, with the name of their shard."""
        index: dict[str, str] = {}
        for name, record in self.manifest.shards.items():
            size = (self.directory / name).stat().st_size
            if size != record.bytes:
                raise ValueError(
                    f"{self.directory / name} has {size} bytes, but {MANIFEST_NAME} says"
                    f" {record.bytes}; delete it to convert its scenes again"
                )
            index.update(dict.fromkeys(offsets.load(self.directory / name).keys, name))
        return index


def record_of(shard: Path) -> ShardRecord:
    """Make the record of an existing shard by reading it."""
    index = offsets.load(shard)
    size = shard.stat().st_size
    return ShardRecord(len(index.keys), int(index.num_views.sum()), size, sha256_of(shard))


def clear(directory: Path) -> None:
    """Delete shards and their sidecars, manifest and index; other files stay."""
    for shard in directory.glob("*.tar"):
        offsets.remove(shard)
        shard.unlink()
    for name in (INDEX_NAME, MANIFEST_NAME):
        (directory / name).unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = None) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=indent))


def _continue(
    directory: Path, tool: str, settings: dict[str, Any], old: Manifest | None
) -> Manifest:
    """The manifest of the run to resume, or a new one."""
    if old is None:
        if directory.is_dir() and any(directory.glob("*.tar")):
            raise ValueError(
                f"{directory} holds shards but no {MANIFEST_NAME} of this command;"
                " use them as they are, choose another folder, or replace them with --overwrite"
            )
        return Manifest(tool, settings)
    # Round-trip through JSON, so that tuples compare equal to lists.
    if (old.tool, old.settings) != (tool, json.loads(json.dumps(settings))):
        raise ValueError(
            f"{directory} was made by {old.tool} with {old.settings}, not by {tool} with"
            f" {settings}; choose another folder, or replace it with --overwrite"
        )
    shards = {name: entry for name, entry in old.shards.items() if (directory / name).exists()}
    return Manifest(tool, settings, shards=shards, sources=old.sources)
