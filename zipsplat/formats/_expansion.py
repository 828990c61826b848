"""A bound on the unpacked size of a compressed file, against decompression bombs."""

from __future__ import annotations

# Scenes compress by a factor of two to five, bombs by a thousand; small files are not checked.
_MAX_EXPANSION, _SMALL = 64, 1 << 25


def require_plausible(unpacked: int, packed: int, what: str) -> None:
    """Raise a `ValueError` if the unpacked size is implausible for a scene.

    Args:
        unpacked: number of bytes that a file says it holds.
        packed: its size.
        what: the format, as "SPZ".
    """
    if unpacked > max(_MAX_EXPANSION * packed, _SMALL):
        raise ValueError(
            f"damaged {what} file: {packed} bytes would unpack to {unpacked}; real scenes grow by"
            f" less than {_MAX_EXPANSION} times"
        )
