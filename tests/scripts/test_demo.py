"""The demo, the examples and the real-input benchmark run and write what they promise."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from zipsplat import Gaussians, load_image
from zipsplat.video import video_info

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a script as from a shell in an empty folder; returns its exit status."""

    def run_script(script: str, *arguments: object) -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run_script


def test_the_demo_refines_and_names_every_file(tmp_path, run, capsys):
    office = ROOT / "assets/examples/office"
    options = ("--output", "demo", "--frames", 6, "--steps", 40, "--size", 240)
    assert run("scripts/demo.py", office, *options) == 0
    output = capsys.readouterr().out
    for path in (tmp_path / "demo").iterdir():
        assert str(path.relative_to(tmp_path)) in output
    assert "6 photos placed, 0 left out" in output
    assert float(re.search(r"photos: ([\d.]+) dB", output)[1]) > 18  # 13 before the first step
    assert Gaussians.load(tmp_path / "demo/scene.ply").num_gaussians > 5000
    assert video_info(tmp_path / "demo/flight.mp4").num_frames == 6
    assert load_image(tmp_path / "demo/contact_sheet.webp").shape[0] == 3
    assert (tmp_path / "demo/scene.spz").exists()
    assert "01.png" in (tmp_path / "demo/scene.cameras.json").read_text()


@pytest.mark.parametrize(
    ("script", "arguments", "output"),
    [
        ("examples/01_reconstruct.py", ["-o", "a/scene.ply"], "a/scene.ply"),
        ("examples/02_render_views.py", ["-o", "a/views.png"], "a/views.png"),
    ],
)
def test_examples_run(tmp_path, run, capsys, script, arguments, output):
    assert run(script, *arguments) == 0
    assert f"wrote {output}" in capsys.readouterr().out
    assert (tmp_path / output).stat().st_size > 1000
    assert len((ROOT / script).read_text().splitlines()) <= 60


def test_real_input_reports_each_path_and_failures(tmp_path, run, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    image = ROOT / "assets/examples/office/01.png"
    assert run("benchmarks/real_input.py", image, "bad.jpg", "--video-frames", 2) == 1
    output = capsys.readouterr()
    assert "1 views (480×360), 10368 Gaussians" in output.out
    assert "bad.jpg: FAILED" in output.err
    assert (tmp_path / "outputs/real_input/0-01/sheet.png").exists()
