"""Argument types and checks that several sub-commands share."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipsplat.masks import MaskSource

STILL_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MOVING_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".gif")


def pixel_size(text: str) -> tuple[int, int]:
    """(height, width) from "512" or "640x360" (width first, as image sizes are written)."""
    match = re.fullmatch(r"(\d+)(?:[x×](\d+))?", text)
    if match is None or int(match[1]) < 1 or int(match[2] or 1) < 1:
        raise argparse.ArgumentTypeError(f"wanted a size such as 512 or 640x360, got {text!r}")
    return int(match[2] or match[1]), int(match[1])


def share(text: str) -> float:
    """A number in (0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"wanted a number in (0, 1], got {text!r}")
    return value


def count(text: str) -> int:
    """An integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted an integer of at least 1, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"wanted a number above 0, got {text!r}")
    return value


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


def add_masks(parser: argparse.ArgumentParser) -> None:
    """Add `--masks` and `--invert-masks`."""
    parser.add_argument(
        "--masks",
        metavar="DIR|alpha",
        help="leave out what is black in the mask of each image (a.png, a.jpg.png or a_mask.png"
        " for a.jpg in this folder), or what is transparent (alpha): people, sky, a background",
    )
    parser.add_argument(
        "--invert-masks", action="store_true", help="leave out what is white or opaque instead"
    )


def mask_source(options: argparse.Namespace) -> MaskSource | None:
    """The mask source that the options name, or None.

    Raises:
        ValueError: if the folder does not exist, or for `--invert-masks` without `--masks`.
    """
    from zipsplat.masks import MaskSource

    if options.masks is not None:
        return MaskSource.from_argument(options.masks, options.invert_masks)
    if options.invert_masks:
        raise ValueError("--invert-masks needs --masks DIR|alpha")
    return None


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
            raise ValueError(f"{path}: named as output twice")
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
