"""Animated GIF and WebP, for places that cannot play videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from zipsplat.files import atomic_path

ANIMATION_SUFFIXES = (".gif", ".webp")
_GIF_UNIT_MS = 10  # a GIF's times are hundredths of a second
_GIF_FASTEST_MS = 20  # browsers slow shorter frames down to a tenth of a second
_WEBP_QUALITY = 85


def write_animation(path: str | Path, frames: Iterable[np.ndarray], fps: float = 30) -> None:
    """Write images as an animation that loops forever.

    A GIF has 256 colours per frame, and frame times rounded to hundredths of a second, at most 50
    frames per second; a WebP is smaller and keeps all colours. The file is written atomically.

    Args:
        path: name ending in .gif or .webp.
        frames: (H, W, 3) uint8 RGB, all of one size; all are in memory at once.
        fps: frames per second.

    Raises:
        ValueError: for an unsupported suffix, no frames, or frames of differing or unsupported
            shape or dtype.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in ANIMATION_SUFFIXES:
        raise ValueError(
            f"{path}: an animation's name must end in {' or '.join(ANIMATION_SUFFIXES)}"
        )
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must be in (0, 1000], got {fps}")
    from PIL import Image

    images = [Image.fromarray(frame) for frame in _checked(frames, path)]
    duration_ms = round(1000 / fps)
    if suffix == ".gif":
        duration_ms = max(_GIF_FASTEST_MS, round(1000 / fps / _GIF_UNIT_MS) * _GIF_UNIT_MS)
    with atomic_path(path) as temporary:
        images[0].save(
            temporary,
            save_all=True,
            append_images=images[1:],
            duration=max(1, duration_ms),
            loop=0,
            quality=_WEBP_QUALITY,  # ignored for GIF
        )


def _checked(frames: Iterable[np.ndarray], path: Path) -> list[np.ndarray]:
    """Check the frames and return them as a list."""
    kept = list(frames)
    if not kept:
        raise ValueError(f"{path}: there are no frames to write")
    for frame in kept:
        is_image = frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8
        if not is_image or frame.shape != kept[0].shape:
            raise ValueError(
                f"frames must be (H, W, 3) uint8 of one size, got {frame.shape} {frame.dtype}"
                f" after {kept[0].shape}"
            )
    return kept
