"""The example inputs are what the command draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splatfactory.datasets.scripts.synthetic import examples
from zipsplat.images import load_image
from zipsplat.video import load_video, video_info

EXAMPLES = Path(__file__).parents[4] / "assets" / "examples"


def test_the_examples_are_there_and_small() -> None:
    assert [file.name for file in sorted((EXAMPLES / "office").iterdir())] == [
        f"{number:02d}.png" for number in range(1, 7)
    ]
    assert video_info(EXAMPLES / "drone.mp4").num_frames == 96
    files = [path for path in EXAMPLES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_the_pictures_are_what_the_command_draws() -> None:
    drawn = examples.office_scene().draw(2)[0]
    stored = load_image(EXAMPLES / "office" / "03.png").permute(1, 2, 0).numpy() * 255
    assert np.abs(drawn - stored).mean() < 0.5
    frame = examples.flight_scene().draw(0)[0]
    first = load_video(EXAMPLES / "drone.mp4", num_frames=1)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(frame - first).mean() < 6  # the video is compressed


def test_the_command_writes_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "OFFICE_SIZE", (24, 32))
    monkeypatch.setattr(examples, "FLIGHT_SIZE", (24, 32))
    assert examples.main([str(tmp_path)]) == 0
    assert len(list((tmp_path / "office").iterdir())) == 6
    assert video_info(tmp_path / "drone.mp4").num_frames == 96
    with Image.open(tmp_path / "office" / "01.png") as picture:
        assert picture.size == (32, 24)
