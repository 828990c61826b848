"""Rewrite a shard directory, in place, into shards of equal size.

Members are copied verbatim, so nothing is lost, not even members unknown to this code.
A source is deleted once all its scenes are in finished new shards; a killed run resumes there.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from splatfactory.datasets import offsets
from splatfactory.datasets.scripts import conversion
from splatfactory.datasets.shard_output import (
    DEFAULT_SHARD_SIZE_MB,
    INDEX_NAME,
    Manifest,
    ShardRecord,
    record_of,
    write_json,
)
from splatfactory.datasets.shards import PARTIAL_SUFFIX, ShardWriter, split_member

TOOL = "splatfactory.datasets.scripts.repack"
NEW_PREFIX = "_new-"

Members = list[tuple[str, bytes]]
Headers = list[tarfile.TarInfo]


def main(argv: Sequence[str] | None = None) -> int:
    """Repack; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.repack", description=__doc__.splitlines()[0]
    )
    parser.add_argument("input_dir", type=Path, help="folder of *.tar shards")
    parser.add_argument(
        "--target-size-mb",
        type=float,
        default=DEFAULT_SHARD_SIZE_MB,
        help="shard size, MiB (default: %(default)s)",
    )
    parser.add_argument(
        "--num-workers", type=int, default=0, help="threads that prefetch scenes and hash shards"
    )
    arguments = parser.parse_args(argv)
    return conversion.run_command(
        partial(
            repack,
            arguments.input_dir,
            int(arguments.target_size_mb * 2**20),
            arguments.num_workers,
        )
    )


def repack(directory: Path, limit: int, num_workers: int = 0) -> int:
    """Rewrite the shards of a directory; returns the exit status.

    Args:
        directory: folder with `*.tar`.
        limit: bytes after which the next scene starts a new shard.
        num_workers: threads that read and hash; does not affect the shards.

    Raises:
        ValueError: if a number is out of range, a shard is damaged, or the directory has one scene
            per shard.
        OSError: if the disk is full; nothing is lost.
    """
    if num_workers < 0:
        raise ValueError(f"--num-workers must not be negative, got {num_workers}")
    if limit <= 0:
        raise ValueError(f"--target-size-mb must be positive, got {limit / 2**20}")
    _clean(directory)
    sources = _sources(directory)
    _check(sources, directory)
    finished = _finished(directory)
    done = {key for shard in finished for key in offsets.load(shard).keys}
    manifest = Manifest.load(directory) or Manifest(TOOL, {}, is_complete=True)
    copies = _Copies(directory, limit, len(finished))
    with copies:
        for source in tqdm(sources, "repack", unit="shard", disable=None):
            scenes = [scene for scene in _scenes(source) if scene[0] not in done]
            for key, members in conversion.threaded_map(
                partial(_read, source), scenes, num_workers
            ):
                copies.add(key, members)
            copies.has_all_of(source)
    _rename(directory, manifest, num_workers)
    shards = manifest.shards
    conversion.say(f"{directory}: {sum(r.scenes for r in shards.values())} scenes in {len(shards)}")
    return 0


def _sources(directory: Path) -> list[Path]:
    return sorted(p for p in directory.glob("*.tar") if not p.name.startswith((".", NEW_PREFIX)))


def _finished(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{NEW_PREFIX}*.tar"))


def _clean(directory: Path) -> None:
    if not directory.is_dir():
        raise ValueError(f"directory {directory} does not exist")
    for partial_file in directory.glob(f"{NEW_PREFIX}*.tar{PARTIAL_SUFFIX}"):
        partial_file.unlink()


def _check(sources: list[Path], directory: Path) -> None:
    if not sources and not _finished(directory):
        raise ValueError(f"no *.tar shards in {directory}")
    named = 0
    for shard in sources:
        index = offsets.load(shard)
        if index.damage or index.broken:
            problem = index.damage or f"incomplete scenes {', '.join(list(index.broken)[:3])}"
            raise ValueError(f"{shard} is damaged ({problem}); replace it before repacking")
        named += index.keys == (shard.stem,)
    if sources and named == len(sources):
        raise ValueError(
            f"{directory} has one scene per shard, named after it, and tools rely on that"
        )


class _Copies:
    """Writes the new shards; deletes a source once all its scenes are in finished shards.

    Args:
        directory: folder of sources and new shards.
        limit: bytes after which the next scene starts a new shard.
        number: number of the first new shard.
    """

    def __init__(self, directory: Path, limit: int, number: int) -> None:
        self._directory = directory
        self._limit = limit
        self._number = number
        self._writer: ShardWriter | None = None
        self._emptied: list[Path] = []

    def add(self, key: str, members: Members) -> None:
        """Append a scene."""
        if self._writer is not None and self._writer.size >= self._limit:
            self._finish()
        if self._writer is None:
            self._writer = ShardWriter(self._directory / f"{NEW_PREFIX}{self._number:06d}.tar")
        self._writer.add_members(key, members)

    def has_all_of(self, source: Path) -> None:
        """Mark a source as fully read."""
        self._emptied.append(source)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.commit()
            self._writer = None
            self._number += 1
        for source in self._emptied:
            offsets.remove(source)
            source.unlink()
        self._emptied.clear()

    def __enter__(self) -> _Copies:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._writer is not None:
                self._writer.discard()


def _scenes(shard: Path) -> list[tuple[str, Headers]]:
    """Scenes of a shard, with the headers of all their members."""
    scenes: list[tuple[str, Headers]] = []
    with tarfile.open(shard, "r:") as tar:
        for header in tar:
            if not header.isfile():
                continue
            key = split_member(header.name)[0]
            if not scenes or key != scenes[-1][0]:
                scenes.append((key, []))
            scenes[-1][1].append(header)
    return scenes


def _read(shard: Path, scene: tuple[str, Headers]) -> tuple[str, Members]:
    """Read a scene with the bytes of all its members."""
    key, headers = scene
    members = Members()
    with shard.open("rb") as file:
        for header in headers:
            file.seek(header.offset_data)
            members.append((header.name, file.read(header.size)))
    return key, members


def _rename(directory: Path, manifest: Manifest, num_workers: int) -> None:
    """Rename the new shards and write manifest and index."""
    shards = []
    for number, shard in enumerate(_finished(directory)):
        final = directory / f"shard-{number:06d}.tar"
        offsets.remove(shard)
        shard.rename(final)
        shards.append(final)
    index: dict[str, str] = {}
    records: dict[str, ShardRecord] = {}
    for shard, (keys, record) in zip(
        shards, conversion.threaded_map(_describe, shards, num_workers), strict=True
    ):
        index.update(dict.fromkeys(keys, shard.name))
        records[shard.name] = record
    manifest.shards = records
    write_json(directory / INDEX_NAME, index)
    manifest.save(directory)


def _describe(shard: Path) -> tuple[tuple[str, ...], ShardRecord]:
    return offsets.build(shard).keys, record_of(shard)


if __name__ == "__main__":
    raise SystemExit(main())
