"""Renderers against golden images.

The images were computed by an independent per-pixel compositor in float64 with float32
constants. Keys of each file:

- gaussians (N, 11 + 3S) packed, cameras (V, 6) packed, poses (V, 12) packed, backgrounds (V, 3);
- sh_degree, −1 for the degree of the scene;
- render_MODE (V, C, H, W), alphas (V, 1, H, W); fp32_maxdiff_MODE, how far a float32 run of the
  same compositor was off;
- ambiguous (V, H, W): pixels where a threshold (alpha ≥ 1/255, transmittance > 1e-4) is so close
  that float32 may decide otherwise;
- means2d, conics, radii, depths (V, N, …), zero for Gaussians that are not rendered.

An image agrees if it is within max(1e-5, 10 · fp32_maxdiff) outside the ambiguous pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zipsplat import Camera, Gaussians, Pose
from zipsplat.render import RENDERERS, RenderMode, RenderSettings, Viewpoints
from zipsplat.render._projection import project

FOLDER = Path(__file__).parents[2] / "golden" / "render"
CASES = sorted(path.stem for path in FOLDER.glob("*.npz"))
CPU_RENDERERS = [name for name in RENDERERS.names() if name != "cuda"]


def load(case: str) -> tuple[dict[str, np.ndarray], Gaussians, Camera, Pose]:
    with np.load(FOLDER / f"{case}.npz") as file:
        golden = {key: file[key] for key in file.files}
    scene = Gaussians.from_packed(torch.from_numpy(golden["gaussians"]))
    cameras = Camera.from_packed(torch.from_numpy(golden["cameras"]))
    return golden, scene, cameras, Pose.from_packed(torch.from_numpy(golden["poses"]))


def modes_of(case: str) -> list[RenderMode]:
    with np.load(FOLDER / f"{case}.npz") as file:
        return [m for m in RenderMode if "render_" + m.value.replace("+", "_") in file.files]


def test_all_cases_are_there() -> None:
    assert len(CASES) == 9
    assert {mode for case in CASES for mode in modes_of(case)} == set(RenderMode)


@pytest.mark.parametrize("renderer", CPU_RENDERERS)
@pytest.mark.parametrize("case", CASES)
def test_images(case: str, renderer: str) -> None:
    golden, scene, cameras, poses = load(case)
    backgrounds = golden.get("backgrounds")
    degree = int(golden["sh_degree"])
    for mode in modes_of(case):
        key = mode.value.replace("+", "_")
        image, info = scene.render(
            cameras,
            poses,
            mode=mode.value,
            sh_degree=None if degree < 0 else degree,
            backgrounds=None if backgrounds is None else torch.from_numpy(backgrounds),
            renderer=renderer,
        )
        clear = torch.from_numpy(~golden["ambiguous"]).unsqueeze(1)
        wanted = torch.from_numpy(golden[f"render_{key}"])
        assert image.shape == wanted.shape
        error = ((image - wanted).abs() * clear).max().item()
        assert error <= max(1e-5, 10 * float(golden[f"fp32_maxdiff_{key}"])), (mode, error)
        alpha_error = (info["alphas"] - torch.from_numpy(golden["alphas"])).abs() * clear
        assert alpha_error.max().item() <= 1e-5, mode


@pytest.mark.parametrize("case", CASES)
def test_projection(case: str) -> None:
    golden, scene, cameras, poses = load(case)
    width, height = (int(x) for x in cameras.size[0])
    viewpoints = Viewpoints(poses.Rt, cameras.K, width, height)
    projected = project(scene.splats(), viewpoints, RenderSettings())
    rendered = golden["radii"].any(axis=-1)
    np.testing.assert_array_equal(projected.visible.numpy(), rendered)
    assert_relative(projected.means.numpy()[rendered], golden["means2d"][rendered], 1e-4)
    assert_relative(projected.conics.numpy()[rendered], golden["conics"][rendered], 1e-4)
    np.testing.assert_allclose(projected.depths.numpy()[rendered], golden["depths"][rendered], 1e-5)
    assert np.abs(projected.radii.numpy()[rendered] - golden["radii"][rendered]).max() <= 1


def assert_relative(got: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Compare vectors along the last axis, relative to the largest component of each."""
    size = np.abs(wanted).max(axis=-1, keepdims=True)
    np.testing.assert_allclose(got / size, wanted / size, rtol=0, atol=tolerance)
