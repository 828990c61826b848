"""Convert RealEstate10K, as packed by pixelSplat, to shards.

The zip holds chunks of about a dozen clips. Images are stored as the original JPEG files, unless a
target size is given. A clip that cannot be converted is recorded and skipped.

The camera's width and height are twice its principal point, as in the released data, which
equals the image size if the point is centred, as it is throughout this data set.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.depth_codec import open_image
from splatfactory.datasets.frames import decode_pixels
from splatfactory.datasets.scripts import conversion, sharing
from splatfactory.datasets.scripts.conversion import Failure, Result
from splatfactory.datasets.scripts.cropping import CalibratedImage, framed
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from zipsplat.torch_files import read_torch_bytes
from zipsplat.untrusted_files import MAX_JSON_BYTES, open_zip, parse_json, zip_member

TOOL = "splatfactory.datasets.scripts.re10k.convert"
NATIVE_SIZE = "360x640"

MAX_CHUNK_BYTES = 512 << 20  # chunks of the data set are about a fifth of this
_CHUNK = re.compile(r"(?:^|/)(train|test)/[^/]+\.torch$")


@dataclass(frozen=True)
class Job:
    """One chunk of the zip."""

    archive: Path
    member: str
    target_size: int | None


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.re10k.convert",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "--input-zip",
        type=Path,
        default=Path("data/re10k/raw/re10k.zip"),
        help="the downloaded archive (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("data/re10k"),
        help="folder of the shards (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "test", "all"),
        default="all",
        help="split to convert (default: %(default)s)",
    )
    parser.add_argument("--target-size", type=int, help="square images of this side, as WebP")
    conversion.add_common_options(parser)
    sharing.add_option(parser)
    arguments = parser.parse_args(argv)
    return conversion.run_command(partial(_convert, arguments))


def _convert(arguments: argparse.Namespace) -> int:
    share = sharing.chosen(arguments)
    splits = ("train", "test") if arguments.split == "all" else (arguments.split,)
    side = arguments.target_size
    size = NATIVE_SIZE if side is None else f"{side}x{side}"
    chunks = find_chunks(arguments.input_zip)
    status = 0
    for split in splits:
        output = ShardOutput(
            arguments.output_dir / size / f"{split}-scenes",
            TOOL,
            {"split": split, "target_size": side},
            arguments.shard_size_mb,
            arguments.overwrite,
        )
        written = sharing.write(
            output,
            [Job(arguments.input_zip, member, side) for member in chunks[split]],
            share,
            partial(_is_done, _clips(arguments.input_zip, split)),
            partial(
                conversion.convert,
                work=load_chunk,
                num_workers=arguments.num_workers,
                description=f"re10k {split}",
            ),
        )
        status |= conversion.report(written)
    return status


def find_chunks(archive: Path) -> dict[str, list[str]]:
    """Chunks of each split, sorted.

    Raises:
        ValueError: if the file is not such a zip.
    """
    chunks: dict[str, list[str]] = {"train": [], "test": []}
    for name in sorted(_open(archive).namelist()):
        match = _CHUNK.search(name)
        if match:
            chunks[match[1]].append(name)
    if not any(chunks.values()):
        raise ValueError(f"{archive} has no train/*.torch or test/*.torch; is it re10k.zip?")
    return chunks


def load_chunk(job: Job) -> list[Result]:
    """Convert all clips of a chunk."""
    try:
        data = zip_member(_open(job.archive), job.member, MAX_CHUNK_BYTES)
        clips = read_torch_bytes(data, job.member)
    except Exception as error:  # zip and torch raise almost anything on damaged data
        return [Failure(job.member, "unreadable chunk", f"{type(error).__name__}: {error}")]
    if not isinstance(clips, list):
        return [Failure(job.member, "unreadable chunk", f"holds a {type(clips).__name__}")]
    return [_clip(clip, f"{job.member}[{i}]", job.target_size) for i, clip in enumerate(clips)]


def _clip(clip: Any, place: str, side: int | None) -> Result:
    key = clip["key"] if isinstance(clip, Mapping) and "key" in clip else place
    try:
        return convert_clip(clip, side)
    except Exception as error:  # a failure of one clip must not affect the others
        return Failure(str(key), "unusable clip", f"{type(error).__name__}: {error}")


def convert_clip(clip: Mapping[str, Any], side: int | None) -> StoredScene:
    """Convert one clip of a chunk to a scene.

    Args:
        clip: `key`; `cameras` (N, 18): fx, fy, cx, cy over width and height, two unused numbers,
            and the camera-from-world matrix (3, 4) row by row; `images`: N tensors of JPEG bytes.
        side: side of square images, or None to keep them.
    """
    images = [bytes(image.numpy()) for image in clip["images"]]
    rows = clip["cameras"].numpy().astype(np.float32)
    if rows.shape != (len(images), 18) or not images:
        raise ValueError(f"{len(images)} images need cameras (N, 18), got {rows.shape}")
    with open_image(images[0]) as first:
        width, height = first.size
    scale = np.array([width, height], np.float32)
    f, c = rows[:, 0:2] * scale, rows[:, 2:4] * scale
    cameras = np.concatenate([2 * c, f, c], axis=1).astype(np.float32)
    if side is not None:
        views = [
            framed(
                CalibratedImage(decode_pixels(data), f[i].astype(float), c[i].astype(float)), side
            )
            for i, data in enumerate(images)
        ]
        images = [view.encode() for view in views]
        cameras = np.stack([view.camera for view in views])
    return StoredScene(str(clip["key"]), cameras, invert_poses(rows[:, 6:]), tuple(images))


def invert_poses(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Convert camera-from-world matrices (N, 12), row by row, to pose rows (N, 12) of shards."""
    matrices = rows.reshape(-1, 3, 4)
    R = matrices[:, :, :3].transpose(0, 2, 1)
    t = -(R @ matrices[:, :, 3:])[..., 0]
    return np.concatenate([R.reshape(-1, 9), t], axis=1).astype(np.float32)


def _open(archive: Path) -> zipfile.ZipFile:
    """The zip, opened once per process and version."""
    try:
        return _open_version(archive, archive.stat().st_mtime_ns)
    except FileNotFoundError:
        raise ValueError(
            f"no {archive}; run `python -m splatfactory.datasets.scripts.re10k.download` first"
        ) from None
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a zip file or is truncated ({error})") from error


@lru_cache(maxsize=1)
def _open_version(archive: Path, mtime_ns: int) -> zipfile.ZipFile:  # noqa: ARG001
    return open_zip(archive)


def _clips(archive: Path, split: str) -> dict[str, list[str]]:
    """Clip keys of each chunk, from the index in the zip; empty without one."""
    file = _open(archive)
    names = [name for name in file.namelist() if re.search(rf"(?:^|/){split}/index\.json$", name)]
    try:
        index = parse_json(zip_member(file, names[0], MAX_JSON_BYTES)) if names else {}
        chunks: dict[str, list[str]] = {}
        for key, chunk in index.items():
            chunks.setdefault(str(chunk), []).append(key)
        return chunks
    except (ValueError, AttributeError):
        return {}  # it is only an optimisation that skips finished chunks


def _is_done(known: Mapping[str, list[str]], job: Job, done: Collection[str]) -> bool:
    keys = known.get(Path(job.member).name)
    return bool(keys) and all(key in done for key in keys or ())


if __name__ == "__main__":
    raise SystemExit(main())
