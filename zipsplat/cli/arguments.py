"""Arguments and checks that several sub-commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from zipsplat.option_types import count

STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOVING_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".gif")


def color(text: str) -> tuple[float, float, float]:
    """RGB in [0, 1] from a colour name or "#rrggbb"."""
    from zipsplat.images import background_color

    try:
        return background_color(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument for images or a video."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="images, a folder, a quoted pattern, or one video",
    )


def add_scene_outputs(parser: argparse.ArgumentParser) -> None:
    """Add `--output` for scene files."""
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="scene file or page.html; the suffix selects the format; may be repeated",
    )


def add_num_frames(parser: argparse._ActionsContainer) -> None:
    """Add `--num-frames` to a parser or to an argument group."""
    parser.add_argument(
        "--num-frames",
        type=count,
        metavar="N",
        help="use N evenly spaced frames (default: 24 of a video, all images of a folder)",
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`."""
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps (untested)"
    )


def check_outputs(paths: Iterable[Path], *, may_overwrite: bool) -> None:
    """Reject outputs that cannot or should not be written, before any work is done.

    Raises:
        ValueError: a file exists, is named twice, or its folder cannot be written.
    """
    seen: set[Path] = set()
    for path in paths:
        if path.absolute() in seen:
            raise ValueError(f"{path}: given as output twice")
        seen.add(path.absolute())
        if path.is_dir():
            raise ValueError(f"{path}: is a folder; give a file name")
        if path.exists() and not may_overwrite:
            raise ValueError(f"{path}: already exists; --overwrite replaces it")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise ValueError(f"{path}: cannot be written in {folder}")


def check_suffix(path: Path, suffixes: Iterable[str]) -> None:
    """Reject a file name with any other suffix.

    Raises:
        ValueError: the message lists the suffixes.
    """
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: the name must end in {', '.join(suffixes)}")
