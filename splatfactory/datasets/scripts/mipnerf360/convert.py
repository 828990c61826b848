"""Convert Mip-NeRF 360 to shards, one per scene.

Intrinsics are divided by the nominal factor of the image folder, although the JPEG files were
rounded to whole pixels (4946×3286 became 1237×822): the published numbers depend on it. An image
missing in the chosen folder is taken from `images`, with its own scale.
"""

from __future__ import annotations

import argparse
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory.datasets import resizing
from splatfactory.datasets.frames import Pixels, decode_pixels
from splatfactory.datasets.scripts import conversion, sharing
from splatfactory.datasets.scripts.conversion import Failure, Result
from splatfactory.datasets.scripts.cropping import CalibratedImage, centred
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from splatfactory.datasets.store import MAX_MEMBER_BYTES
from zipsplat.untrusted_files import open_zip, zip_member

TOOL = "splatfactory.datasets.scripts.mipnerf360.convert"
SCENES = ("bicycle", "bonsai", "counter", "garden", "kitchen", "room", "stump")
FACTORS = {"images": 1, "images_2": 2, "images_4": 4, "images_8": 8}

_MAX_MODEL_BYTES = 256 << 20
_MODEL_FILES = ("cameras.bin", "images.bin", "points3D.bin")


@dataclass(frozen=True)
class Job:
    """One scene of the zip; the folder is empty if it is missing."""

    archive: Path
    folder: str | None
    scene: str
    image_subdir: str


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.mipnerf360.convert",
        description=__doc__.splitlines()[0],
    )
    parser.add_argument(
        "--input-zip",
        type=Path,
        default=Path("data/mipnerf360/raw/360_v2.zip"),
        help="the downloaded archive (default: %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("data/mipnerf360"),
        help="folder of the shards (default: %(default)s)",
    )
    parser.add_argument(
        "--image-subdir",
        choices=tuple(FACTORS),
        default="images_4",
        help="folder of images to convert (default: %(default)s)",
    )
    parser.add_argument(
        "--scenes",
        nargs="+",
        default=list(SCENES),
        metavar="SCENE",
        help="scenes to convert (default: all)",
    )
    conversion.add_common_options(parser, with_shard_size=False)
    sharing.add_option(parser)
    arguments = parser.parse_args(argv)
    return conversion.run_command(partial(_convert, arguments))


def _convert(arguments: argparse.Namespace) -> int:
    _pycolmap()
    folders = find_scenes(arguments.input_zip)
    size = _folder_size(arguments.input_zip, folders, arguments.scenes, arguments.image_subdir)
    output = ShardOutput(
        arguments.output_dir / size / "test-scenes",
        TOOL,
        {"image_subdir": arguments.image_subdir, "intrinsics": "nominal factor of the folder"},
        overwrite=arguments.overwrite,
        one_scene_per_shard=True,
    )
    written = sharing.write(
        output,
        [
            Job(arguments.input_zip, folders.get(scene), scene, arguments.image_subdir)
            for scene in arguments.scenes
        ],
        sharing.chosen(arguments),
        lambda job, done: job.scene in done,
        partial(
            conversion.convert,
            work=load_scene,
            num_workers=arguments.num_workers,
            description="mipnerf360",
        ),
    )
    return conversion.report(written)


def find_scenes(archive: Path) -> dict[str, str]:
    """Scenes in the zip, with the path of their folder.

    Raises:
        ValueError: if the file is not such a zip.
    """
    end = "/sparse/0/cameras.bin"
    try:
        with open_zip(archive) as file:
            folders = [n[: -len(end)] for n in file.namelist() if n.endswith(end)]
    except FileNotFoundError:
        raise ValueError(
            f"no {archive}; run `python -m splatfactory.datasets.scripts.mipnerf360.download` first"
        ) from None
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is not a zip file or is truncated ({error})") from error
    if not folders:
        raise ValueError(f"{archive} has no <scene>{end}; is it 360_v2.zip?")
    return {folder.split("/")[-1]: folder for folder in folders}


def load_scene(job: Job) -> list[Result]:
    """Convert one scene of the zip."""
    if job.folder is None:
        return [Failure(job.scene, "not in the zip")]
    try:
        with open_zip(job.archive) as archive:
            return [convert_scene(job, archive)]
    except Exception as error:  # pycolmap raises almost anything
        return [Failure(job.scene, "unusable scene", f"{type(error).__name__}: {error}")]


def convert_scene(job: Job, archive: zipfile.ZipFile) -> StoredScene:
    """Read the COLMAP model and the images; views are sorted by name."""
    model = _read_model(job, archive)
    names = set(archive.namelist())
    views, poses = [], []
    for image in sorted(model.images.values(), key=lambda image: image.name):
        path = f"{job.folder}/{job.image_subdir}/{image.name}"
        factor = FACTORS[job.image_subdir]
        if path not in names:
            path, factor = f"{job.folder}/images/{image.name}", 1
        pixels = decode_pixels(zip_member(archive, path, MAX_MEMBER_BYTES))
        views.append(centred(_calibrated(pixels, model.cameras[image.camera_id], factor)))
        poses.append(_pose_row(image))
    if not views:
        raise ValueError("the COLMAP model has no images")
    return StoredScene(
        job.scene,
        np.stack([view.camera for view in views]),
        np.stack(poses),
        tuple(view.encode() for view in views),
    )


def _pycolmap() -> Any:
    try:
        import pycolmap
    except ImportError as error:
        raise ImportError(
            "reading COLMAP models needs pycolmap: pip install 'splatfactory[colmap]'"
        ) from error
    return pycolmap


def _read_model(job: Job, archive: zipfile.ZipFile) -> Any:
    """Read the COLMAP model, via temporary files for its reader."""
    with tempfile.TemporaryDirectory() as folder:
        for name in _MODEL_FILES:
            data = zip_member(archive, f"{job.folder}/sparse/0/{name}", _MAX_MODEL_BYTES)
            Path(folder, name).write_bytes(data)
        return _pycolmap().Reconstruction(folder)


def _pose_row(image: Any) -> npt.NDArray[np.float32]:
    world_from_camera = image.cam_from_world().inverse().matrix()
    R, t = world_from_camera[:, :3], world_from_camera[:, 3]
    return np.concatenate([R.reshape(9), t]).astype(np.float32)


def _calibrated(pixels: Pixels, camera: Any, factor: int) -> CalibratedImage:
    """Undistort an image."""
    K = np.array(camera.calibration_matrix(), dtype=float)
    K[:2] /= factor
    distortion = _distortion(camera)
    if distortion.any():
        pixels, K = _undistorted(pixels, K, distortion)
    return CalibratedImage(pixels, K[[0, 1], [0, 1]], K[:2, 2])


def _distortion(camera: Any) -> npt.NDArray[np.float64]:
    """OpenCV's k1, k2, p1, p2 of a COLMAP camera.

    Raises:
        ValueError: for models that these four cannot represent.
    """
    model, params = camera.model.name, np.array(camera.params, dtype=float)
    places = {
        "SIMPLE_PINHOLE": slice(3, 3),
        "PINHOLE": slice(4, 4),
        "SIMPLE_RADIAL": slice(3, 4),
        "RADIAL": slice(3, 5),
        "OPENCV": slice(4, 8),
    }
    if model not in places:
        raise ValueError(f"camera model {model} is not supported; use one of {', '.join(places)}")
    found = params[places[model]]
    return np.concatenate([found, np.zeros(4 - len(found))])


def _undistorted(
    pixels: Pixels, K: npt.NDArray[np.float64], distortion: npt.NDArray[np.float64]
) -> tuple[Pixels, npt.NDArray[np.float64]]:
    """Undistort with OpenCV, cropping to the largest view without empty borders."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "images with lens distortion need OpenCV: pip install opencv-python-headless"
        ) from error
    height, width = pixels.shape[:2]
    new_K, _ = cv2.getOptimalNewCameraMatrix(K, distortion, (width, height), 0, (width, height))
    undistorted: Any = cv2.undistort(pixels, K, distortion, None, new_K)
    return undistorted, np.asarray(new_K, dtype=float)


def _folder_size(archive: Path, folders: dict[str, str], scenes: Sequence[str], sub: str) -> str:
    """Folder name, from the even size of the first scene's first image."""
    with open_zip(archive) as file:
        for scene in scenes:
            prefix = f"{folders.get(scene, '')}/{sub}/"
            members = [n for n in file.namelist() if n.startswith(prefix) and not n.endswith("/")]
            if scene in folders and members:
                height, width = decode_pixels(
                    zip_member(file, min(members), MAX_MEMBER_BYTES)
                ).shape[:2]
                return f"{resizing.even(height)}x{resizing.even(width)}"
    raise ValueError(f"{archive} has no images in {sub} of {', '.join(scenes)}")


if __name__ == "__main__":
    raise SystemExit(main())
