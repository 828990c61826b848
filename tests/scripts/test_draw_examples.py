"""The example inputs are what the committed script draws."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from zipsplat import load_image
from zipsplat.inputs import load_views
from zipsplat.video import video_info

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "assets" / "examples"


def test_the_examples_are_there_and_small():
    assert len(load_views(EXAMPLES / "office")) == 6
    assert video_info(EXAMPLES / "drone.mp4").num_frames == 96
    files = [path for path in EXAMPLES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_500_000


@pytest.mark.slow
def test_the_first_picture_is_what_the_script_draws(monkeypatch):
    path = ROOT / "scripts" / "draw_examples.py"
    spec = importlib.util.spec_from_file_location("draw_examples", path)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "draw_examples", script)
    spec.loader.exec_module(script)
    drawn = torch.from_numpy(next(script.office_views())).permute(2, 0, 1) / 255
    stored = load_image(EXAMPLES / "office" / "01.png")
    assert (drawn - stored).abs().mean() < 1 / 255
