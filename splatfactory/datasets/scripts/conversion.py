"""Shared by all converters: options, worker processes, order, progress, exit status."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from splatfactory.datasets.shard_output import DEFAULT_SHARD_SIZE_MB, ShardOutput
from splatfactory.datasets.shards import StoredScene
from splatfactory.datasets.worker_processes import end_with_parent, start_context
from zipsplat.terminal import EXPECTED_ERRORS, error_line, printable

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """A scene that could not be made.

    Attributes:
        item: scene key, or its source file.
        reason: short, and equal for all scenes with this fault.
        detail: details of this case.
    """

    item: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        named = [] if self.item in self.reason else [self.item]
        return ": ".join([*named, self.reason, *([self.detail] if self.detail else [])])


Result = StoredScene | Failure


def add_common_options(parser: argparse.ArgumentParser, with_shard_size: bool = True) -> None:
    """Add `--num-workers`, `--overwrite` and, if shards hold many scenes, `--shard-size-mb`."""
    parser.add_argument(
        "--num-workers",
        type=int,
        default=0,
        help="worker processes; 0: none (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="delete existing shards and start over"
    )
    if with_shard_size:
        parser.add_argument(
            "--shard-size-mb",
            type=float,
            default=DEFAULT_SHARD_SIZE_MB,
            help="close a shard at this size, MiB (default: %(default)s)",
        )


def convert(
    output: ShardOutput,
    jobs: Sequence[J],
    work: Callable[[J], list[Result]],
    num_workers: int,
    description: str,
) -> None:
    """Run jobs and write their scenes in job order.

    Args:
        output: where to write scenes; must be open.
        jobs: the jobs.
        work: maps a job to its scenes and failures; a picklable module-level function.
        num_workers: number of processes; does not affect the shards.
        description: label of the progress bar.
    """
    bar = tqdm(total=len(jobs), desc=description, unit="job", disable=None)
    with bar:
        for results in ordered_map(work, jobs, num_workers):
            for result in results:
                if isinstance(result, Failure):
                    output.fail(result.item, result.reason)
                    bar.write(printable(f"error: {result}"), file=sys.stderr)
                elif output.holds(result.key) and result.key not in output.done:
                    # Two inputs with one key must not stop the whole conversion.
                    output.fail(result.key, "duplicate key")
                    text = f"error: {result.key}: another scene has this key"
                    bar.write(printable(text), file=sys.stderr)
                elif result.key not in output.done:
                    output.add(result)
            bar.update()


def ordered_map(work: Callable[[J], R], jobs: Sequence[J], num_workers: int) -> Iterator[R]:
    """Yield results in job order, with few in memory at a time."""
    _check_workers(num_workers)
    if num_workers == 0 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    workers = min(num_workers, len(jobs))
    with ProcessPoolExecutor(
        workers, mp_context=start_context(), initializer=end_with_parent
    ) as pool:
        yield from _in_order(pool, work, jobs, 2 * num_workers)


def threaded_map(work: Callable[[J], R], jobs: Iterable[J], num_workers: int) -> Iterator[R]:
    """Like `ordered_map`, in threads: for work that reads, decodes or compresses.

    Jobs may be an iterator; the calling thread consumes it, at most `num_workers` ahead.
    """
    _check_workers(num_workers)
    if num_workers == 0:
        yield from map(work, jobs)
        return
    with ThreadPoolExecutor(num_workers) as pool:
        yield from _in_order(pool, work, jobs, num_workers)


def _check_workers(num_workers: int) -> None:
    if num_workers < 0:
        raise ValueError(f"--num-workers must not be negative, got {num_workers}")


def _in_order(pool: Executor, work: Callable[[J], R], jobs: Iterable[J], ahead: int) -> Iterator[R]:
    waiting: deque[Future[R]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(work, job))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def report(output: ShardOutput) -> int:
    """Print the contents of a directory to stdout; returns the exit status of the command."""
    manifest = output.manifest
    scenes = sum(record.scenes for record in manifest.shards.values())
    size = sum(record.bytes for record in manifest.shards.values())
    lines = [
        f"{output.directory}: {scenes} scenes in {len(manifest.shards)} shards, {size / 1e6:.1f} MB"
    ]
    for reason, items in manifest.failures.items():
        examples = ", ".join(items[:3]) + (", …" if len(items) > 3 else "")
        lines.append(f"  failed, {reason}: {len(items)} ({examples})")
    sys.stdout.write(printable("\n".join(lines)) + "\n")
    return 1 if output.num_failures else 0


def say(text: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(printable(text) + "\n")


def run_command(command: Callable[[], int]) -> int:
    """Run a command; expected errors become one line and a non-zero exit status."""
    try:
        return command()
    except EXPECTED_ERRORS as error:
        say(f"error: {error_line(error)}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run the same command again to resume")
        return 130
