"""Options of commands that take masks of photos."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipsplat.masks import MaskSource


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
