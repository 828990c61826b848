"""Types of command-line options: numbers in their ranges, and sizes.

Each takes the text of an argument, as the `type` of argparse, and raises `ArgumentTypeError` for
what it does not take.
"""

from __future__ import annotations

import argparse
import re


def pixel_size(text: str) -> tuple[int, int]:
    """(height, width) of "512" or, as sizes are usually written, "640x360" (width first)."""
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
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 on, got {text!r}")
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
