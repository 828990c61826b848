"""The demo, the examples and the benchmark of real input run and write what they say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zipsplat import Gaussians, load_image
from zipsplat.video import video_info

ROOT = Path(__file__).parents[2]


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "error", str(ROOT / script), *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


def test_the_demo_names_every_file_and_says_that_weights_are_untrained(tmp_path):
    done = run("scripts/demo.py", "--output", "demo", "--frames", 6, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "UNTRAINED" in done.stdout
    for path in (tmp_path / "demo").iterdir():
        assert str(path.relative_to(tmp_path)) in done.stdout
    assert Gaussians.load(tmp_path / "demo/scene.ply").num_gaussians == 6 * 324 * 32
    assert video_info(tmp_path / "demo/orbit.mp4").num_frames == 6
    assert load_image(tmp_path / "demo/contact_sheet.png").shape[0] == 3
    assert (tmp_path / "demo/scene.spz").exists()


@pytest.mark.parametrize(
    ("script", "arguments", "output"),
    [
        ("examples/01_reconstruct.py", ["-o", "a/scene.ply"], "a/scene.ply"),
        ("examples/02_render_views.py", ["-o", "a/views.png"], "a/views.png"),
    ],
)
def test_examples_run(tmp_path, script, arguments, output):
    done = run(script, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"wrote {output}" in done.stdout
    assert (tmp_path / output).stat().st_size > 1000
    assert len((ROOT / script).read_text().splitlines()) <= 60


def test_real_input_reports_each_path_and_failures(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    picture = ROOT / "assets/examples/office/01.png"
    done = run("benchmarks/real_input.py", picture, "bad.jpg", "--film-frames", 2, cwd=tmp_path)
    assert done.returncode == 1
    assert "1 views (480×360), 10368 Gaussians" in done.stdout
    assert "bad.jpg: FAILED" in done.stderr
    assert (tmp_path / "outputs/real_input/0-01/sheet.png").exists()
