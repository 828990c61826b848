"""Summarise a shard directory: scenes, views, sizes, depth, damage; optionally a contact sheet."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from tqdm import tqdm

from splatfactory.datasets.frames import FrameError, Pixels
from splatfactory.datasets.scripts import conversion
from splatfactory.datasets.shard_output import Manifest, record_of
from splatfactory.datasets.shards import image_extension
from splatfactory.datasets.store import SceneError, ShardStore
from splatfactory.datasets.view_checks import check_size, check_view

_THUMBNAIL = (160, 120)
_PAGE_COLUMNS = 6


@dataclass
class Description:
    """Summary of a shard directory.

    Attributes:
        directory: folder or URL.
        shards: number of shards.
        bytes: total size of the shards.
        scenes: number of usable scenes.
        views: number of images in usable scenes.
        views_per_scene: minimum, median and maximum.
        scenes_with_depth: number of scenes with a depth map for every image.
        sizes: number of scenes by the size of their first image.
        formats: number of scenes by the format of their first image.
        depth_range: smallest and largest stored depth, over the first views of all scenes.
        damaged_shards: file name → problem.
        broken: scene key → problem.
    """

    directory: str
    shards: int
    bytes: int
    scenes: int
    views: int
    views_per_scene: tuple[int, int, int] = (0, 0, 0)
    scenes_with_depth: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    depth_range: tuple[float, float] | None = None
    damaged_shards: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One scene to inspect."""

    directory: str
    scene: int
    check_all: bool


@dataclass(frozen=True)
class Look:
    """What was found in a scene's images, or its problem."""

    size: str
    format: str
    depth_range: tuple[float, float] | None
    fault: str


def main(argv: Sequence[str] | None = None) -> int:
    """Summarise; the exit status is 1 if something is damaged."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.describe", description=__doc__.splitlines()[0]
    )
    parser.add_argument("input_dir", help="folder or URL of *.tar shards")
    parser.add_argument(
        "--check", action="store_true", help="decode every member and verify digests"
    )
    parser.add_argument("--sheet", type=Path, help="write a contact sheet to this file")
    parser.add_argument(
        "--scenes", type=int, default=8, help="number of scenes on the sheet (default: 8)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--num-workers", type=int, default=0, help="worker processes (default: none)"
    )
    return conversion.run_command(partial(_describe, parser.parse_args(argv)))


def _describe(arguments: argparse.Namespace) -> int:
    store = ShardStore(arguments.input_dir, show_progress=True)
    result = describe(store, arguments.check, arguments.num_workers)
    if arguments.sheet is not None:
        contact_sheet(store, arguments.scenes).save(arguments.sheet)
    _write(result, arguments.json)
    problems = [*result.damaged_shards.items(), *result.broken.items()]
    if problems:
        raise ValueError(
            f"{store.name}: {len(problems)} problems, the first is {problems[0][0]}:"
            f" {problems[0][1]}"
        )
    return 0


def describe(store: ShardStore, check_all: bool = False, num_workers: int = 0) -> Description:
    """Inspect every scene of a directory.

    Args:
        store: the directory.
        check_all: decode every image and depth map, and compare digests with the manifest.
        num_workers: number of processes.
    """
    views = [info.num_views for info in store.scenes]
    result = Description(
        directory=store.name,
        shards=len(store.shard_sizes),
        bytes=sum(size for _, size in store.shard_sizes),
        scenes=len(views),
        views=sum(views),
        scenes_with_depth=sum(info.has_depth for info in store.scenes),
        damaged_shards=dict(store.damage),
        broken={key: str(error) for key, error in store.faults if key not in store.damage},
    )
    if views:
        result.views_per_scene = (min(views), int(np.median(views)), max(views))
    if check_all:
        result.damaged_shards |= _wrong_digests(store)
    jobs = [Job(store.name, scene, check_all) for scene in range(len(views))]
    looks = list(
        tqdm(
            conversion.ordered_map(look, jobs, num_workers),
            "describe",
            total=len(jobs),
            unit="scene",
            disable=None,
        )
    )
    good = [item for item in looks if not item.fault]
    result.sizes = dict(Counter(item.size for item in good))
    result.formats = dict(Counter(item.format for item in good))
    ranges = [item.depth_range for item in good if item.depth_range is not None]
    if ranges:
        result.depth_range = (min(near for near, _ in ranges), max(far for _, far in ranges))
    for info, item in zip(store.scenes, looks, strict=True):
        if item.fault:
            result.broken[info.key] = item.fault
    return result


def look(job: Job) -> Look:
    """Decode the first image of a scene, or all of them."""
    store = _store(job.directory)
    info = store.scenes[job.scene]
    views = range(info.num_views if job.check_all else min(1, info.num_views))
    try:
        cameras, poses = store.cameras(job.scene), store.poses(job.scene)
        first = None
        for view, frame in enumerate(store.frames(job.scene, views)):
            height, width = frame.size
            check_view(cameras[view], poses[view], f"view {view}")
            frame.sample_depth(np.arange(height), np.arange(width))
            check_size(cameras[view], frame.size, f"view {view}")
            first = first or frame
    except (SceneError, FrameError) as error:
        return Look("", "", None, str(error))
    if first is None:
        return Look("", "", None, "no views")
    limits = None
    if first.depth is not None and first.depth.far > 0:
        limits = (first.depth.near, first.depth.far)
    size = f"{first.size[0]}x{first.size[1]}"
    return Look(size, image_extension(first.data), limits, "")


def _wrong_digests(store: ShardStore) -> dict[str, str]:
    """Shards that differ from what the manifest says."""
    manifest = Manifest.load(store.directory)
    if manifest is None:
        return {}
    wrong = {}
    for shard in tqdm(store.shards, "digests", unit="shard", disable=None):
        if shard.name in manifest.shards and record_of(shard) != manifest.shards[shard.name]:
            wrong[shard.name] = "differs from the manifest"
    return wrong


def contact_sheet(store: ShardStore, num_scenes: int) -> Image.Image:
    """Images of some scenes, a row each, with the depth of the first view at the end."""
    count = min(num_scenes, len(store.scenes))
    if count == 0:
        raise ValueError(f"{store.name} has no usable scene to show")
    chosen = np.linspace(0, len(store.scenes) - 1, count).astype(int)
    width, height = _THUMBNAIL
    sheet = Image.new("RGB", (width * (_PAGE_COLUMNS + 1), (height + 16) * count), "white")
    painter = ImageDraw.Draw(sheet)
    for row, scene in enumerate(int(number) for number in chosen):
        info = store.scenes[scene]
        top = row * (height + 16)
        label = f"{info.key[:40]}  {info.num_views} views"
        painter.text((4, top + 2), label + ("" if info.has_depth else "  no depth"), fill="black")
        shown = min(_PAGE_COLUMNS, info.num_views)
        views = np.linspace(0, info.num_views - 1, shown).astype(int)
        for column, tile in enumerate(_tiles(store, scene, [int(view) for view in views])):
            # Enlarge small images, in which faults would be hard to see.
            thumbnail = ImageOps.contain(Image.fromarray(tile), (width - 4, height - 4))
            sheet.paste(thumbnail, (column * width + 2, top + 16))
    return sheet


def _tiles(store: ShardStore, scene: int, views: list[int]) -> list[Pixels]:
    """Images, and the depth of the first in grey; near is bright."""
    try:
        frames = store.frames(scene, views)
        tiles = [frame.crop(0, 0, *frame.size) for frame in frames]
        height, width = frames[0].size
        depth = frames[0].sample_depth(np.arange(height), np.arange(width))
    except (SceneError, FrameError):
        return []
    if depth is not None and (depth > 0).any():
        near, far = depth[depth > 0].min(), depth.max()
        share = np.log(np.maximum(depth, near) / near) / max(np.log(far / near), 1e-6)
        grey = np.where(depth > 0, 255 - 215 * share, 0).astype(np.uint8)
        tiles.append(np.repeat(grey[..., None], 3, axis=2))
    return tiles


def _write(result: Description, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(asdict(result), indent=2) + "\n")
        return
    low, middle, high = result.views_per_scene
    lines = [
        f"{result.directory}: {result.scenes} scenes, {result.views} views in {result.shards}"
        f" shards, {result.bytes / 1e6:.1f} MB",
        f"  views per scene: {low} to {high}, median {middle}",
        f"  images: {_counts(result.sizes)}; {_counts(result.formats)}",
        f"  depth: {result.scenes_with_depth} scenes",
    ]
    if result.depth_range is not None:
        lines[-1] += ", {:.3g} to {:.3g}".format(*result.depth_range)
    lines += [f"  damaged: {name}: {what}" for name, what in result.damaged_shards.items()]
    lines += [f"  broken: {key}: {what}" for key, what in result.broken.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counter.items()) or "none"


@lru_cache(maxsize=1)
def _store(directory: str) -> ShardStore:
    """The directory, opened once per process."""
    return ShardStore(directory)


if __name__ == "__main__":
    raise SystemExit(main())
