"""A bound on what a compressed file may unpack to, so that a small file cannot fill the memory."""

from __future__ import annotations

# Scenes shrink two to five times, a bomb a thousand times; small ones may do what they like.
_MAX_EXPANSION, _SMALL = 64, 1 << 25


def require_plausible(unpacked: int, packed: int, what: str) -> None:
    """Raise a `ValueError` if so many bytes are no scene.

    Args:
        unpacked: number of bytes that a file says it holds.
        packed: its size.
        what: the format, as "SPZ".
    """
    if unpacked > max(_MAX_EXPANSION * packed, _SMALL):
        raise ValueError(
            f"damaged {what} file: {packed} bytes would unpack to {unpacked}; real scenes grow less"
            f" than {_MAX_EXPANSION} times"
        )
