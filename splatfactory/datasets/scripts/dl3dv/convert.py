"""Convert DL3DV-10K scene zips to shards.

Each zip holds `transforms.json` (nerfstudio) and one folder of images. Poses become OpenCV
camera-to-world; the world frame is kept. Lens distortion in the file is ignored, as in
the released data and for the published numbers; `manifest.json` records that.
"""

from __future__ import annotations

import argparse
import posixpath
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.frames import decode_pixels
from splatfactory.datasets.scripts import conversion, sharing
from splatfactory.datasets.scripts.conversion import Failure, Result
from splatfactory.datasets.scripts.cropping import CalibratedImage, framed
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from splatfactory.datasets.store import MAX_MEMBER_BYTES
from splatfactory.published_indices import dl3dv_test_ids
from zipsplat.untrusted_files import MAX_JSON_BYTES, open_zip, parse_json, zip_member

TOOL = "splatfactory.datasets.scripts.dl3dv.convert"
RESOLUTIONS = ("480P", "960P", "2K", "4K")

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Job:
    """One scene zip."""

    archive: Path
    target_size: int | None


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.dl3dv.convert",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "--input-dir",
        type=Path,
        default=Path("data/dl3dv/raw"),
        help="folder of the downloaded zips (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("data/dl3dv"),
        help="folder of the shards (default: %(default)s)",
    )
    parser.add_argument(
        "--resolution",
        choices=RESOLUTIONS,
        default="960P",
        help="downloaded resolution to convert (default: %(default)s)",
    )
    parser.add_argument("--target-size", type=int, help="square images of this side")
    parser.add_argument(
        "--split",
        choices=("train", "test", "all"),
        default="all",
        help="split to convert (default: %(default)s)",
    )
    parser.add_argument(
        "--test-ids",
        type=Path,
        help='test scenes: JSON list, JSON {"test": [...]}, or one id per line'
        " (default: the published split, downloaded once)",
    )
    conversion.add_common_options(parser)
    sharing.add_option(parser)
    arguments = parser.parse_args(argv)
    return conversion.run_command(partial(_convert, arguments))


def _convert(arguments: argparse.Namespace) -> int:
    share = sharing.chosen(arguments)
    folder = arguments.input_dir / arguments.resolution
    archives = sorted(folder.glob("*/*.zip"), key=lambda path: path.stem)
    if not archives:
        raise ValueError(
            f"no {folder}/*/*.zip; run `python -m splatfactory.datasets.scripts.dl3dv.download"
            f" --resolution {arguments.resolution}` first"
        )
    is_test = dl3dv_test_ids(arguments.test_ids).__contains__
    side = arguments.target_size
    size = f"{side}x{side}" if side is not None else _image_size(archives)
    status = 0
    for split in ("train", "test") if arguments.split == "all" else (arguments.split,):
        output = ShardOutput(
            arguments.output_dir / size / f"{split}-scenes",
            TOOL,
            {
                "split": split,
                "resolution": arguments.resolution,
                "target_size": side,
                "lens_distortion": "ignored",
            },
            arguments.shard_size_mb,
            arguments.overwrite,
        )
        chosen = [path for path in archives if is_test(path.stem) == (split == "test")]
        written = sharing.write(
            output,
            [Job(archive, side) for archive in chosen],
            share,
            lambda job, done: job.archive.stem in done,
            partial(
                conversion.convert,
                work=load_scene,
                num_workers=arguments.num_workers,
                description=f"dl3dv {split}",
            ),
        )
        status |= conversion.report(written)
    return status


def load_scene(job: Job) -> list[Result]:
    """Convert one zip."""
    key = job.archive.stem
    try:
        with open_zip(job.archive) as archive:
            return [convert_scene(key, archive, job.target_size)]
    except (zipfile.BadZipFile, EOFError) as error:
        return [Failure(key, "damaged zip", str(error))]
    except Exception as error:  # a failure of one scene must not affect the others
        return [Failure(key, "unusable scene", f"{type(error).__name__}: {error}")]


def convert_scene(key: str, archive: zipfile.ZipFile, side: int | None) -> StoredScene:
    """Convert one zip to a scene; frames without image are skipped.

    Raises:
        ValueError: if transforms, images or frames are missing.
    """
    names = set(archive.namelist())
    transforms = _transforms(archive)
    folder = _image_folder(names)
    views, poses = [], []
    for frame in transforms["frames"]:
        name = posixpath.join(folder, *frame["file_path"].split("/")[1:])
        if name not in names:
            continue
        pixels = decode_pixels(zip_member(archive, name, MAX_MEMBER_BYTES))
        # One factor for both axes, from the widths, as in the released data.
        scale = pixels.shape[1] / transforms["w"]
        f = np.array([transforms["fl_x"], transforms["fl_y"]], float) * scale
        c = np.array([transforms["cx"], transforms["cy"]], float) * scale
        views.append(framed(CalibratedImage(pixels, f, c), side))
        poses.append(pose_row(np.array(frame["transform_matrix"], dtype=float)))
    if not views:
        raise ValueError("no frame has an image")
    return StoredScene(
        key,
        np.stack([view.camera for view in views]),
        np.stack(poses),
        tuple(view.encode() for view in views),
    )


def pose_row(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Pose row (12,) of an OpenGL camera-to-world matrix (4, 4): flips the y and z axes."""
    R = matrix[:3, :3] * np.array([1.0, -1.0, -1.0])
    return np.concatenate([R.reshape(9), matrix[:3, 3]]).astype(np.float32)


def _transforms(archive: zipfile.ZipFile) -> dict[str, Any]:
    found = [n for n in sorted(archive.namelist()) if posixpath.basename(n) == "transforms.json"]
    if not found:
        raise ValueError("no transforms.json")
    content = parse_json(zip_member(archive, found[0], MAX_JSON_BYTES))
    if not isinstance(content, dict) or not content.get("frames"):
        raise ValueError("transforms.json lists no frames")
    return content


def _image_folder(names: set[str]) -> str:
    folders = {posixpath.dirname(n) for n in names if n.lower().endswith(_SUFFIXES)}
    found = sorted(name for name in folders if "/images" in f"/{name}")
    if not found:
        raise ValueError("no folder of images")
    return found[0]


def _image_size(archives: Sequence[Path]) -> str:
    """Folder name, from the size of the first image found."""
    for path in archives:
        try:
            with open_zip(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.lower().endswith(_SUFFIXES):
                        height, width = decode_pixels(
                            zip_member(archive, name, MAX_MEMBER_BYTES)
                        ).shape[:2]
                        return f"{height}x{width}"
        except Exception:
            continue  # reported when it is converted
    raise ValueError(f"no image in any of {len(archives)} zips")


if __name__ == "__main__":
    raise SystemExit(main())
