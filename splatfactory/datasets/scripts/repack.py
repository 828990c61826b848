"""Rewrite a shard directory, in place, into shards of even size.

Members are copied as they are, so nothing is lost, not even what other tools do not understand.
A source is deleted when all its scenes are in finished new shards; a killed run continues there.
"""

from __future__ import annotations

import argparse
import tarfile
from collections.abc import Iterator, Sequence
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


def main(argv: Sequence[str] | None = None) -> int:
    """Repack; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input_dir", type=Path, help="folder of *.tar shards")
    parser.add_argument("--target-size-mb", type=float, default=DEFAULT_SHARD_SIZE_MB)
    parser.add_argument(
        "--num-workers", type=int, default=0, help="accepted for uniformity; copying is sequential"
    )
    arguments = parser.parse_args(argv)
    return conversion.run_command(
        partial(repack, arguments.input_dir, int(arguments.target_size_mb * 2**20))
    )


def repack(directory: Path, limit: int) -> int:
    """Rewrite the shards of a directory; returns the exit status.

    Args:
        directory: holds `*.tar`.
        limit: bytes after which the next scene begins a new shard.

    Raises:
        ValueError: if a shard is damaged, or the directory keeps one scene per shard.
        OSError: if the disk is full; what was there is still there.
    """
    if limit <= 0:
        raise ValueError(f"--target-size-mb must be positive, got {limit / 2**20}")
    _clean(directory)
    sources = _sources(directory)
    _check(sources, directory)
    finished = _finished(directory)
    done = {key for shard in finished for key in offsets.load(shard).keys}
    manifest = Manifest.load(directory) or Manifest(TOOL, {}, is_complete=True)
    _copy(directory, sources, done, len(finished), limit)
    _rename(directory, manifest)
    shards = manifest.shards
    conversion.say(f"{directory}: {sum(r.scenes for r in shards.values())} scenes in {len(shards)}")
    return 0


def _sources(directory: Path) -> list[Path]:
    return sorted(p for p in directory.glob("*.tar") if not p.name.startswith((".", NEW_PREFIX)))


def _finished(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"{NEW_PREFIX}*.tar"))


def _clean(directory: Path) -> None:
    if not directory.is_dir():
        raise ValueError(f"no directory {directory}")
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
            raise ValueError(f"{shard} is damaged ({problem}); make it anew before repacking")
        named += index.keys == (shard.stem,)
    if sources and named == len(sources):
        raise ValueError(
            f"{directory} keeps one scene per shard, named after it, and tools count on that"
        )


def _copy(directory: Path, sources: list[Path], done: set[str], number: int, limit: int) -> None:
    """Write new shards and delete each source when everything of it is in finished ones."""
    writer: ShardWriter | None = None
    emptied: list[Path] = []
    try:
        for source in tqdm(sources, "repack", unit="shard", disable=None):
            for key, members in _scenes(source):
                if key in done:
                    continue
                if writer is not None and writer.size >= limit:
                    writer.commit()
                    _delete(emptied)
                    writer, number = None, number + 1
                if writer is None:
                    writer = ShardWriter(directory / f"{NEW_PREFIX}{number:06d}.tar")
                writer.add_members(key, members)
            emptied.append(source)
        if writer is not None:
            writer.commit()
            writer = None
        _delete(emptied)
    finally:
        if writer is not None:
            writer.discard()


def _delete(sources: list[Path]) -> None:
    for source in sources:
        offsets.remove(source)
        source.unlink()
    sources.clear()


def _scenes(shard: Path) -> Iterator[tuple[str, Members]]:
    """Scenes of a shard with all their members."""
    key, members = "", Members()
    with tarfile.open(shard, "r:") as tar:
        for header in tar:
            file = tar.extractfile(header)
            if file is None:
                continue
            name = split_member(header.name)[0]
            if name != key and members:
                yield key, members
                members = []
            key = name
            members.append((header.name, file.read()))
    if members:
        yield key, members


def _rename(directory: Path, manifest: Manifest) -> None:
    """Give the new shards their names and describe them."""
    index: dict[str, str] = {}
    records: dict[str, ShardRecord] = {}
    for number, shard in enumerate(_finished(directory)):
        final = directory / f"shard-{number:06d}.tar"
        offsets.remove(shard)
        shard.rename(final)
        index.update(dict.fromkeys(offsets.build(final).keys, final.name))
        records[final.name] = record_of(final)
    manifest.shards = records
    write_json(directory / INDEX_NAME, index)
    manifest.save(directory)


if __name__ == "__main__":
    raise SystemExit(main())
