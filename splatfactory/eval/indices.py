"""Evaluation indices: the context and target views of each scene in a benchmark.

An index is JSON: scene key → {"context": [frames], "target": [frames]}, or null for a scene that is
skipped. `python -m splatfactory.eval.indices make` makes one for any shard directory by the family
of rules of the published ones: context views by farthest-point sampling of the camera path (as
pixelSplat's generator does), targets among the remaining frames.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory import paths
from splatfactory.datasets.shard_output import write_json
from splatfactory.datasets.store import SceneError, ShardStore
from splatfactory.published_indices import DL3DV_SPLIT, PUBLISHED
from zipsplat.downloads import fetch
from zipsplat.terminal import EXPECTED_ERRORS, error_line, printable

SEED = 42

Entry = dict[str, list[int]]
Index = dict[str, Entry | None]


class ContextRule(str, Enum):
    """How context views are chosen among the first frames of a clip."""

    FARTHEST = "farthest"
    EVEN = "even"

    __str__ = str.__str__  # `--help` lists the values


class TargetRule(str, Enum):
    """How targets are chosen."""

    SPREAD = "spread"
    RANDOM = "random"

    __str__ = str.__str__  # `--help` lists the values


@dataclass(frozen=True)
class IndexRules:
    """Rules that make an index.

    Attributes:
        num_context: context views per scene.
        num_target: target views per scene.
        window: number of frames used from the start of a clip; None uses all.
        context: how context views are chosen.
        target: how targets are chosen.
        allow_leak: let targets be context views, as some published indices do.
        seed: seed of random choices.
    """

    num_context: int
    num_target: int
    window: int | None = None
    context: ContextRule = ContextRule.FARTHEST
    target: TargetRule = TargetRule.SPREAD
    allow_leak: bool = False
    seed: int = SEED

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.num_context < 1 or self.num_target < 1:
            raise ValueError("an index needs at least one context and one target view")
        if self.window is not None and self.window < self.num_needed:
            raise ValueError(
                f"a window of {self.window} frames is too small for {self.num_context} context and"
                f" {self.num_target} target views"
            )

    @property
    def num_needed(self) -> int:
        """Minimum number of frames in a clip."""
        if self.allow_leak:
            return max(self.num_context, self.num_target)
        return self.num_context + self.num_target


def evenly_spaced(num_frames: int, count: int) -> list[int]:
    """Frames ⌊i (T − 1) / (count − 1)⌋, first and last included."""
    if count == 1:
        return [0]
    return [i * (num_frames - 1) // (count - 1) for i in range(count)]


def farthest_points(centres: npt.NDArray[Any], count: int, start: int = 0) -> list[int]:
    """Farthest-point sampling: indices of the chosen centres, ascending.

    Args:
        centres: (N, 3) camera centres.
        count: number of points to choose, at most N.
        start: index of the first point.
    """
    chosen = [start]
    distance = np.full(len(centres), np.inf)
    for _ in range(count - 1):
        gap = np.linalg.norm(centres - centres[chosen[-1]], axis=1)
        distance = np.minimum(distance, gap)
        distance[chosen] = -1.0  # never choose one twice, even among coincident cameras
        chosen.append(int(distance.argmax()))
    return sorted(chosen)


def spread(frames: Sequence[int], count: int) -> list[int]:
    """Every ⌊n / count⌋-th of n frames."""
    step = len(frames) // count
    return [frames[i * step] for i in range(count)]


def make_index(store: ShardStore, rules: IndexRules) -> tuple[Index, dict[str, str]]:
    """Make an index for the scenes of a shard directory.

    Returns:
        The index, in ascending key order; and the skipped scenes, with the reason.
    """
    rng = random.Random(rules.seed)
    index: Index = {}
    skipped = {key: str(error) for key, error in store.faults}
    for number, info in sorted(enumerate(store.scenes), key=lambda item: item[1].key):
        if info.num_views < max(rules.num_needed, rules.window or 0):
            skipped[info.key] = f"has only {info.num_views} frames"
            continue
        try:
            centres = store.poses(number)[: rules.window, 9:]
        except SceneError as error:
            skipped[info.key] = str(error)
            continue
        index[info.key] = choose_views(centres, rules, rng)
    return index, skipped


def choose_views(centres: npt.NDArray[Any], rules: IndexRules, rng: random.Random) -> Entry:
    """Context and target frames of one clip, both ascending."""
    if rules.context == ContextRule.FARTHEST:
        context = farthest_points(centres, rules.num_context)
    else:
        context = evenly_spaced(len(centres), rules.num_context)
    if rules.allow_leak:
        frames = list(range(context[0], context[-1] + 1))
        frames = frames if len(frames) >= rules.num_target else list(range(len(centres)))
    else:
        frames = [frame for frame in range(len(centres)) if frame not in context]
    if rules.target == TargetRule.RANDOM:
        return {"context": context, "target": sorted(rng.sample(frames, rules.num_target))}
    return {"context": context, "target": spread(frames, rules.num_target)}


def main(argv: Sequence[str] | None = None) -> int:
    """Download the published indices, or make a new one; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.eval.indices",
        description="Download or make evaluation indices.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download and verify the published indices")
    _add_make_options(commands.add_parser("make", help="make an index for a shard directory"))
    arguments = parser.parse_args(argv)
    try:
        return _fetch_all() if arguments.command == "fetch" else _make(arguments)
    except EXPECTED_ERRORS as error:
        sys.stderr.write(f"error: {error_line(error)}\n")
        return 1


def _add_make_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="folder of *.tar shards")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument(
        "--num-context", type=int, default=6, help="context views per scene (default: %(default)s)"
    )
    parser.add_argument(
        "--num-target", type=int, default=8, help="target views per scene (default: %(default)s)"
    )
    parser.add_argument("--window", type=int, help="use only the first WINDOW frames of a clip")
    parser.add_argument(
        "--context-rule",
        type=ContextRule,
        choices=list(ContextRule),
        default=ContextRule.FARTHEST,
        help="how to choose context views (default: %(default)s)",
    )
    parser.add_argument(
        "--target-rule",
        type=TargetRule,
        choices=list(TargetRule),
        default=TargetRule.SPREAD,
        help="how to choose targets (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-leak", action="store_true", help="allow targets that are context views"
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, help="seed of random choices (default: %(default)s)"
    )


def _fetch_all() -> int:
    for file in (*PUBLISHED.values(), DL3DV_SPLIT):
        sys.stderr.write(f"{fetch(file.source, file.cached)}\n")
    return 0


def _make(arguments: argparse.Namespace) -> int:
    rules = IndexRules(
        arguments.num_context,
        arguments.num_target,
        arguments.window,
        arguments.context_rule,
        arguments.target_rule,
        arguments.allow_leak,
        arguments.seed,
    )
    store = ShardStore(paths.resolve(arguments.directory), show_progress=True)
    index, skipped = make_index(store, rules)
    if not index:
        key, reason = next(iter(skipped.items()), ("it", "is empty"))
        raise ValueError(
            f"{arguments.directory} has no usable scene; {len(skipped)} were skipped,"
            f" the first is {key}: {reason}"
        )
    for key, reason in skipped.items():
        sys.stderr.write(printable(f"skipped: {key}: {reason}") + "\n")
    write_json(arguments.output, index, indent=2)
    sys.stderr.write(f"{arguments.output}: {len(index)} scenes, {len(skipped)} skipped\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
