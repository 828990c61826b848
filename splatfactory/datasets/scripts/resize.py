"""Copy a shard directory at a fixed square size.

Each view is resized and cropped as in training, with its camera updated; images become lossless
WebP, depth maps are re-encoded with new ranges.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets import depth_codec, resizing
from splatfactory.datasets.frames import FrameError
from splatfactory.datasets.scripts import conversion
from splatfactory.datasets.scripts.conversion import Failure, Result
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from splatfactory.datasets.store import SceneError, ShardStore

TOOL = "splatfactory.datasets.scripts.resize"


@dataclass(frozen=True)
class Job:
    """One scene of the source."""

    directory: Path
    scene: int
    size: int


def main(argv: Sequence[str] | None = None) -> int:
    """Resize; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.resize", description=__doc__.splitlines()[0]
    )
    parser.add_argument("input_dir", type=Path, help="folder of *.tar shards")
    parser.add_argument("--output", type=Path, required=True, help="folder of the copy")
    parser.add_argument("--size", type=int, default=252, help="side in pixels (default: 252)")
    conversion.add_common_options(parser)
    arguments = parser.parse_args(argv)
    return conversion.run_command(partial(_resize, arguments))


def _resize(arguments: argparse.Namespace) -> int:
    if arguments.size < 1:
        raise ValueError(f"--size must be positive, got {arguments.size}")
    if arguments.output.resolve() == arguments.input_dir.resolve():
        raise ValueError("--output must differ from the input folder")
    source = ShardStore(arguments.input_dir, show_progress=True)
    output = ShardOutput(
        arguments.output,
        TOOL,
        {"size": arguments.size},
        arguments.shard_size_mb,
        arguments.overwrite,
    )
    jobs = [
        Job(arguments.input_dir, number, arguments.size)
        for number, info in enumerate(source.scenes)
        if info.key not in output.done
    ]
    with output:
        for key, error in source.faults:
            output.fail(key, error.reason)
        conversion.convert(output, jobs, resize_scene, arguments.num_workers, "resize")
    return conversion.report(output)


def resize_scene(job: Job) -> list[Result]:
    """Resize one scene."""
    store = _store(job.directory)
    info = store.scenes[job.scene]
    config = PreprocessingConfig(job.size, None)
    images, depths, cameras = [], [], []
    try:
        rows = store.cameras(job.scene)
        for view, frame in enumerate(store.frames(job.scene, range(info.num_views))):
            geometry = resizing.plan(frame.size, 1.0, config)
            pixels = resizing.apply(frame, geometry, config.resize_method)
            buffer = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "WEBP", lossless=True)
            images.append(buffer.getvalue())
            cameras.append(geometry.camera(rows[view]))
            depth = frame.sample_depth(*geometry.nearest)
            if depth is not None:
                depths.append(depth_codec.encode(depth))
        poses = store.poses(job.scene)
    except SceneError as error:
        return [Failure(info.key, error.reason, error.detail)]
    except FrameError as error:
        return [Failure(info.key, "corrupt image", str(error))]
    has_depth = len(depths) == len(images)
    stored_depths = tuple(depths) if has_depth else None
    return [StoredScene(info.key, np.stack(cameras), poses, tuple(images), stored_depths)]


@lru_cache(maxsize=1)
def _store(directory: Path) -> ShardStore:
    """The source, opened once per process."""
    return ShardStore(directory)


if __name__ == "__main__":
    raise SystemExit(main())
