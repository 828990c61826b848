"""What a command imports before it has something to do; tests/zipsplat/formats has the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from zipsplat import Gaussians
from zipsplat.cli import COMMANDS, main
from zipsplat.formats import rounded_log

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "formats" / "scene.ply"
TOP = """
import sys
{work}
print(*sorted(name for name in sys.modules if "." not in name))
"""


def imported(work: str, *arguments: str) -> set[str]:
    """Top-level modules that a fresh process has imported after some work."""
    command = [sys.executable, "-c", TOP.format(work=work), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split())


def test_an_image_needs_no_sympy() -> None:
    work = """
import torch
from zipsplat import Camera, Gaussians, Pose
scene = Gaussians.load(sys.argv[1])
camera, poses = Camera.from_fov(1.0, w=32, h=24), Pose.orbit(torch.zeros(3), 2.0, torch.arange(2.0))
image, _ = scene.render(camera, poses)
assert image.shape == (2, 3, 24, 32)
poses.compose(Pose.identity()).inv()
"""
    found = imported(work, str(GOLDEN))
    assert "torch" in found
    assert "sympy" not in found


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_large(name: str) -> None:
    work = """
from zipsplat.cli import main
try:
    main([sys.argv[1], "--help"])
except SystemExit:
    pass
"""
    found = imported(work, name)
    assert not found & {"torch", "numpy", "PIL", "av", "numba"}


def test_convert_takes_no_images_library_and_no_compiler(tmp_path: Path) -> None:
    work = "from zipsplat.cli import main; main(['convert', *sys.argv[1:]])"
    found = imported(work, str(GOLDEN), str(tmp_path / "out.spz"))
    assert "numpy" in found
    assert not found & {"torch", "PIL", "av", "scipy", "safetensors"}


@pytest.mark.parametrize("value", [1e-6, 0.0123, 0.5, 0.99999994, 1.0000001, 1.17, 3.0, 8.5e4])
def test_the_logarithm_is_correctly_rounded(value: float) -> None:
    single = np.array([value], np.float32)
    with localcontext() as context:
        context.prec = 40
        exact = Decimal(float(single[0])).ln()
    got = rounded_log(single)
    assert got.dtype == np.float32
    neighbours = np.nextafter(got, np.float32([-np.inf, np.inf]), dtype=np.float32)
    errors = [abs(Decimal(float(one)) - exact) for one in (got[0], *neighbours)]
    assert errors[0] < min(errors[1:])


def test_convert_rounds_as_numpy_and_a_scene_of_tensors_as_torch(tmp_path: Path) -> None:
    scene = Gaussians.load(GOLDEN)
    paths = [tmp_path / name for name in ("tensors.ply", "plain.ply", "changed.ply")]
    scene.save(paths[0])
    assert main(["convert", str(GOLDEN), str(paths[1])]) == 0
    assert main(["convert", str(GOLDEN), str(paths[2]), "--prune-opacity", "0"]) == 0
    assert paths[1].read_bytes() == paths[2].read_bytes()
    logs = [_log_scales(path.read_bytes(), len(scene.means)) for path in paths[:2]]
    scales = scene.scales.numpy()
    np.testing.assert_array_equal(logs[0], torch.log(scene.scales).numpy())
    np.testing.assert_array_equal(logs[1], rounded_log(scales))


def _log_scales(data: bytes, num: int) -> np.ndarray:
    table = np.frombuffer(data[-num * 62 * 4 :], "<f4").reshape(num, 62)
    return table[:, 55:58]


@pytest.mark.parametrize(
    "arguments",
    [
        ["render", "no.ply", "-o", "a.mp4"],
        ["reconstruct", "no.jpg", "-o", "a.ply"],
        ["refine", "no.ply", "no.jpg", "-o", "a.ply"],
        ["depth", "no.jpg", "-o", "a"],
        ["cameras", "no.jpg", "-o", "a"],
        ["view", "no.ply", "--port", "0"],
    ],
)
def test_commands_say_that_pytorch_starts_before_it_does(
    arguments: list[str], tmp_path: Path
) -> None:
    work = """
import io
class Terminal(io.StringIO):
    def isatty(self):
        return True
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.__stdout__.write("said " + repr(sys.stderr.getvalue()))
            raise SystemExit(0)
sys.stderr = Terminal()
sys.meta_path.insert(0, Watch())
from zipsplat.cli import main
main(sys.argv[1:])
"""
    command = [sys.executable, "-c", f"import sys\n{work}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert "starting PyTorch …" in done.stdout
