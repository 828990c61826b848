"""Run one conversion as several jobs, on one machine or on many with a shared folder.

Job i of n takes the i-th of n consecutive slices of the inputs and writes its scenes to a
part, `.parts-of-<n>/<i>` in the output folder. The job that finishes last assembles all parts
in order, so the files equal those of a single job. Each job can be killed and restarted
at any time and in any order: it keeps its finished scenes.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from splatfactory.datasets.scripts.conversion import say
from splatfactory.datasets.shard_output import Manifest, ShardOutput
from splatfactory.datasets.store import ShardStore

J = TypeVar("J")


@dataclass(frozen=True)
class Share:
    """One of several jobs that share their work.

    Attributes:
        index: number of the job, from 0.
        count: number of jobs.
    """

    index: int = 0
    count: int = 1

    def of(self, jobs: Sequence[J]) -> Sequence[J]:
        """This job's slice of the work; slices differ in length by at most one."""
        first, end = (len(jobs) * k // self.count for k in (self.index, self.index + 1))
        return jobs[first:end]

    @staticmethod
    def parse(text: str) -> Share:
        """Parse `i/n` as share i of n.

        Raises:
            argparse.ArgumentTypeError: for anything else.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise argparse.ArgumentTypeError(
                f"a share is i/n with i from 0 to n - 1, e.g. 0/4; got {text!r}"
            )
        return Share(int(index), int(count))


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--shard`."""
    parser.add_argument(
        "--shard",
        type=Share.parse,
        default=Share(),
        metavar="i/n",
        help="run job i of n, counted from 0; torchrun splits it further by rank",
    )


def by_rank(share: Share) -> Share:
    """Split a share by the ranks of torchrun."""
    rank, world_size = (int(os.environ.get(n, d)) for n, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
    return Share(share.index * world_size + rank, share.count * world_size)


def chosen(arguments: argparse.Namespace) -> Share:
    """The share given by `--shard` and the ranks of torchrun.

    Raises:
        ValueError: if several jobs would delete each other's output.
    """
    share = by_rank(arguments.shard)
    if share.count > 1 and arguments.overwrite:
        raise ValueError(
            "--overwrite cannot be combined with several jobs; delete the output folder first"
        )
    return share


def write(
    output: ShardOutput,
    jobs: Sequence[J],
    share: Share,
    is_done: Callable[[J, Collection[str]], bool],
    make: Callable[[ShardOutput, Sequence[J]], None],
) -> ShardOutput:
    """Write the scenes of all jobs, or of a share of them.

    Args:
        output: output for all scenes; not open.
        jobs: all jobs, in the same order for all shares.
        share: the share to do.
        is_done: whether a job is finished, given the existing keys.
        make: runs jobs and adds their scenes to an open output.

    Returns:
        The output of all scenes, or of this share while others are missing.
    """
    todo = [job for job in jobs if not is_done(job, output.done)]
    if share.count == 1:
        with output:
            make(output, todo)
        return output
    if not todo:
        return _finished(output)
    folder = output.directory / f".parts-of-{share.count}"
    part = output.part(_folder(folder, share.index), {"inputs": len(jobs)})
    if not part.is_finished:
        with part:
            make(part, [job for job in share.of(jobs) if not is_done(job, part.done)])
    return _assembled(output, folder, share.count) or part


def _finished(output: ShardOutput) -> ShardOutput:
    """The output of all scenes, when nothing is left to do."""
    with _assembly(output.directory):
        whole = output.reopened()
        with whole:
            say(f"{output.directory}: nothing is left to do")
        _assembly_file(output.directory).unlink(missing_ok=True)
    return whole


def _assembly(directory: Path) -> FileLock:
    """Lock: only one job at a time may assemble parts."""
    directory.mkdir(parents=True, exist_ok=True)
    return FileLock(_assembly_file(directory))


def _assembly_file(directory: Path) -> Path:
    return directory / ".assembly.lock"


def _folder(parts: Path, index: int) -> Path:
    return parts / f"{index:05d}"


def _assembled(output: ShardOutput, folder: Path, count: int) -> ShardOutput | None:
    """Assemble all parts if they are complete and no other job has done so."""
    with _assembly(output.directory):
        if not folder.exists():
            return None  # another job did it
        parts = [_folder(folder, index) for index in range(count)]
        manifests = [Manifest.load(part) for part in parts]
        finished = [manifest for manifest in manifests if manifest and manifest.is_complete]
        if len(finished) < count:
            say(f"{output.directory}: {len(finished)} of {count} parts are finished")
            return None
        _check_same(output, finished)
        whole = output.reopened()
        with whole:
            for part, manifest in zip(parts, finished, strict=True):
                _append(whole, part, manifest)
        # Rename atomically, so that a partial set is never mistaken for all parts.
        outdated = folder.with_name(f"{folder.name}.outdated")
        shutil.rmtree(outdated, ignore_errors=True)
        folder.rename(outdated)
        shutil.rmtree(outdated)
        _assembly_file(output.directory).unlink(missing_ok=True)
        return whole


def _check_same(output: ShardOutput, manifests: Sequence[Manifest]) -> None:
    first = manifests[0]
    for number, other in enumerate(manifests):
        if (other.tool, other.settings) != (first.tool, first.settings):
            raise ValueError(
                f"{output.directory}: part {number} was made with {other.settings}, part 0 with"
                f" {first.settings}; give all jobs the same inputs and options"
            )


def _append(whole: ShardOutput, part: Path, manifest: Manifest) -> None:
    """Append the scenes and failures of a part."""
    if manifest.shards:
        store = ShardStore(part)
        order = list(manifest.shards)
        numbers = range(len(store.scenes))
        for number in sorted(numbers, key=lambda n: order.index(store.shard_of(n).name)):
            key = store.scenes[number].key
            if not whole.holds(key):
                whole.manifest.sources |= _entry(manifest.sources, key)
                whole.add(store.read(number))
            elif key not in whole.done:
                whole.fail(key, "duplicate key")
    for reason, items in manifest.failures.items():
        for item in items:
            whole.fail(item, reason)


def _entry(sources: dict[str, str], key: str) -> dict[str, str]:
    return {key: sources[key]} if key in sources else {}
