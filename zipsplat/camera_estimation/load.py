"""Read known cameras of photos from COLMAP, nerfstudio and 3DGS files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from torch import Tensor

from zipsplat.camera_estimation import cameras_json, colmap_model, nerfstudio
from zipsplat.camera_estimation.capture import (
    Capture,
    Find,
    Lens,
    Photo,
    far_origin,
    files_in,
    moved_to,
    origin_notes,
)
from zipsplat.camera_estimation.estimate import MATCHED_SIDE
from zipsplat.camera_estimation.point_cloud import read_positions, untracked_points
from zipsplat.camera_estimation.undistortion import (
    Pixels,
    fitted,
    load_with_lens,
    posed_images,
    shows_stored_pixels,
    to_bytes,
)
from zipsplat.inputs import Source, find_inputs
from zipsplat.masks import MaskSource, check_has_photos, load_mask
from zipsplat.posed_images import PosedImages
from zipsplat.untrusted_files import read_json
from zipsplat.video import frame_number, frames_at

logger = logging.getLogger(__name__)

COLMAP, NERFSTUDIO, VIEWERS = "COLMAP model", "nerfstudio transforms", "3DGS cameras"
_LARGEST_JSON = 256 << 20


def load_cameras(
    path: str | PathLike[str],
    photos: Source | None = None,
    *,
    max_side: int | None = MATCHED_SIDE,
    masks: MaskSource | None = None,
) -> PosedImages:
    """Read photos with known cameras, and undistort them.

    Args:
        path: a folder with a COLMAP model (`sparse/0`, …; .bin or .txt) or a `transforms.json`,
            a `transforms.json` of nerfstudio, or the `cameras.json` of 3DGS viewers.
        photos: the images, as `zipsplat.inputs.find_inputs` takes them, matched by name with or
            without suffix; from a video, the frames that `estimate_cameras` named
            `frame_NUMBER.png`. Default are the paths in the file, or `images` beside it.
        max_side: images have at most this many pixels on their longer side; None keeps the size.
        masks: where the masks of the photos come from, if they have any.

    Returns:
        The photos that exist, in the order of their names or of the `cameras.json`, with sparse
        points if there are any. If the cameras are too far from zero for float32, as
        geo-referenced ones are, the first one becomes the origin, with a warning.

    Raises:
        ValueError: the file is damaged, or none of its photos exist. It names the file.
        FileNotFoundError: a file does not exist.
        ImportError: photos are distorted, and `pycolmap` is not installed.
    """
    return undistorted(read_capture(Path(path), photos), max_side, masks)


def undistorted(
    capture: Capture, max_side: int | None, masks: MaskSource | None = None
) -> PosedImages:
    """Undistort the photos of a capture; arguments and errors as `load_cameras`."""
    frames = _video_frames(capture, max_side, masks)

    def load(view: int) -> tuple[Pixels, Lens]:
        photo = capture.photos[view]
        if photo.path in frames:
            pixels = to_bytes(frames[photo.path])
            return pixels, fitted(photo.lens, pixels, photo.path)
        return load_with_lens(photo.path, photo.lens, max_side)

    for note in capture.notes:
        logger.warning("%s", note)
    names = [photo.path.name for photo in capture.photos]
    if masks is None:
        return posed_images(capture, names, load)
    source = masks

    def load_mask_of(view: int, size: tuple[int, int]) -> Tensor:
        photo = capture.photos[view]
        as_stored = shows_stored_pixels(photo.path, photo.lens)
        return load_mask(photo.path, source, size, as_stored=as_stored)

    return posed_images(capture, names, load, load_mask_of)


def read_capture(path: Path, photos: Source | None = None) -> Capture:
    """Photos with known lenses and poses; arguments and errors as `load_cameras`."""
    kind, file = _locate(path)
    if photos is None:
        return _read(kind, file, files_in(_photo_folders(path, kind), nerfstudio.SUFFIXES))
    given = find_inputs(photos)
    return _read(kind, file, _among(given.images) if given.video is None else _of(given.video))


def list_cameras(path: Path) -> tuple[str, Capture]:
    """List the cameras of a file or folder, whether or not the photos exist.

    Returns:
        COLMAP, NERFSTUDIO or VIEWERS, and the photos with the names in the file.

    Raises:
        ValueError: if it is damaged or holds no cameras.
    """
    kind, file = _locate(path)
    return kind, _read(kind, file, Path)


def _locate(path: Path) -> tuple[str, Path]:
    """The kind of cameras at a path, and their file or folder."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if path.is_dir():
        if (path / "transforms.json").is_file():
            return NERFSTUDIO, path / "transforms.json"
        model = colmap_model.find_model(path)
        if model is not None:
            return COLMAP, model
        raise ValueError(f"{path} contains no COLMAP model and no transforms.json")
    if path.suffix.lower() != ".json":
        raise ValueError(
            f"{path}: cameras are read from a folder with a COLMAP model, a transforms.json or a"
            " cameras.json"
        )
    return (VIEWERS if _is_cameras_json(path) else NERFSTUDIO), path


def _photo_folders(path: Path, kind: str) -> list[Path]:
    """Folders to search for photos; `transforms.json` contains paths."""
    folder = path if path.is_dir() else path.parent
    return [folder] if kind == NERFSTUDIO else [folder / "images", folder]


def _read(kind: str, file: Path, find: Find) -> Capture:
    if kind == COLMAP:
        return colmap_model.read(file, find)
    if kind == NERFSTUDIO:
        return nerfstudio.read(file, find)
    return _from_cameras_json(file, find)


def _is_cameras_json(path: Path) -> bool:
    """Whether a JSON file is the list of cameras of 3DGS viewers.

    Raises:
        ValueError: if it is too large or not JSON.
    """
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path}: a cameras file may have at most {_LARGEST_JSON >> 20} MiB")
    try:
        return cameras_json.is_cameras_json(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _from_cameras_json(path: Path, find: Find) -> Capture:
    photos, missing = [], []
    for name, lens, pose in cameras_json.read(path):
        file = find(name)
        if file is None:
            missing.append(name)
        else:
            photos.append(Photo(file, lens, pose))
    if not photos:
        raise ValueError(
            f"{path}: none of its {len(missing)} images exist, e.g. {missing[:1]}; they are"
            " expected in the folder `images` beside it, or among the photos given"
        )
    origin = far_origin(photos)
    lost = (f"{len(missing)} images do not exist, e.g. {missing[0]}",) if missing else ()
    beside, points = path.with_name("points.ply"), None
    if beside.is_file():
        positions, colors = read_positions(beside)
        points = untracked_points(positions - origin, colors)
    return Capture(moved_to(origin, photos), points, (*lost, *origin_notes(origin)), origin)


def _of(video: Path) -> Find:
    """Name frames of a video as if it were a folder: VIDEO/frame_000012.png."""

    def find(name: str) -> Path | None:
        file_name = Path(name).name
        return None if frame_number(file_name) is None else video / file_name

    return find


def _video_frames(
    capture: Capture, max_side: int | None, masks: MaskSource | None
) -> dict[Path, Tensor]:
    """The frames of a capture, by the paths that `_of` gives them.

    Raises:
        ValueError: if the video lacks a frame, or masks were given.
    """
    numbers = {photo.path: frame_number(photo.path.name) for photo in capture.photos}
    video = capture.photos[0].path.parent
    if not video.is_file():
        return {}
    if masks is not None:
        check_has_photos(video)
    found = frames_at(video, [n for n in numbers.values() if n is not None], max_side=max_side)
    missing = [path.name for path, number in numbers.items() if number not in found]
    if missing:
        raise ValueError(f"{video} has no {missing[0]}; the cameras are those of another video")
    return {path: found[number] for path, number in numbers.items() if number is not None}


def _among(images: Sequence[Path]) -> Find:
    """Find names among given images by path, by file name, or by file name without suffix."""
    by_name = {image.name: image for image in reversed(images)}
    by_stem = {image.stem: image for image in reversed(images)}

    def find(name: str) -> Path | None:
        given = Path(name)
        return by_name.get(given.name) or by_stem.get(given.name) or by_stem.get(given.stem)

    return find
