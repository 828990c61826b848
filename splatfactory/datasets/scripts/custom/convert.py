"""Convert your own photos or a video into shards (`… .scripts.custom.convert`)."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from splatfactory import paths
from splatfactory.datasets.scripts import sharing
from splatfactory.datasets.scripts.conversion import (
    Failure,
    Result,
    add_common_options,
    convert,
    report,
    run_command,
    say,
)
from splatfactory.datasets.scripts.custom.photos import encode_photo
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from zipsplat.camera_estimation import colmap_model, nerfstudio
from zipsplat.camera_estimation.capture import Capture, Photo, files_in
from zipsplat.camera_estimation.focal import Focal, noted_focal
from zipsplat.camera_estimation.structure_from_motion import Search, solve
from zipsplat.camera_estimation.undistortion import Pixels, to_bytes
from zipsplat.images import image_info, is_image_file, load_image
from zipsplat.inputs import natural_key
from zipsplat.mask_options import add_masks, mask_source
from zipsplat.masks import MaskSource, check_has_photos, load_mask
from zipsplat.native_work import exit_process
from zipsplat.terminal import EXPECTED_ERRORS
from zipsplat.video import is_video_file, load_video

TOOL = "custom.convert"
MASKS = "masks"
_MIN_PHOTOS = 3
DEPTH_ADVICE = (
    "These shards have no depth. Train and evaluate with data.normalize_baseline=max_pairwise_d,"
    " or add depth with python -m splatfactory.datasets.scripts.extract_depth."
)


def read_capture(source: Path, options: argparse.Namespace, workspace: Path) -> Capture:
    """Read photos, lenses and poses of any kind of input.

    Args:
        source: folder of photos, optionally with `transforms.json` or a COLMAP model; such a file;
            or a video.
        options: command-line options.
        workspace: folder for temporary files.

    Raises:
        FileNotFoundError: if the input does not exist.
        ValueError: if it is unusable.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    if source.is_file():
        if source.suffix.lower() == ".json":
            return nerfstudio.read(source)
        if is_video_file(source):
            return _from_video(source, options, workspace)
        raise ValueError(f"{source} is neither a folder, a transforms.json nor a video")
    if options.poses == "auto":
        if (source / "transforms.json").is_file():
            return nerfstudio.read(source / "transforms.json")
        model = colmap_model.find_model(source)
        if model is not None:
            return colmap_model.read(model, files_in([source / "images", source]))
    return _from_photos(source, options, workspace)


def scene_key(path: Path) -> str:
    """Derive a scene key from a file or folder name: letters, digits, `-` and `_`.

    `transforms.json`, and `transforms_train.json` of Blender scenes, take the name of their folder.
    """
    whole = path.resolve()
    if re.fullmatch(r"transforms(_\w+)?\.json", whole.name):
        whole = whole.parent
    stem = whole.name if whole.is_dir() else whole.stem
    return re.sub(r"[^\w-]+", "-", stem).strip("-") or "scene"


def photos_in(folder: Path) -> list[Path]:
    """Images of a folder, in natural order; uses the subfolder `images` if there is one."""
    inner = folder / "images"
    found = _images(inner) if inner.is_dir() else []
    return found or _images(folder)


def _images(folder: Path) -> list[Path]:
    files = [path for path in folder.iterdir() if path.is_file() and is_image_file(path)]
    return sorted(files, key=natural_key)


def _from_photos(source: Path, options: argparse.Namespace, workspace: Path) -> Capture:
    photos = photos_in(source)
    if not photos:
        raise ValueError(f"{source} holds no images, no transforms.json and no COLMAP model")
    copies = _upright_copies(photos, workspace / "images", options.max_side)
    damaged = tuple(copy for copy in copies.values() if isinstance(copy, str))
    whole = {photo: copy for photo, copy in copies.items() if isinstance(copy, Path)}
    focals = [options.focal or noted_focal(photo) for photo in whole]
    masks = None
    if options.mask_source is not None:
        masks = workspace / MASKS
        _mask_copies(whole, options.mask_source, masks)
    capture = _estimated(list(whole.values()), focals, options.order == "sequence", masks)
    return replace(capture, notes=(*damaged, *capture.notes))


def _mask_copies(copies: Mapping[Path, Path], source: MaskSource, folder: Path) -> None:
    """Write masks for the upright copies of photos, named NAME.png as COLMAP expects."""
    folder.mkdir()
    for photo, copy in copies.items():
        info = image_info(copy)
        mask = load_mask(photo, source, (info.height, info.width))
        Image.fromarray(np.uint8(255) * mask.numpy()).save(folder / f"{copy.name}.png")


def _from_video(source: Path, options: argparse.Namespace, workspace: Path) -> Capture:
    if options.mask_source is not None:
        check_has_photos(source)
    frames = load_video(source, options.num_frames, max_side=options.max_side)
    folder = workspace / "images"
    folder.mkdir(parents=True)
    files = [_image_file(folder, n, to_bytes(frame)) for n, frame in enumerate(frames)]
    return _estimated(files, [options.focal or Focal()] * len(files), is_sequence=True)


def _upright_copies(
    photos: Sequence[Path], folder: Path, max_side: int | None
) -> dict[Path, Path | str]:
    """Write copies with EXIF rotations applied, so that COLMAP and the shards see the same pixels.

    A damaged photo yields a note instead of a copy.
    """
    folder.mkdir(parents=True)
    bar = tqdm(photos, "photos", unit="photo", leave=False, disable=None)
    copies: dict[Path, Path | str] = {}
    for number, photo in enumerate(bar):
        try:
            pixels = to_bytes(load_image(photo, max_side=max_side))
        except Exception as error:  # decoders raise almost anything on damaged data
            copies[photo] = _left_out(photo, error)
        else:
            copies[photo] = _image_file(folder, number, pixels)
    return copies


def _left_out(photo: Path, error: Exception) -> str:
    return f"skipped {photo.name}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _image_file(folder: Path, number: int, pixels: Pixels) -> Path:
    file = folder / f"{number:06d}.png"
    Image.fromarray(pixels).save(file, compress_level=1)
    return file


def _estimated(
    files: Sequence[Path],
    focals: Sequence[Focal],
    is_sequence: bool,
    masks: Path | None = None,
) -> Capture:
    """Estimate the poses of upright images in a folder, optionally with masks from another."""
    if len(files) < _MIN_PHOTOS:
        raise ValueError(f"estimating poses needs at least {_MIN_PHOTOS} photos, got {len(files)}")
    solution = solve(files, focals, Search(is_sequence), say, masks)
    missing = len(solution.left_out)
    lost = [f"{missing} of {len(files)} photos could not be registered: skipped"] if missing else []
    warnings = [f"WARNING: {warning}" for warning in solution.warnings]
    return replace(solution.capture, notes=(*lost, *warnings))


def stored_capture(
    key: str,
    capture: Capture,
    max_side: int | None,
    num_workers: int = 0,
    masks: MaskSource | None = None,
) -> tuple[StoredScene, list[str]]:
    """Encode all photos of a capture, in threads with more than one worker.

    Returns:
        The scene, and a note on each damaged, skipped photo.

    Raises:
        ValueError: if no photo is usable.
        ImportError: if a required package is not installed.
    """

    def encode(photo: Photo) -> tuple[bytes, npt.NDArray[np.float32]] | str:
        try:
            return encode_photo(photo, max_side, masks)
        except ImportError:
            raise
        except Exception as error:  # decoders raise almost anything on damaged data
            return _left_out(photo.path, error)

    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        made = pool.map(encode, capture.photos)
        total = len(capture.photos)
        encoded = list(tqdm(made, key, total, unit="photo", leave=False, disable=None))
    notes = [item for item in encoded if isinstance(item, str)]
    if len(notes) == total:
        raise ValueError(f"no photo is usable; {notes[0]}")
    used = [view for view, item in enumerate(encoded) if not isinstance(item, str)]
    poses = np.stack([capture.photos[view].world_from_camera for view in used])
    packed = np.concatenate([poses[:, :3, :3].reshape(-1, 9), poses[:, :3, 3]], axis=1)
    images, cameras = zip(*(item for item in encoded if not isinstance(item, str)), strict=True)
    return StoredScene(key, np.stack(cameras), packed.astype(np.float32), images), notes


@contextmanager
def _workspace(directory: Path, key: str) -> Iterator[Path]:
    folder = directory / f".work-{key}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _source_name(source: Path, output: ShardOutput) -> str:
    """Name of an input in the manifest: relative to the shards, so both can move together."""
    root = output.root.resolve()
    return Path(os.path.relpath(source.resolve(), root)).as_posix()


def _is_there(source: Path, output: ShardOutput) -> bool:
    """Whether the scene of exactly this input exists, not just one with the same key."""
    key, name = scene_key(source), _source_name(source, output)
    return output.holds(key) and output.manifest.sources.get(key, name) == name


def _convert(source: Path, options: argparse.Namespace, output: ShardOutput) -> list[Result]:
    """Convert an input: a scene, a failure, or nothing if it already exists."""
    key = scene_key(source)
    if _is_there(source, output):
        say(f"{key} exists already")
        return []
    if output.holds(key):
        other = output.manifest.sources[key]
        advice = "rename one of the folders, or choose another --output-dir"
        return [Failure(str(source), f"scene {key} exists already, made from {other}", advice)]
    try:
        with _workspace(output.directory, key) as workspace:
            capture = read_capture(source, options, workspace)
            masks = options.mask_source
            if (workspace / MASKS).is_dir():  # masks of the upright copies
                masks = MaskSource(workspace / MASKS)
            scene, damaged = stored_capture(
                key, capture, options.max_side, options.num_workers, masks
            )
    except Exception as error:  # a failure of one input must not affect the others
        kind = "" if isinstance(error, EXPECTED_ERRORS) else type(error).__name__
        return [Failure(str(source), _first_line(error), kind)]
    for note in (*capture.notes, *damaged):
        say(f"{key}: {note}")
    output.manifest.sources[key] = _source_name(source, output)
    say(f"{key}: {scene.num_views} views")
    return [scene]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.custom.convert",
        description="Convert your own captures into shards: a folder with a nerfstudio "
        "transforms.json or a COLMAP model, a folder of photos, or a video. "
        "COLMAP estimates missing poses (pip install pycolmap).",
    )
    parser.add_argument("inputs", type=Path, nargs="+", help="folders, transforms.json or videos")
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("data/custom"),
        help="folder of the shards (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        choices=("train", "test"),
        default="test",
        help="split to write to (default: %(default)s)",
    )
    parser.add_argument(
        "--poses",
        choices=("auto", "estimate"),
        default="auto",
        help="auto (default): use the poses of the input, if any; estimate: ignore them",
    )
    parser.add_argument(
        "--order", choices=("any", "sequence"), default="any",
        help="sequence: photos were taken in order along a path; match only neighbours"
        " (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--num-frames",
        type=int,
        default=60,
        help="number of frames to take from a video (default: %(default)s)",
    )
    parser.add_argument(
        "--focal-35mm", type=float, help="focal length in 35 mm equivalent, if known (phones: 26)"
    )
    add_masks(parser)
    parser.add_argument(
        "--max-side",
        type=int,
        default=960,
        help="longer side of the images in pixels; 0: keep (default: %(default)s)",
    )
    add_common_options(parser)
    sharing.add_option(parser)
    return parser


def _run(options: argparse.Namespace) -> int:
    directory = paths.resolve(options.output_dir) / f"{options.split}-scenes"
    settings = {"split": options.split, "max_side": options.max_side}
    share = sharing.chosen(options)
    if options.mask_source is not None:
        settings["masks"] = [options.masks, options.invert_masks]
    output = ShardOutput(directory, TOOL, settings, options.shard_size_mb, options.overwrite)

    def make(target: ShardOutput, sources: Sequence[Path]) -> None:
        convert(target, sources, lambda source: _convert(source, options, target), 0, TOOL)

    written = sharing.write(
        output, options.inputs, share, lambda source, _: _is_there(source, output), make
    )
    if written.manifest.shards:
        say(DEPTH_ADVICE)
    return report(written)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.num_frames < 3:
        parser.error("--num-frames must be at least 3")
    try:
        given = options.focal_35mm
        options.focal = None if given is None else Focal.from_35mm(given)
        options.mask_source = mask_source(options)
    except ValueError as error:
        parser.error(str(error))
    options.max_side = options.max_side or None
    return run_command(lambda: _run(options))


if __name__ == "__main__":
    exit_process(main())
