"""The kernels of an image are compiled by other processes, once, where they can be kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zipsplat.kernel_folder import CACHE_VARIABLE
from zipsplat.render import RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import ahead
from zipsplat.render.cpu.ahead import KernelsAhead, image_kernels, is_image_on_cpu

ROOT = Path(__file__).parents[3]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, also for other processes."""
    folder = tmp_path / "kernels"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def kernels_of(*calls: tuple[str, str, str]) -> KernelsAhead:
    return KernelsAhead("test", [Path(__file__)], calls)


def test_the_marker_is_set_when_all_have_succeeded(cache: Path) -> None:
    good, bad = ("time", "sleep", "0.1"), ("time", "no_such_function", "")
    with kernels_of(good, bad) as kernels:
        assert kernels.is_running
        kernels.wait()
    assert not kernels.marker.exists()
    with kernels_of(good, good) as kernels:
        kernels.wait()
    assert kernels.marker.exists()
    with kernels_of(good, good) as kernels:
        assert not kernels.is_running


def test_processes_end_with_the_block(cache: Path) -> None:
    with kernels_of(("time", "sleep", "60"), ("time", "sleep", "60")) as kernels:
        assert kernels.is_running
    assert not kernels.is_running
    assert not kernels.marker.exists()


def test_one_processor_gets_one_process(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "num_processors", lambda: 1)
    with kernels_of(("time", "sleep", "0.0"), ("time", "sleep", "0.1")) as kernels:
        assert len(kernels._processes) == 1
        kernels.wait()
    assert kernels.marker.exists()


@pytest.mark.parametrize(
    ("device", "renderer", "expected"),
    [
        ("cpu", "auto", True),
        ("cpu", "cpu", True),
        ("cpu", "reference", False),
        ("cuda", "auto", False),
        ("auto", "cuda", False),
    ],
)
def test_only_what_renders_here_is_compiled(device: str, renderer: str, expected: bool) -> None:
    assert is_image_on_cpu(device, renderer) == expected


def test_nothing_that_compiles_loads_pytorch() -> None:
    """It would take longer than half of the kernels."""
    code = "import sys, zipsplat.render.cpu.{}; assert 'torch' not in sys.modules; {}"
    checks = {"ahead": "assert 'numba' not in sys.modules", "compile_stages": "pass"}
    for module, check in checks.items():
        subprocess.run([sys.executable, "-c", code.format(module, check)], cwd=ROOT, check=True)


RENDER = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_ahead import render
render()
"""


def render() -> None:
    """A small image."""
    from zipsplat.render.cpu import PLUGIN

    numbers = torch.rand(16, 11 + 48, generator=torch.Generator().manual_seed(0))
    means, quats, scales, opacities, sh_coeffs = numbers.split((3, 4, 3, 1, 48), dim=1)
    splats = Splats(means, quats, scales, opacities[:, 0], sh_coeffs.unflatten(1, (16, 3)))
    viewpoints = Viewpoints(torch.eye(4)[None], torch.eye(3)[None] * 16, 16, 16)
    PLUGIN.render(splats, viewpoints, RenderSettings())


@pytest.mark.slow
def test_an_image_finds_all_its_kernels(cache: Path) -> None:
    with image_kernels() as kernels:
        kernels.wait()
    assert kernels.marker.exists()
    stored = {path for path in cache.rglob("*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-c", RENDER, str(Path(__file__).parent)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "compiling" not in done.stderr
    assert {path for path in cache.rglob("*") if path.is_file()} == stored
