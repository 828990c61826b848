"""What a user points at - pictures, a folder, a pattern, a video - as a list of views."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from torch import Tensor

from zipsplat.images import Background, is_image_file, load_image
from zipsplat.video import Report, frame_indices, is_video_file, load_video

logger = logging.getLogger(__name__)

DEFAULT_VIDEO_FRAMES = 24
MIN_SIDE = 14  # one patch of the network

Source = str | PathLike[str] | Sequence[str | PathLike[str]]


@dataclass(frozen=True)
class InputFiles:
    """Either pictures in their order, or one video."""

    pictures: tuple[Path, ...] = ()
    video: Path | None = None


def find_inputs(source: Source) -> InputFiles:
    """Find the files that a source means, without opening them.

    Args:
        source: a picture, a video, a folder, a pattern such as "photos/*.jpg", or a list of
            these. Folders and patterns are sorted as people count (img2 before img10) and only
            give files with a picture's suffix; a folder without pictures may hold one video.
            A list keeps its order.

    Raises:
        FileNotFoundError: a file, or any match of a pattern, does not exist.
        ValueError: there is nothing to use, several videos, or pictures mixed with a video.
    """
    entries = [source] if isinstance(source, (str, PathLike)) else list(source)
    if not entries:
        raise ValueError("there is no input; give pictures, a folder, a pattern or a video")
    found = [path for entry in entries for path in _expand(entry)]
    videos = [path for path in found if is_video_file(path)]
    if not videos:
        return InputFiles(pictures=tuple(found))
    if len(found) > 1:
        raise ValueError(
            "give either pictures or one video, got "
            f"{len(found) - len(videos)} pictures and {len(videos)} videos: {videos[0]}, …"
        )
    return InputFiles(video=videos[0])


def load_views(
    source: Source,
    *,
    num_frames: int | None = None,
    stride: int | None = None,
    max_side: int | None = None,
    background: Background = "white",
    skip_bad: bool = False,
    report: Report | None = None,
) -> list[Tensor]:
    """Load the views of a scene from whatever a user points at.

    Args:
        source: as in `find_inputs`.
        num_frames: how many frames of a video (24 if not given) or pictures (all if not given) to
            use, evenly spaced from the first to the last.
        stride: if given, every `stride`-th frame or picture instead.
        max_side: pictures are scaled down so that their longer side has at most this many pixels.
        background: what shows through transparency.
        skip_bad: leave out unreadable pictures and damaged frames with a warning.
        report: is told (done, total) from time to time.

    Returns:
        Pictures (3, H, W), float32 RGB in [0, 1]; sizes may differ.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is unreadable or too small, or nothing is left. It names the file.
    """
    files = find_inputs(source)
    if files.video is not None:
        views = load_video(
            files.video,
            DEFAULT_VIDEO_FRAMES if num_frames is None else num_frames,
            stride,
            max_side=max_side,
            skip_bad=skip_bad,
            report=report,
        )
        _check_size(files.video, views[0])
        return views
    count = len(files.pictures)
    indices = frame_indices(count, count if num_frames is None else num_frames, stride)
    chosen = [files.pictures[index] for index in indices]
    return _load_pictures(chosen, max_side, background, skip_bad, report)


def natural_key(path: str | Path) -> tuple[list[tuple[bool, int, str]], str]:
    """A sorting key that puts img2 before img10, and digits before letters."""
    parts = re.findall(r"[0-9]+|[^0-9]+", str(path).casefold())
    key = [(False, int(part), "") if part[0].isdecimal() else (True, 0, part) for part in parts]
    return key, str(path)


def _expand(entry: str | PathLike[str]) -> list[Path]:
    """The files that one entry means."""
    path = Path(entry).expanduser()
    if path.is_dir():
        return _usable(path.iterdir(), f"{path}: this folder")
    if path.exists() or not glob.has_magic(str(path)):
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        return [path]
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    if not matches:
        raise FileNotFoundError(f"{path}: no file matches this pattern")
    return _usable(matches, f"what matches {path}")


def _usable(paths: Iterable[Path], place: str) -> list[Path]:
    """Pictures if there are any, else the video; sorted, without hidden files."""
    files = [path for path in paths if path.is_file() and not path.name.startswith(".")]
    files.sort(key=natural_key)
    pictures = [path for path in files if is_image_file(path)]
    videos = [path for path in files if is_video_file(path)]
    if not pictures and not videos:
        raise ValueError(f"{place} holds no pictures and no video (judging by the suffixes)")
    return pictures or videos


def _load_pictures(
    paths: Sequence[Path],
    max_side: int | None,
    background: Background,
    skip_bad: bool,
    report: Report | None,
) -> list[Tensor]:
    """Load pictures one after the other."""
    views: list[Tensor] = []
    for done, path in enumerate(paths, start=1):
        try:
            view = load_image(path, max_side=max_side, background=background)
            _check_size(path, view)
            views.append(view)
        except ValueError as error:
            if not skip_bad:
                raise
            logger.warning("left out %s", error)
        if report is not None:
            report(done, len(paths))
    if not views:
        raise ValueError(f"none of {len(paths)} pictures could be used, such as {paths[0]}")
    return views


def _check_size(path: Path, view: Tensor) -> None:
    height, width = view.shape[-2:]
    if min(height, width) < MIN_SIDE:
        raise ValueError(
            f"{path}: {width}×{height} pixels are too few; at least {MIN_SIDE}×{MIN_SIDE} needed"
        )
