"""Add estimated depth maps to the shards of a directory, in place.

The estimator is Depth Anything 3, or your own with `--estimator module:function`. Its scale comes
from the camera positions, which must not be collinear, so a scene needs at least three views. Run
under torchrun to use several GPUs, and with `--shard i/n` on several machines; each job takes every
n-th shard, with the same result as a single job. A killed run resumes after the last written scene;
a scene that fails is left unchanged.
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
    """Options of the depth extraction.

    Attributes:
        max_views: views per estimator call; None passes whole scenes.
        overwrite: replace existing depth.
        share: share of the work; job i of n takes every n-th shard, from the i-th on.
        seed: seed for estimators that use random numbers; set again for each scene.
        show_progress: show a progress bar.
        num_workers: threads that decode and encode while the estimator runs; each also keeps one
            decoded and one estimated scene in memory. Does not affect the shards.
    """

    max_views: int | None = None
    overwrite: bool = False
    share: Share = _ALONE
    seed: int = 42
    show_progress: bool = False
    num_workers: int = 0

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.max_views is not None and self.max_views < 1:
            raise ValueError(f"--max-views must be positive, got {self.max_views}")
        if self.num_workers < 0:
            raise ValueError(f"--num-workers must not be negative, got {self.num_workers}")


@dataclass
class Outcome:
    """Numbers of scenes by outcome."""

    extracted: int = 0
    kept: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Extract; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.extract_depth",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument("input_dir", type=Path, help="folder of *.tar shards")
    parser.add_argument("--max-views", type=int, help="views per estimator call, limits memory")
    parser.add_argument("--overwrite", action="store_true", help="replace existing depth")
    parser.add_argument(
        "--show-all-progress", action="store_true", help="show a progress bar for every process"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=42,
        help="seed for estimators that use random numbers (default: %(default)s)",
    )
    parser.add_argument(
        "--estimator",
        default=depth_estimators.DEFAULT_NAME,
        metavar="NAME",
        help="depth_anything_3, or module:function of your own (default: %(default)s)",
    )
    parser.add_argument(
        "--weights", default=depth_estimators.DEFAULT_WEIGHTS,
        help="weights of Depth Anything 3: a name such as da3-base, a file, URL or repository"
        " (default: %(default)s, for non-commercial use)",
    )  # fmt: skip
    parser.add_argument(
        "--num-workers", type=int, default=0,
        help="threads that decode and encode while the estimator runs",
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
    ShardStore(arguments.input_dir).close()  # fail before spending minutes on loading a network
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    estimator = depth_estimators.load(arguments.estimator, device, arguments.weights)
    outcome = extract(arguments.input_dir, estimator, options)
    conversion.say(
        f"job {share.index} of {share.count}: depth for {outcome.extracted} scenes,"
        f" {outcome.kept} had it already, {len(outcome.failures)} failed"
    )
    for key, reason in outcome.failures.items():
        conversion.say(f"  failed: {key}: {reason}")
    return 1 if outcome.failures else 0


def extract(directory: Path, estimator: DepthEstimator, options: Options) -> Outcome:
    """Add depth to a share of the shards; shards locked by another process are skipped.

    Raises:
        OSError: if the disk is full; the current shard stays unchanged.
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
            conversion.say(f"{shard.name} skipped: another process works on it")
    return outcome


def _extract_shard(
    shard: Path, estimator: DepthEstimator, options: Options, outcome: Outcome
) -> None:
    store = ShardStore(shard.parent, only=shard)
    has_depth = [info.has_depth for info in store.scenes]
    if store.damage or store.faults:
        outcome.failures[shard.name] = next(iter(store.damage.values()), "incomplete scenes")
        return  # rewriting would lose the unreadable parts
    if all(has_depth) and not options.overwrite:
        outcome.kept += len(has_depth)
        return
    finished = _Leftovers(shard, use=not options.overwrite)
    numbers = range(len(store.scenes))
    # Threads read and decode ahead of the estimator and encode behind it; it runs in this thread.
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
    """A stored scene and, unless it has depth already, its decoded images."""
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
    """Depth maps of each scene; None for scenes that have depth or fail."""
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
    """Seed all generators, so that no scene's depth depends on the scenes before it."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _encode(estimated: _Estimated) -> StoredScene:
    """The scene with its new depth, or unchanged."""
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
    """Estimate depth maps of all views of a scene, at the size of its images.

    Scenes with more than `max_views` views are split into parts, each of which spans the whole
    camera path: view i belongs to part i mod (number of parts).

    Args:
        scene: scene with cameras and poses.
        images: its images (H, W, 3), decoded.
        estimator: estimator of the maps.
        max_views: views per estimator call; None passes all.

    Raises:
        ValueError: if it returns a wrong number of maps.
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
            raise ValueError(f"the estimator returned {len(estimated)} maps for {len(views)} views")
        for view, depth in zip(views, estimated, strict=True):
            depths[view] = _enlarge(depth, images[view].shape[0], images[view].shape[1])
    return [depths[view] for view in range(N)]


def _enlarge(depth: FloatMap, height: int, width: int) -> FloatMap:
    """Bilinear upsampling with pixel centres at half-integers."""
    map_ = torch.from_numpy(np.ascontiguousarray(depth, dtype=np.float32))[None, None]
    enlarged = functional.interpolate(map_, (height, width), mode="bilinear", align_corners=False)
    result: FloatMap = enlarged[0, 0].numpy()
    return result


class _Leftovers:
    """Scenes with depth that a killed run already wrote for a shard."""

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
        """The finished scene with this key, if any."""
        for store in self._stores:
            for number, info in enumerate(store.scenes):
                if info.key == key and info.has_depth:
                    return store.read(number)
        return None

    def remove(self) -> None:
        """Delete the files; the finished shard has all scenes."""
        for path in self.paths:
            offsets.remove(path)
            path.unlink()


def _update_manifest(shard: Path) -> None:
    """Record the new size and digest of a shard; a lock serialises ranks."""
    with FileLock(shard.with_name(f".{MANIFEST_NAME}.lock")):
        manifest = Manifest.load(shard.parent)
        if manifest is not None and shard.name in manifest.shards:
            manifest.shards[shard.name] = record_of(shard)
            manifest.save(shard.parent)


if __name__ == "__main__":
    raise SystemExit(main())
