"""COLMAP through `pycolmap`: read models, find poses, straighten pictures.

The package is optional (`splatfactory[colmap]`) and imported at first use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.scripts.custom.capture import (
    Capture,
    FloatArray,
    Lens,
    Photo,
    natural_order,
    scene_key,
)
from splatfactory.datasets.scripts.custom.focal import Focal
from zipsplat.images import image_info

_MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", "colmap", ".")
_EXHAUSTIVE_LIMIT = 120  # pictures; all pairs of more take longer than an evening
_MIN_PHOTOS = 3
# Bytes of the shortest record of each file (https://colmap.github.io/format.html#binary-file-format).
_SMALLEST_RECORDS = {"cameras": 48, "images": 73, "points3D": 43}
# Fields of view outside of this are seldom right when they were only estimated, degrees.
_USUAL_FOV_DEG = (20.0, 105.0)
_USUAL_FOCAL = 0.75  # of the longer side: 27 mm on film, as of phones and drones


def require() -> Any:
    """The module `pycolmap`, quiet.

    Raises:
        ImportError: if it is not installed.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise ImportError(
            "this capture needs COLMAP: pip install pycolmap (or splatfactory[colmap])"
        ) from error
    pycolmap.logging.minloglevel = 2
    return pycolmap


def find_model(folder: Path) -> Path | None:
    """The folder of a COLMAP model (`cameras` and `images`, .bin or .txt) in a capture."""
    for name in _MODEL_FOLDERS:
        candidate = folder / name
        for suffix in (".bin", ".txt"):
            if all((candidate / f"{part}{suffix}").is_file() for part in ("cameras", "images")):
                return candidate
    return None


def read(folder: Path, model: Path) -> Capture:
    """Read a COLMAP model.

    Args:
        folder: of the capture; pictures are in `images` or beside each other in it.
        model: folder of the model.

    Raises:
        ValueError: if it is damaged or none of its pictures exist.
        ImportError: without `pycolmap`.
    """
    pycolmap = require()
    _check_counts(model)
    try:
        reconstruction = pycolmap.Reconstruction(str(model))
    except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"{model} is no readable COLMAP model: {error}") from error
    return _capture(reconstruction, folder, scene_key(folder))


def _check_counts(model: Path) -> None:
    """Refuse damaged binary files: COLMAP believes any count and asks for memory for minutes."""
    for name, smallest in _SMALLEST_RECORDS.items():
        file = model / f"{name}.bin"
        if not file.is_file():
            continue
        with file.open("rb") as stream:
            header = stream.read(8)
        room = file.stat().st_size - 8
        if room < 0 or int.from_bytes(header, "little") * smallest > room:
            raise ValueError(f"{model} is no readable COLMAP model: {file.name} is cut off")


def _capture(reconstruction: Any, folder: Path, key: str) -> Capture:
    roots = [root for root in (folder / "images", folder) if root.is_dir()]
    photos, missing = [], []
    for image in reconstruction.images.values():
        if not image.has_pose:
            continue
        file = next((root / image.name for root in roots if (root / image.name).is_file()), None)
        if file is None:
            missing.append(str(image.name))
            continue
        camera = reconstruction.cameras[image.camera_id]
        photos.append(Photo(file, _lens(camera), _world_from_camera(image)))
    if not photos:
        raise ValueError(
            f"{folder}: none of the model's {len(missing)} pictures exist, e.g. {missing[:1]};"
            " they are expected in the folder `images`"
        )
    photos.sort(key=lambda photo: natural_order(photo.path))
    notes = (f"{len(missing)} pictures do not exist, e.g. {missing[0]}",) if missing else ()
    return Capture(key, tuple(photos), notes)


def _lens(camera: Any) -> Lens:
    name = getattr(camera, "model_name", None) or camera.model.name
    return Lens(str(name), camera.width, camera.height, tuple(map(float, camera.params)))


def _world_from_camera(image: Any) -> FloatArray:
    pose = image.cam_from_world
    pose = pose() if callable(pose) else pose  # a property up to pycolmap 3.11, then a method
    camera_from_world = np.eye(4)
    camera_from_world[:3] = pose.matrix()
    return np.asarray(np.linalg.inv(camera_from_world), dtype=np.float64)


def estimate(
    photos: Sequence[Path],
    workspace: Path,
    key: str,
    is_sequence: bool,
    focal: Focal,
    report: Callable[[str], None],
) -> Capture:
    """Find the poses of photos that have none, by structure from motion.

    Args:
        photos: pictures in one folder, upright, in the order in which they were taken.
        workspace: existing folder for COLMAP's database and model.
        key: name of the scene.
        is_sequence: whether neighbours in order see the same things, as in a video.
        focal: what is known of the focal length.
        report: is told what is being done.

    Raises:
        ValueError: if too few photos could be registered.
        ImportError: without `pycolmap`.
    """
    if len(photos) < _MIN_PHOTOS:
        raise ValueError(f"poses need at least {_MIN_PHOTOS} photos, got {len(photos)}")
    pycolmap = require()
    folder, database = photos[0].parent, workspace / "database.db"
    pycolmap.set_random_seed(0)
    report(f"finding features in {len(photos)} pictures")
    _extract(pycolmap, database, folder, [photo.name for photo in photos], focal)
    if is_sequence or len(photos) > _EXHAUSTIVE_LIMIT:
        report("matching neighbouring pictures")
        pairing = pycolmap.SequentialPairingOptions(overlap=10, quadratic_overlap=True)
        pycolmap.match_sequential(str(database), pairing_options=pairing)
    else:
        report("matching all pairs of pictures")
        pycolmap.match_exhaustive(str(database))
    report("solving for poses")
    options = pycolmap.IncrementalPipelineOptions(ba_refine_focal_length=not focal.is_certain)
    found = pycolmap.incremental_mapping(
        str(database), str(folder), str(workspace), options=options
    )
    return _largest(found, folder, key, len(photos))


def _extract(pycolmap: Any, database: Path, folder: Path, names: list[str], focal: Focal) -> None:
    options = pycolmap.ImageReaderOptions()
    options.camera_model = "SIMPLE_RADIAL"
    options.default_focal_length_factor = focal.factor or _USUAL_FOCAL
    if focal.factor is not None:
        info = image_info(folder / names[0])
        pixels = focal.factor * max(info.width, info.height)
        options.camera_params = f"{pixels},{info.width / 2},{info.height / 2},0"
    pycolmap.extract_features(
        str(database),
        str(folder),
        image_names=names,
        camera_mode=pycolmap.CameraMode.SINGLE,
        reader_options=options,
    )


def _largest(found: dict[int, Any], folder: Path, key: str, num_photos: int) -> Capture:
    best = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
    count = 0 if best is None else best.num_reg_images()
    if best is None or count < max(_MIN_PHOTOS, num_photos // 3):
        raise ValueError(
            f"COLMAP could place only {count} of {num_photos} photos: they need texture, overlap"
            " of more than half between neighbours, and a camera that moves, not only turns"
        )
    capture = _capture(best, folder, key)
    notes = list(capture.notes)
    if count < num_photos:
        notes.append(f"{num_photos - count} of {num_photos} photos could not be placed: left out")
    notes += _doubts(capture.photos[0].lens)
    return Capture(key, capture.photos, tuple(notes))


def _doubts(lens: Lens) -> list[str]:
    """A warning where a lens that was estimated is like few that are sold."""
    fov = math.degrees(2 * math.atan(0.5 * max(lens.width, lens.height) / lens.packed[0]))
    if _USUAL_FOV_DEG[0] < fov < _USUAL_FOV_DEG[1]:
        return []
    return [
        f"WARNING: the field of view came out as {fov:.0f} degrees, as of few lenses. A straight"
        " flight or walk does not determine it; if it is wrong, so is the shape of the scene. Then"
        " convert again with --overwrite --focal-35mm and the focal length of your lens on 35 mm"
        " film (phones 26, drones 24)"
    ]


def straighten(pixels: npt.NDArray[np.uint8], lens: Lens) -> tuple[npt.NDArray[np.uint8], Lens]:
    """Take the lens distortion out of a picture.

    Args:
        pixels: (H, W, 3).
        lens: that took it, of the same size.

    Returns:
        The picture without blank borders, of about the same size, and its pinhole lens.
    """
    pycolmap = require()
    camera = pycolmap.Camera(
        model=lens.model, width=lens.width, height=lens.height, params=list(lens.params)
    )
    options = pycolmap.UndistortCameraOptions(blank_pixels=0.0)
    bitmap = pycolmap.Bitmap.from_array(np.ascontiguousarray(pixels))
    straight, pinhole = pycolmap.undistort_image(options, bitmap, camera)
    return np.asarray(straight.to_array(), dtype=np.uint8), _lens(pinhole)
