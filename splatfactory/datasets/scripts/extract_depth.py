"""Add depth maps to the shards of a directory, in place.

The depth estimator is Depth Anything 3, or one's own by `--estimator module:function`. Its scale
comes from the cameras' places, which must not be on a line; so a scene needs three views or more.
Start the command under torchrun to use several GPUs, and with `--shard i/n` on several machines;
each job takes every n-th shard, and makes of it what a single job would. A killed run continues
after the last scene that was written; a scene that fails keeps what it had.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch.nn import functional
from tqdm import tqdm

from splatfactory.datasets import depth_codec, offsets
from splatfactory.datasets.frames import FrameError, Pixels, decode_pixels
from splatfactory.datasets.scripts import conversion, depth_estimators, sharing
from splatfactory.datasets.scripts.depth_estimators import DepthEstimator
from splatfactory.datasets.scripts.sharing import Share
from splatfactory.datasets.shard_output import MANIFEST_NAME, Manifest, record_of
from splatfactory.datasets.shards import PARTIAL_SUFFIX, ShardWriter, StoredScene
from splatfactory.datasets.store import ShardStore
from zipsplat.camera import Camera
from zipsplat.pose import Pose

LEFTOVER_SUFFIX = ".resume"
_ALONE = Share()

FloatMap = npt.NDArray[np.float32]

_Prepared = tuple[StoredScene, "list[Pixels] | FrameError | None"]
_Estimated = tuple[StoredScene, "list[FloatMap] | None"]


@dataclass(frozen=True)
class Options:
    """How depth is extracted.

    Attributes:
        max_views: Views that the estimator sees at a time; None shows it whole scenes.
        overwrite: Replace depth that is there.
        share: Of the work; job i of n takes every n-th shard, from the i-th on.
        seed: Of an estimator that draws random numbers; each scene begins with it again.
        show_progress: Show a bar.
        num_workers: Threads that decode and encode while the estimator works; so many scenes are
            in memory before it, and so many behind it. The shards do not depend on it.
    """

    max_views: int | None = None
    overwrite: bool = False
    share: Share = _ALONE
    seed: int = 42
    show_progress: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.max_views is not None and self.max_views < 1:
            raise ValueError(f"--max-views must be positive, got {self.max_views}")
        if self.num_workers < 0:
            raise ValueError(f"--num-workers must not be negative, got {self.num_workers}")


@dataclass
class Outcome:
    """What came of it, in scenes."""

    extracted: int = 0
    kept: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Extract; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input_dir", type=Path, help="folder of *.tar shards")
    parser.add_argument("--max-views", type=int, help="views per pass; bounds memory")
    parser.add_argument("--overwrite", action="store_true", help="replace depth that is there")
    parser.add_argument("--show-all-progress", action="store_true", help="a bar for every process")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--estimator", default=depth_estimators.DEFAULT_NAME, metavar="NAME")
    parser.add_argument(
        "--weights", default=depth_estimators.DEFAULT_WEIGHTS,
        help="of Depth Anything 3: a name such as da3-base, a file, address or repository"
        " (default: %(default)s, for non-commercial use)",
    )  # fmt: skip
    parser.add_argument(
        "--num-workers", type=int, default=0,
        help="threads that decode scenes ahead and encode depth while the estimator works",
    )  # fmt: skip
    sharing.add_option(parser)
    return conversion.run_command(partial(_main, parser.parse_args(argv)))


def _main(arguments: argparse.Namespace) -> int:
    share = sharing.by_rank(arguments.shard)
    options = Options(
        arguments.max_views,
        arguments.overwrite,
        share,
        arguments.seed,
        share.index == 0 or arguments.show_all_progress,
        arguments.num_workers,
    )
    ShardStore(arguments.input_dir).close()  # before minutes are spent on loading a network
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    estimator = depth_estimators.load(arguments.estimator, device, arguments.weights)
    outcome = extract(arguments.input_dir, estimator, options)
    conversion.say(
        f"job {share.index} of {share.count}: depth for {outcome.extracted} scenes,"
        f" {outcome.kept} had it, {len(outcome.failures)} failed"
    )
    for key, reason in outcome.failures.items():
        conversion.say(f"  failed: {key}: {reason}")
    return 1 if outcome.failures else 0


def extract(directory: Path, estimator: DepthEstimator, options: Options) -> Outcome:
    """Add depth to a share of the shards; those that another process works on are left alone.

    Raises:
        OSError: if the disk is full; the shard in work is as it was before.
    """
    outcome = Outcome()
    shards = ShardStore(directory).shards[options.share.index :: options.share.count]
    hidden = None if options.show_progress else True
    for shard in tqdm(shards, "extract depth", unit="shard", disable=hidden):
        try:
            lock = FileLock(shard.with_name(f".{shard.name}.lock"), timeout=0)
            with lock:
                _extract_shard(shard, estimator, options, outcome)
                Path(lock.lock_file).unlink(missing_ok=True)
        except Timeout:
            conversion.say(f"{shard.name} is left to another process that works on it")
    return outcome


def _extract_shard(
    shard: Path, estimator: DepthEstimator, options: Options, outcome: Outcome
) -> None:
    store = ShardStore(shard.parent, only=shard)
    has_depth = [info.has_depth for info in store.scenes]
    if store.damage or store.faults:
        outcome.failures[shard.name] = next(iter(store.damage.values()), "incomplete scenes")
        return  # rewriting would lose what can no longer be read
    if all(has_depth) and not options.overwrite:
        outcome.kept += len(has_depth)
        return
    finished = _Leftovers(shard, use=not options.overwrite)
    numbers = range(len(store.scenes))
    # Reading and decoding run ahead of the estimator, encoding behind it; it works in this thread.
    prepared = conversion.threaded_map(
        partial(_prepare, store, finished, options.overwrite), numbers, options.num_workers
    )
    estimated = _estimate_all(prepared, estimator, options, outcome)
    with ShardWriter(shard) as writer:
        for scene in conversion.threaded_map(_encode, estimated, options.num_workers):
            writer.add(scene)
    offsets.build(shard)
    finished.remove()
    _update_manifest(shard)


def _prepare(store: ShardStore, finished: _Leftovers, overwrite: bool, number: int) -> _Prepared:
    """A scene as it is stored and, unless it has depth already, its decoded images."""
    scene = finished.take(store.scenes[number].key)
    if scene is not None:
        return scene, None
    scene = store.read(number)
    if scene.depths is not None and not overwrite:
        return scene, None
    try:
        return scene, [decode_pixels(data) for data in scene.images]
    except (OSError, ValueError, SyntaxError) as error:
        return scene, FrameError(f"an image cannot be decoded: {error}")


def _estimate_all(
    prepared: Iterable[_Prepared],
    estimator: DepthEstimator,
    options: Options,
    outcome: Outcome,
) -> Iterator[_Estimated]:
    """Depth maps of each scene; None for those that have depth, or where it fails."""
    for scene, images in prepared:
        if images is None:
            outcome.kept += 1
            yield scene, None
            continue
        try:
            if isinstance(images, FrameError):
                raise images
            _seed(options.seed)
            depths = estimate_scene(scene, images, estimator, options.max_views)
        except (FrameError, ValueError, RuntimeError, AssertionError) as error:
            outcome.failures[scene.key] = f"{type(error).__name__}: {error}"
            yield scene, None
            continue
        outcome.extracted += 1
        yield scene, depths


def _seed(seed: int) -> None:
    """Begin all random numbers again, so that no scene's depth depends on those before it."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _encode(estimated: _Estimated) -> StoredScene:
    """The scene with its new depth, or as it was."""
    scene, depths = estimated
    if depths is None:
        return scene
    return replace(scene, depths=tuple(depth_codec.encode(depth) for depth in depths))


def estimate_scene(
    scene: StoredScene,
    images: Sequence[Pixels],
    estimator: DepthEstimator,
    max_views: int | None = None,
) -> list[FloatMap]:
    """Depth maps of all views of a scene, at the size of its images.

    Scenes with more than `max_views` views are shown in parts, each of which spans the whole
    camera path: view i belongs to part i mod (number of parts).

    Args:
        scene: cameras and poses.
        images: its images (H, W, 3), decoded.
        estimator: makes the maps.
        max_views: views that it sees at a time; None shows it all.

    Raises:
        ValueError: if it returns another number of maps.
    """
    N = scene.num_views
    K = Camera.from_packed(torch.from_numpy(scene.cameras)).K.numpy()
    poses = Pose.from_packed(torch.from_numpy(scene.poses)).Rt_inv.numpy()
    parts = 1 if max_views is None else -(-N // max_views)
    depths: dict[int, FloatMap] = {}
    for part in range(parts):
        views = list(range(part, N, parts))
        estimated = estimator.estimate([images[view] for view in views], K[views], poses[views])
        if len(estimated) != len(views):
            raise ValueError(f"the estimator gave {len(estimated)} maps for {len(views)} views")
        for view, depth in zip(views, estimated, strict=True):
            depths[view] = _enlarge(depth, images[view].shape[0], images[view].shape[1])
    return [depths[view] for view in range(N)]


def _enlarge(depth: FloatMap, height: int, width: int) -> FloatMap:
    """Bilinear, with pixel centres at half a pixel, without smoothing."""
    map_ = torch.from_numpy(np.ascontiguousarray(depth, dtype=np.float32))[None, None]
    enlarged = functional.interpolate(map_, (height, width), mode="bilinear", align_corners=False)
    result: FloatMap = enlarged[0, 0].numpy()
    return result


class _Leftovers:
    """Scenes with depth that a killed run had already written for a shard."""

    def __init__(self, shard: Path, use: bool) -> None:
        partial_file = shard.with_name(shard.name + PARTIAL_SUFFIX)
        if partial_file.exists():
            number = len(self._files(shard))
            partial_file.rename(shard.with_name(f"{shard.name}{LEFTOVER_SUFFIX}{number}"))
        self.paths = self._files(shard)
        self._stores = [ShardStore(path.parent, only=path) for path in self.paths] if use else []

    @staticmethod
    def _files(shard: Path) -> list[Path]:
        return sorted(shard.parent.glob(f"{shard.name}{LEFTOVER_SUFFIX}*"))

    def take(self, key: str) -> StoredScene | None:
        """The finished scene of this key, if there is one."""
        for store in self._stores:
            for number, info in enumerate(store.scenes):
                if info.key == key and info.has_depth:
                    return store.read(number)
        return None

    def remove(self) -> None:
        """Delete the files; the finished shard has everything."""
        for path in self.paths:
            offsets.remove(path)
            path.unlink()


def _update_manifest(shard: Path) -> None:
    """Put the new size and digest of a shard on record; ranks take turns."""
    with FileLock(shard.with_name(f".{MANIFEST_NAME}.lock")):
        manifest = Manifest.load(shard.parent)
        if manifest is not None and shard.name in manifest.shards:
            manifest.shards[shard.name] = record_of(shard)
            manifest.save(shard.parent)


if __name__ == "__main__":
    raise SystemExit(main())
