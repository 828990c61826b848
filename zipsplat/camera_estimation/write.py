"""Write cameras as files for other tools, each atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from zipsplat.camera_estimation import cameras_json, nerfstudio
from zipsplat.camera_estimation.capture import FloatArray, Lens
from zipsplat.camera_estimation.colmap_model import model_of, write_model
from zipsplat.camera_estimation.estimate import CameraEstimate
from zipsplat.camera_estimation.point_cloud import write_point_cloud
from zipsplat.camera_estimation.undistortion import to_bytes
from zipsplat.images import image_info
from zipsplat.posed_images import PosedImages

POINTS = "points.ply"
_PIECES = ("images", "sparse", POINTS, "transforms.json", "cameras.json")


def write_dataset(folder: Path, posed: PosedImages) -> None:
    """Write a dataset for 3DGS and NeRF trainers.

    The folder gets `images/` (undistorted, PNG), a COLMAP model with PINHOLE cameras in `sparse/0`,
    `transforms.json` for nerfstudio, `cameras.json` for 3DGS viewers, and `points.ply`. Existing
    ones are replaced; other files stay.

    Args:
        folder: created if it does not exist.
        posed: images, cameras, poses, points.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as name:
        made = Path(name) / "made"
        _write_pieces(made, posed)
        if not folder.exists():
            made.rename(folder)
            return
        for piece in _PIECES:
            old = folder / piece
            if old.is_dir() and not old.is_symlink():
                old.rename(Path(name) / f"old-{piece}")
            elif os.path.lexists(old):
                old.unlink()
            if (made / piece).exists():
                (made / piece).rename(old)


def _write_pieces(folder: Path, posed: PosedImages) -> None:
    names = _image_names(posed.names)
    lenses, poses = pinholes(posed), matrices(posed)
    (folder / "images").mkdir(parents=True)
    for name, image in zip(names, posed.images, strict=True):
        Image.fromarray(to_bytes(image)).save(folder / "images" / name)
    write_model(folder / "sparse" / "0", model_of(names, lenses, poses, posed.points))
    if posed.points is not None:
        write_point_cloud(folder / POINTS, posed.points)
    files = [f"images/{name}" for name in names]
    nerfstudio.write(
        folder / "transforms.json", files, lenses, poses, None if posed.points is None else POINTS
    )
    cameras_json.write(folder / "cameras.json", names, lenses, poses)


def write_cameras_json(
    path: Path, posed: PosedImages, lenses: Sequence[Lens] | None = None
) -> None:
    """Write cameras as the `cameras.json` of 3DGS viewers.

    Args:
        path: of the file.
        posed: V images with their poses.
        lenses: V lenses of the original photos, if the names refer to those; by default they refer
            to the undistorted images.
    """
    cameras_json.write(path, posed.names, lenses or pinholes(posed), matrices(posed))


def write_transforms(path: Path, estimate: CameraEstimate) -> None:
    """Write a `transforms.json` that refers to the original photos, with their distortion.

    Sparse points go to `points.ply` beside it.

    Raises:
        ValueError: if a photo is not a file, or has an EXIF rotation, which nerfstudio ignores.
    """
    files, lenses = [], []
    for file, lens in zip(estimate.files, estimate.lenses, strict=True):
        upright = _upright_file(file)
        files.append(Path(os.path.relpath(upright, path.absolute().parent)).as_posix())
        info = image_info(upright)
        lenses.append(lens.resized(info.width, info.height))
    points = estimate.images.points
    if points is not None:
        write_point_cloud(path.with_name(POINTS), points)
    point_file = None if points is None else POINTS
    nerfstudio.write(path, files, lenses, matrices(estimate.images), point_file)


def check_transforms(files: Sequence[Path | None]) -> None:
    """Raise a `ValueError` unless a `transforms.json` can refer to these photos."""
    for file in files:
        _upright_file(file)


def _upright_file(file: Path | None) -> Path:
    instead = "write to a folder instead, which gets upright images and a transforms.json"
    if file is None:
        raise ValueError(
            f"a transforms.json refers to files, which video frames are not; {instead}"
        )
    if image_info(file).orientation != 1:
        raise ValueError(f"{file} is rotated by EXIF, which nerfstudio ignores; {instead}")
    return file.absolute()


def pinholes(posed: PosedImages) -> list[Lens]:
    """The cameras as undistorted lenses."""
    return [
        Lens("PINHOLE", round(width), round(height), tuple(params))
        for width, height, *params in posed.cameras.packed().double().tolist()
    ]


def matrices(posed: PosedImages) -> list[FloatArray]:
    """World-from-camera matrices (4, 4), float64."""
    return list(np.asarray(posed.poses.Rt.double().cpu().numpy(), dtype=np.float64))


def _image_names(names: Sequence[str]) -> list[str]:
    """PNG file names, made unique by a number in front."""
    stems = [Path(name).stem for name in names]
    if len({stem.casefold() for stem in stems}) < len(stems):
        stems = [f"{number:04d}_{stem}" for number, stem in enumerate(stems)]
    return [f"{stem}.png" for stem in stems]
