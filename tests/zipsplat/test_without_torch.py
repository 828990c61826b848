"""Commands that need no PyTorch do not wait a second for its import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.zipsplat.formats.scenes import scene
from zipsplat.scene_files import read_scene, write_scene
from zipsplat.video import write_video

_WITHOUT_TORCH = """
import sys
from zipsplat.cli import main

try:
    status = main(sys.argv[1:])
except SystemExit as error:
    status = error.code
assert "torch" not in sys.modules
sys.exit(status)
"""


def run(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize("suffix", [".spz", ".ply", ".compressed.ply", ".splat", ".glb", ".sog"])
def test_info_and_convert_of_scenes(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.ply", tmp_path / f"out{suffix}"
    write_scene(source, scene(50, 1))
    run("convert", source, target)
    assert "gaussians" in run("info", source)
    assert len(read_scene(target).arrays.means) == 50


def test_info_of_images_and_videos(tmp_path: Path) -> None:
    image, video = tmp_path / "a.png", tmp_path / "a.mp4"
    Image.new("RGB", (32, 24)).save(image)
    write_video(video, [np.zeros((48, 64, 3), np.uint8)] * 3)
    assert "32" in run("info", image)
    assert "h264" in run("info", video)
