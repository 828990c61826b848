"""Evaluation indices: the context and target views of each scene in a benchmark.

An index is JSON: scene key → {"context": [frames], "target": [frames]}, or null for a scene
that is skipped. Published indices are downloaded once from the reference repository, pinned and
verified. `python -m splatfactory.eval.indices make` makes one for any shard directory by the same
family of rules: context views by farthest-point sampling of the camera path (as pixelSplat's
generator does), targets among the remaining frames.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory import paths
from splatfactory.datasets.shard_output import write_json
from splatfactory.datasets.store import SceneError, ShardStore
from zipsplat.downloads import Source, fetch
from zipsplat.terminal import EXPECTED_ERRORS, error_line

REPOSITORY = "cvg/ZipSplat"
COMMIT = "e1b592da0105e5c8c93ff47750c909cbe4634a1d"
SEED = 42

Entry = dict[str, list[int]]
Index = dict[str, Entry | None]


@dataclass(frozen=True)
class PublishedFile:
    """A file in the reference repository.

    Attributes:
        path: Path in the repository.
        size: Size in bytes.
        sha256: Digest of its contents.
    """

    path: str
    size: int
    sha256: str

    @property
    def source(self) -> Source:
        """Its download source."""
        url = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/{self.path}"
        return Source(url, self.sha256, self.size, COMMIT)

    @property
    def cached(self) -> Path:
        """Its place in the cache; without a connection, put it there by hand."""
        return paths.cache_root() / "reference" / COMMIT[:12] / self.path


def _index(path: str, size: int, sha256: str) -> PublishedFile:
    return PublishedFile(f"splatfactory/eval/indices/{path}", size, sha256)


PUBLISHED: Mapping[tuple[str, int], PublishedFile] = {
    ("re10k", 6): _index(
        "re10k/ctx_6v_tgt_8v.json",
        352459,
        "1cc0e14c8040c64040256adb008cc99821f52f0eb7e7a8fc50bb43381e06d221",
    ),
    ("dl3dv", 6): _index(
        "dl3dv/ctx_6v_tgt_8v.json",
        20696,
        "602d0b38e7f003ccfac8b634fb48d5f853004dd0481c307fd61af2ff90b770b9",
    ),
    ("dl3dv", 12): _index(
        "dl3dv/ctx_12v_tgt_8v.json",
        44677,
        "4e191e1feb32a340ec4ec8fa77e7859bf8f44591fda0c1c3ea250619acd562fa",
    ),
    ("dl3dv", 24): _index(
        "dl3dv/ctx_24v_tgt_8v.json",
        32254,
        "56fffdf63eff167d264a1683e2b17c0ef79ec83e9c1e5a4f681209b9bd3ec219",
    ),
    ("mipnerf360", 32): _index(
        "mipnerf360/ctx_32v.json",
        2905,
        "72ae7ed2246a79abd3206f5a8ce3d4e28ebeb9f51bcd83644ab1f77c95f418f6",
    ),
    ("mipnerf360", 64): _index(
        "mipnerf360/ctx_64v.json",
        4934,
        "99d92f43bf1a0078e9b77b5cd910317bbc818061153e7984082d25a709ff4708",
    ),
    ("mipnerf360", 128): _index(
        "mipnerf360/ctx_128v.json",
        8977,
        "4eae7b6f6caad82f2c4fc4fae0e1aa658d6efe9e21ca62780005a16d6d050415",
    ),
}
"""The seven published indices, by data set and number of context views."""

DL3DV_SPLIT = PublishedFile(
    "splatfactory/datasets/scripts/dl3dv/split.json",
    10170,
    "fc1e914170eee125d2d424ad2fdb8a7f854d67df606070bfc221bc2d4741ab55",
)


class ContextRule(str, Enum):
    """How context views are chosen among the first frames of a clip."""

    FARTHEST = "farthest"
    EVEN = "even"


class TargetRule(str, Enum):
    """How targets are chosen."""

    SPREAD = "spread"
    RANDOM = "random"


@dataclass(frozen=True)
class IndexRules:
    """Rules that make an index.

    Attributes:
        num_context: Context views per scene.
        num_target: Target views per scene.
        window: Number of frames used from the start of a clip; None uses all.
        context: How context views are chosen.
        target: How targets are chosen.
        allow_leak: Let targets be context views, as some published indices do.
        seed: Seed of random choices.
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


def published_index(benchmark: str, num_views: int) -> Path:
    """The published index of a benchmark, downloaded if missing.

    Raises:
        ValueError: if there is none for this number of context views.
        DownloadError: if the download fails or its digest differs from the pinned one.
    """
    if (benchmark, num_views) not in PUBLISHED:
        known = [views for name, views in PUBLISHED if name == benchmark]
        names = sorted({name for name, _ in PUBLISHED})
        choices = f"choose from {known}" if known else f"known benchmarks: {', '.join(names)}"
        raise ValueError(f"no published index {benchmark} with {num_views} views; {choices}")
    file = PUBLISHED[benchmark, num_views]
    return fetch(file.source, file.cached)


def dl3dv_test_ids(path: Path | None = None) -> frozenset[str]:
    """Keys of the DL3DV test scenes.

    Args:
        path: JSON list, JSON {"test": [...]}, or one key per line; None takes the published split.

    Raises:
        ValueError: if the file lists no scenes.
    """
    path = fetch(DL3DV_SPLIT.source, DL3DV_SPLIT.cached) if path is None else path
    text = path.read_text()
    try:
        content: Any = json.loads(text)
    except ValueError:
        content = text.split()
    if isinstance(content, dict):
        content = content.get("test")
    if not isinstance(content, list) or not all(isinstance(key, str) for key in content):
        raise ValueError(f'{path} must hold scene keys: a JSON list, {{"test": [...]}}, or lines')
    return frozenset(content)


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


def re10k_index(
    frame_counts: Mapping[str, int], num_context: int = 6, num_target: int = 8
) -> Index:
    """The RE10K index by its rule, to check the published one.

    A single generator serves all scenes in ascending key order.

    Args:
        frame_counts: number of frames of each clip.
        num_context: context views per scene.
        num_target: target views per scene.
    """
    rng = random.Random(SEED)
    return {
        key: {
            "context": evenly_spaced(frame_counts[key], num_context),
            "target": sorted(rng.sample(range(frame_counts[key]), num_target)),
        }
        for key in sorted(frame_counts)
    }


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
    parser = argparse.ArgumentParser(description="Download or make evaluation indices.")
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
    parser.add_argument("--num-context", type=int, default=6)
    parser.add_argument("--num-target", type=int, default=8)
    parser.add_argument("--window", type=int, help="use only the first WINDOW frames of a clip")
    parser.add_argument(
        "--context-rule", type=ContextRule, choices=list(ContextRule), default=ContextRule.FARTHEST
    )
    parser.add_argument(
        "--target-rule", type=TargetRule, choices=list(TargetRule), default=TargetRule.SPREAD
    )
    parser.add_argument(
        "--allow-leak", action="store_true", help="allow targets that are context views"
    )
    parser.add_argument("--seed", type=int, default=SEED)


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
    for key, reason in skipped.items():
        sys.stderr.write(f"skipped: {key}: {reason}\n")
    if not index:
        raise ValueError(f"no scene of {arguments.directory} is long enough")
    write_json(arguments.output, index, indent=2)
    sys.stderr.write(f"{arguments.output}: {len(index)} scenes, {len(skipped)} skipped\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
