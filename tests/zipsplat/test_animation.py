from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zipsplat.animation import write_animation


def frames(num: int = 5) -> list[np.ndarray]:
    """A white square that moves to the right on red."""
    images = []
    for index in range(num):
        image = np.full((24, 41, 3), (200, 30, 30), np.uint8)
        image[8:16, 6 * index : 6 * index + 8] = 255
        images.append(image)
    return images


@pytest.mark.parametrize(("suffix", "fps", "milliseconds"), [
    (".webp", 30, 33), (".WEBP", 12.5, 80), (".gif", 30, 30), (".gif", 8, 120), (".gif", 1000, 20),
])  # fmt: skip
def test_frames_times_and_loop(tmp_path: Path, suffix: str, fps: float, milliseconds: int) -> None:
    path = tmp_path / f"new folder/clip{suffix}"
    write_animation(path, iter(frames()), fps)
    with Image.open(path) as animation:
        assert animation.n_frames == 5
        assert animation.info["loop"] == 0
        for index, wanted in enumerate(frames()):
            animation.seek(index)
            shown = np.asarray(animation.convert("RGB")).astype(int)
            assert animation.info["duration"] == milliseconds
            assert np.abs(shown - wanted).mean() < 6
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_one_frame(tmp_path: Path) -> None:
    for name in ("one.gif", "one.webp"):
        write_animation(tmp_path / name, frames(1))
        with Image.open(tmp_path / name) as image:
            assert image.size == (41, 24)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    with pytest.raises(ValueError, match=r"must end in \.gif or \.webp"):
        write_animation(tmp_path / "clip.mp4", frames())
    with pytest.raises(ValueError, match="no frames"):
        write_animation(path, [])
    with pytest.raises(ValueError, match="fps"):
        write_animation(path, frames(), 0)
    for odd in (frames()[0][:-1], frames()[0].astype(float), frames()[0][..., 0]):
        with pytest.raises(ValueError, match="of one size"):
            write_animation(path, [*frames(), odd])
    assert not path.exists()
