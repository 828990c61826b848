"""Inputs: images, a folder, a pattern or a video, loaded as a list of views."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from zipsplat.images import Background, image_info, load_animation, load_image
from zipsplat.masks import MaskSource, check_has_photos, load_masks
from zipsplat.media_kinds import IMAGE, VIDEO, kind_by_suffix, kind_of
from zipsplat.video import SKIP_BAD, Report, frame_indices, load_video

logger = logging.getLogger(__name__)

DEFAULT_VIDEO_FRAMES = 24
MIN_SIDE = 14  # one patch of the network

Source = str | PathLike[str] | Sequence[str | PathLike[str]]


@dataclass(frozen=True)
class InputFiles:
    """Either images in their order, or one video, which may be an animation."""

    images: tuple[Path, ...] = ()
    video: Path | None = None


@dataclass(frozen=True)
class _Reading:
    """How views are read; see `load_views`."""

    max_side: int | None
    min_side: int | None
    background: Background
    skip_bad: bool
    report: Report | None


def find_inputs(source: Source) -> InputFiles:
    """Find the files of a source.

    Args:
        source: an image, a video, a folder, a pattern such as `photos/*.jpg`, or a list of these.
            Folders and patterns are in natural order (img2 before img10) and only give files with
            an image suffix or none; a folder without images may contain one video. The existing
            part of a pattern is taken literally, including brackets. A list keeps its order. A
            single animated image counts as a video.

    Raises:
        FileNotFoundError: a file, or any match of a pattern, does not exist.
        ValueError: there are no inputs, several videos, or images mixed with a video.
    """
    entries = [source] if isinstance(source, (str, PathLike)) else list(source)
    if not entries:
        raise ValueError("no input given; name images, a folder, a pattern or a video")
    found = [path for entry in entries for path in _expand(entry)]
    videos = [path for path in found if kind_of(path) == VIDEO]
    if not videos:
        is_video = len(found) == 1 and _is_animated(found[0])
        return InputFiles(video=found[0]) if is_video else InputFiles(images=tuple(found))
    if len(found) > 1:
        raise ValueError(
            "give either images or one video, got "
            f"{len(found) - len(videos)} images and {len(videos)} videos: {videos[0]}, …"
        )
    return InputFiles(video=videos[0])


@dataclass(frozen=True)
class MaskedViews:
    """Views of a scene with their masks.

    Args:
        images: V of (3, H, W) float32, RGB in [0, 1].
        masks: V of (H, W) bool; None if all pixels count.
    """

    images: list[Tensor]
    masks: list[Tensor] | None = None


def load_masked_views(source: Source, masks: MaskSource | None, **options: Any) -> MaskedViews:
    """As `load_views`, with the masks of the loaded photos.

    Args:
        source: as in `find_inputs`.
        masks: where they come from; None loads none.
        **options: of `load_views`.

    Raises:
        FileNotFoundError: a file or a mask does not exist.
        ValueError: as `load_views`; or a mask does not match its photo, or there is a video.
    """
    if masks is None:
        return MaskedViews(load_views(source, **options))
    check_has_photos(find_inputs(source).video)
    used: list[Path] = []
    images = load_views(source, **options, used=used)
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    return MaskedViews(images, load_masks(used, masks, sizes))


def load_views(
    source: Source,
    *,
    num_frames: int | None = None,
    stride: int | None = None,
    max_side: int | None = None,
    min_side: int | None = None,
    background: Background = "white",
    skip_bad: bool = False,
    report: Report | None = None,
    used: list[Path] | None = None,
) -> list[Tensor]:
    """Load the views of a scene.

    Args:
        source: as in `find_inputs`.
        num_frames: number of video frames (default 24) or images (default all) to use, evenly
            spaced from the first to the last.
        stride: if given, every `stride`-th frame or image instead.
        max_side: images are scaled down so that their longer side has at most this many pixels.
        min_side: if given, lower limit on the shorter side when scaling down; see `load_image`.
        background: colour behind transparency.
        skip_bad: leave out unreadable images and damaged frames with a warning.
        report: called with (done, total).
        used: the files of the loaded images are appended to it.

    Returns:
        Images (3, H, W), float32 RGB in [0, 1]; sizes may differ.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is unreadable or too small, or none is left. The message names it.
    """
    files = find_inputs(source)
    reading = _Reading(max_side, min_side, background, skip_bad, report)
    if files.video is not None:
        num_frames = DEFAULT_VIDEO_FRAMES if num_frames is None else num_frames
        return _load_video(files.video, num_frames, stride, reading)
    count = len(files.images)
    indices = frame_indices(count, count if num_frames is None else num_frames, stride)
    return _load_image_files([files.images[index] for index in indices], reading, used)


def natural_key(path: str | Path) -> tuple[list[tuple[bool, int, str]], str]:
    """A sorting key that puts img2 before img10, and digits before letters."""
    parts = re.findall(r"[0-9]+|[^0-9]+", str(path).casefold())
    key = [(False, int(part), "") if part[0].isdecimal() else (True, 0, part) for part in parts]
    return key, str(path)


def _expand(entry: str | PathLike[str]) -> list[Path]:
    """The files that one entry means."""
    if not str(entry).strip():
        raise ValueError("an input is empty; name images, a folder, a pattern or a video")
    path = Path(entry).expanduser()
    if path.is_dir():
        return _usable(path.iterdir(), f"{path}: this folder")
    if path.exists() or not glob.has_magic(str(path)):
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        return [path]
    folder = next(parent for parent in path.parents if parent.is_dir())
    pattern = str(Path(glob.escape(str(folder))) / path.relative_to(folder))
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if not matches:
        raise FileNotFoundError(f"{path}: no file matches this pattern")
    return _usable(matches, f"{path}: this pattern")


def _usable(paths: Iterable[Path], place: str) -> list[Path]:
    """Images if there are any, else the video; sorted, without hidden files."""
    files = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    files.sort(key=natural_key)
    # Files with other suffixes may be the raw files that a camera puts beside its images.
    known = [path for path in files if kind_by_suffix(path) or not path.suffix]
    kinds = {path: kind_of(path) for path in known}
    images = [path for path in known if kinds[path] == IMAGE]
    videos = [path for path in known if kinds[path] == VIDEO]
    if not images and not videos:
        raise ValueError(f"{place} contains no images and no video")
    return images or videos


def _is_animated(path: Path) -> bool:
    try:
        return kind_of(path) == IMAGE and image_info(path).num_frames > 1
    except ValueError:  # unreadable; raised again when it is loaded
        return False


def _load_video(path: Path, num_frames: int, stride: int | None, reading: _Reading) -> list[Tensor]:
    """Load frames of a video or of an animation."""
    if kind_of(path) == IMAGE:
        info = image_info(path)
        _check_size(path, info.height, info.width)
        return load_animation(
            path,
            frame_indices(info.num_frames, num_frames, stride),
            max_side=reading.max_side,
            min_side=reading.min_side,
            background=reading.background,
        )
    views = load_video(
        path,
        num_frames,
        stride,
        max_side=reading.max_side,
        min_side=reading.min_side,
        background=reading.background,
        skip_bad=reading.skip_bad,
        report=reading.report,
    )
    _check_size(path, *views[0].shape[-2:])
    return views


def _load_image_files(
    paths: Sequence[Path], reading: _Reading, used: list[Path] | None
) -> list[Tensor]:
    """Load images in turn; appends the loaded ones to `used`."""
    views: list[Tensor] = []
    for done, path in enumerate(paths, start=1):
        try:
            views.append(_load_image_file(path, reading))
            if used is not None:
                used.append(path)
        except ValueError as error:
            if not reading.skip_bad:
                raise _with_hint(error, len(paths)) from error
            logger.warning("left out %s", error)
        if reading.report is not None:
            reading.report(done, len(paths))
    if not views:
        raise ValueError(f"none of {len(paths)} images could be used, such as {paths[0]}")
    return views


def _with_hint(error: ValueError, num_images: int) -> ValueError:
    """Add a hint on `skip_bad` to an error if there are other images."""
    return ValueError(f"{error}; {SKIP_BAD} leaves it out") if num_images > 1 else error


def _load_image_file(path: Path, reading: _Reading) -> Tensor:
    info = image_info(path)
    _check_size(path, info.height, info.width)
    return load_image(
        path,
        max_side=reading.max_side,
        min_side=max(reading.min_side or 0, MIN_SIDE),
        background=reading.background,
    )


def _check_size(path: Path, height: int, width: int) -> None:
    """Reject images that are too small, before they are decoded."""
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"{path}: {width}×{height} pixels are too few; at least {MIN_SIDE}×{MIN_SIDE} needed"
        )
