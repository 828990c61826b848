"""Write generated scenes as shards, resumably (`… .scripts.synthetic.generate`)."""

from __future__ import annotations

import argparse
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from splatfactory import paths
from splatfactory.datasets.generated import stored_scene
from splatfactory.datasets.scripts import sharing
from splatfactory.datasets.scripts.conversion import report, run_command
from splatfactory.datasets.scripts.sharing import Share
from splatfactory.datasets.shard_output import DEFAULT_SHARD_SIZE_MB, ShardOutput
from splatfactory.datasets.shards import StoredScene
from splatscenes.scene import generate_scene, scene_key
from zipsplat.option_types import count

TOOL = "synthetic.generate"
_ALONE = Share()


def image_size(text: str) -> tuple[int, int]:
    """Parse height and width from `252` or `360x640`.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    try:
        sides = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 8:
        raise argparse.ArgumentTypeError(
            f"a size is a side such as 252 or HxW such as 360x640, at least 8 pixels, got {text!r}"
        )
    return sides[0], sides[-1]


def _in_order(
    make: Callable[[int], StoredScene], indices: Iterable[int], num_workers: int
) -> Iterator[StoredScene]:
    """Yield results of `make` in the order of `indices`, with few in memory.

    Threads suffice: rendering and encoding release the GIL.
    """
    waiting: deque[Future[StoredScene]] = deque()
    pool = ThreadPoolExecutor(num_workers)
    try:
        for index in indices:
            waiting.append(pool.submit(make, index))
            if len(waiting) > num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def generate(
    directory: Path,
    split: str,
    num_scenes: int,
    num_views: int,
    size: tuple[int, int],
    seed: int = 0,
    num_workers: int = 1,
    shard_size_mb: float = DEFAULT_SHARD_SIZE_MB,
    overwrite: bool = False,
    share: Share = _ALONE,
) -> int:
    """Write those of the scenes 0 … num_scenes − 1 of a split that are missing.

    Args:
        directory: folder of the shards.
        split: `train` or `test`.
        num_scenes: total number of scenes; a later run may extend it.
        num_views: views per scene.
        size: height and width in pixels.
        seed: seed of the collection.
        num_workers: number of threads.
        shard_size_mb: a shard is closed once it reaches this size, MiB.
        overwrite: delete existing shards first.
        share: share of the work of this job.

    Returns:
        Exit status of the command.

    Raises:
        ValueError: if the directory holds shards made differently.
    """
    settings = {"split": split, "num_views": num_views, "size": list(size), "seed": seed}
    output = ShardOutput(directory, TOOL, settings, shard_size_mb, overwrite)

    def make_one(index: int) -> StoredScene:
        return stored_scene(generate_scene(split, seed, index, num_views, size))

    def make(target: ShardOutput, indices: Sequence[int]) -> None:
        total = len(indices) * num_views
        with tqdm(total=total, unit="view", desc=split, disable=None) as bar:
            for scene in _in_order(make_one, indices, num_workers):
                target.add(scene)
                bar.update(num_views)

    written = sharing.write(
        output,
        range(num_scenes),
        share,
        lambda index, done: scene_key(split, seed, index) in done,
        make,
    )
    return report(written)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.synthetic.generate",
        description="Write generated scenes with exact depth as train or test shards. "
        "A stopped run resumes where it was; a larger --num-scenes extends a finished one.",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("data/synthetic"),
        help="folder of the shards (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "test", "all"),
        default="all",
        help="split to generate (default: %(default)s)",
    )
    parser.add_argument(
        "--num-scenes", type=count, default=1000, help="training scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--num-test-scenes",
        type=count,
        default=None,
        help="test scenes (default: a tenth of the training scenes)",
    )
    parser.add_argument(
        "--num-views", type=count, default=24, help="views per scene (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=image_size, default=(252, 252), help="S or HxW in pixels (default: 252)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the collection (default: %(default)s)"
    )
    parser.add_argument(
        "--num-workers",
        type=int,
        default=os.cpu_count() or 1,
        help="threads (default: one per processor)",
    )
    parser.add_argument(
        "--shard-size-mb",
        type=float,
        default=DEFAULT_SHARD_SIZE_MB,
        help="close a shard at this size, MiB (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing shards")
    sharing.add_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = _parser()
    options = parser.parse_args(argv)
    height, width = options.size
    root = paths.resolve(options.output_dir) / f"{height}x{width}"
    counts = {"train": options.num_scenes}
    counts["test"] = options.num_test_scenes or (
        options.num_scenes if options.split == "test" else max(1, options.num_scenes // 10)
    )
    splits = ("train", "test") if options.split == "all" else (options.split,)

    def run() -> int:
        share = sharing.chosen(options)
        statuses = [
            generate(
                root / f"{split}-scenes",
                split,
                counts[split],
                options.num_views,
                options.size,
                options.seed,
                max(1, options.num_workers),
                options.shard_size_mb,
                options.overwrite,
                share,
            )
            for split in splits
        ]
        return max(statuses)

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
