"""Types of command-line options: numbers in ranges, and sizes.

Each is a `type` of argparse and raises `ArgumentTypeError` for invalid text.
"""

from __future__ import annotations

import argparse
import re


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
