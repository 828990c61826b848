from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.pose import Pose
from zipsplat.viewer.appearance import Appearance, colors_from, kept, painted, splat_buffers


def scene(num: int = 8, degree: int = 1, unit: float = 1.0) -> Gaussians:
    generator = torch.Generator().manual_seed(1)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    return Gaussians(
        means=(rand(num, 3) - 0.5) * unit,
        scales=(0.01 + 0.1 * rand(num, 3)) * unit,
        quats=rand(num, 4) - 0.5,
        opacities=torch.linspace(0.1, 0.8, num),
        sh_coeffs=rand(num, (degree + 1) ** 2, 3) - 0.5,
    )


def test_cut_offs() -> None:
    g = scene()
    assert kept(g, Appearance()).num_gaussians == 8
    assert kept(g, Appearance(min_opacity=0.45)).opacities.tolist() == g.opacities[4:].tolist()
    sizes = g.scales.amax(-1)
    left = kept(g, Appearance(hide_largest=0.25))
    assert left.num_gaussians == 6
    assert float(left.scales.max()) == float(sizes.sort().values[5])
    assert kept(g, Appearance(hide_largest=0.1)).num_gaussians == 8  # less than one Gaussian
    assert kept(g, Appearance(min_opacity=0.9)).num_gaussians == 0


def test_token_colours_stay_with_their_token_whatever_is_hidden() -> None:
    g, look = scene(), Appearance(by_token=True)
    groups = painted(g, look, 4).rgb
    assert torch.equal(groups[0], groups[3])
    assert torch.equal(groups[4], groups[7])
    assert not torch.equal(groups[0], groups[4])
    after = painted(g, replace(look, min_opacity=0.45), 4).rgb
    assert torch.equal(after, groups[4:])
    assert torch.equal(painted(g, look, None).sh_coeffs, g.sh_coeffs)
    assert torch.equal(kept(g, look).sh_coeffs, g.sh_coeffs)  # what is saved keeps its colours


@pytest.mark.parametrize("unit", [1e-5, 1.0, 1e5])
def test_buffers_describe_the_scene_at_every_scale(unit: float) -> None:
    g = scene(unit=unit)
    arrays = splat_buffers(g)
    np.testing.assert_allclose(arrays.centers * arrays.scale, g.means.numpy(), rtol=1e-5)
    halves = arrays.covariances.astype(np.float16).astype(np.float64) * arrays.scale**2
    wanted = np.zeros((8, 3, 3))
    for index, (quat, scales) in enumerate(zip(g.quats, g.scales, strict=True)):
        w, x, y, z = (quat / quat.norm()).double().tolist()
        R = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        wanted[index] = R @ np.diag(scales.double().numpy() ** 2) @ R.T
    np.testing.assert_allclose(halves, wanted, atol=1e-3 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0.005 * unit**2


def test_hostile_sizes_stay_finite() -> None:
    g = scene()
    for size in (0.0, 1e30):
        arrays = splat_buffers(replace(g, scales=torch.full((8, 3), size)))
        assert np.isfinite(arrays.covariances.astype(np.float16)).all()
        assert np.isfinite(arrays.centers).all()
    lone = replace(g, scales=torch.cat((g.scales[:7], torch.full((1, 3), 1e20))))
    assert np.isfinite(splat_buffers(lone).covariances.astype(np.float16)).all()
    assert splat_buffers(g.select(torch.zeros(8, dtype=torch.bool))).centers.shape == (0, 3)


def test_plain_colours_are_rounded_not_cut() -> None:
    g = replace(scene(2, 0), sh_coeffs=dc_from_rgb(torch.tensor([[[0.5, 0.999, 1.5]]] * 2)))
    assert splat_buffers(g).rgbs.tolist() == [[128, 255, 255]] * 2


def test_colours_from_a_place_are_those_of_the_renderer() -> None:
    g = replace(
        scene(1),
        means=torch.tensor([[0.0, 0.0, 2.0]]),
        scales=torch.full((1, 3), 5.0),
        opacities=torch.ones(1),
    )
    for position in ([0.0, 0.0, 0.0], [1.0, -0.5, 0.3], [-2.0, 1.0, 1.0]):
        pose = Pose.from_Rt(torch.eye(3), torch.tensor(position))
        image, info = g.render(Camera.from_fov(2.5, w=31, h=31), pose, renderer="reference")
        seen = (image / info["alphas"])[0, :, 15, 15] * 255
        np.testing.assert_allclose(colors_from(g, pose.t)[0], seen, atol=1)
    assert colors_from(g, torch.tensor([0.0, 0.0, 2.0])).shape == (1, 3)  # from within
