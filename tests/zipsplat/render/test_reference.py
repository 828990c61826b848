"""The reference renderer against sums done by hand, and its gradients."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from zipsplat.render import RenderMode, RenderSettings, Splats, Viewpoints, choose
from zipsplat.render.reference import PLUGIN


def splats(means: list[list[float]], opacities: list[float], scale: float = 0.1) -> Splats:
    num = len(means)
    sh_coeffs = torch.zeros(num, 1, 3, dtype=torch.float64)
    sh_coeffs[:, 0] = torch.eye(3, dtype=torch.float64)[:num] / 0.28209479177387814
    quats = torch.zeros(num, 4, dtype=torch.float64)
    quats[:, 0] = 2.0
    return Splats(
        means=torch.tensor(means, dtype=torch.float64),
        quats=quats,
        scales=torch.full((num, 3), scale, dtype=torch.float64),
        opacities=torch.tensor(opacities, dtype=torch.float64),
        sh_coeffs=sh_coeffs,
    )


def viewpoints(width: int = 5, height: int = 5, focal: float = 10.0) -> Viewpoints:
    K = torch.tensor(
        [[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64
    )
    return Viewpoints(torch.eye(4, dtype=torch.float64)[None], K[None], width, height)


def test_antialiased_opacity_by_hand() -> None:
    """Variances 0.25 and 0.3 more by the blur: 0.25 / 0.55 in both directions."""
    scene = splats([[0, 0, 2]], [0.8])
    rendered = PLUGIN.render(scene, viewpoints(), RenderSettings(antialiased=True))
    assert rendered.alpha[0, 0, 2, 2].item() == pytest.approx(0.8 * 0.25 / 0.55)
    flat = replace(scene, scales=scene.scales * torch.tensor([1.0, 0, 1]))  # seen as a line
    assert PLUGIN.render(flat, viewpoints(), RenderSettings(antialiased=True)).alpha.sum() == 0


def test_two_gaussians_by_hand() -> None:
    """A red one at z = 2 in front of a green one at z = 4, both centred on the middle pixel."""
    scene = splats([[0, 0, 4], [0, 0, 2]], [0.5, 0.8])
    scene = replace(scene, sh_coeffs=scene.sh_coeffs.flip(0))  # the nearer one, second, is red
    rendered = PLUGIN.render(scene, viewpoints(), RenderSettings(mode=RenderMode.RGB_D))
    near, far = 0.8, 0.2 * 0.5
    red = near * 1.5 + far * 0.5
    green = near * 0.5 + far * 1.5
    assert rendered.color is not None
    assert rendered.depth is not None
    assert rendered.color[0, :2, 2, 2].tolist() == pytest.approx([red, green])
    assert rendered.alpha[0, 0, 2, 2].item() == pytest.approx(0.9)
    assert rendered.depth[0, 0, 2, 2].item() == pytest.approx(near * 2 + far * 4)
    # One pixel to the right: variance (0.1·10/2)² + 0.3 of the nearer, (0.1·10/4)² + 0.3.
    near = 0.8 * math.exp(-0.5 / (0.25 + 0.3))
    far = 0.5 * math.exp(-0.5 / (0.0625 + 0.3))
    assert rendered.alpha[0, 0, 2, 3].item() == pytest.approx(near + far - near * far, rel=1e-6)


def test_masks() -> None:
    """A speck behind an opaque wall is not blended; one outside the image is not centred."""
    wall = [[0.0, 0.0, 1.0]] * 2
    scene = splats([*wall, [0.0, 0.0, 3.0]], [1.0, 1.0, 1.0], scale=3.0)
    rendered = PLUGIN.render(scene, viewpoints(), RenderSettings(masks=True))
    assert rendered.contributed is not None
    assert rendered.centred is not None
    # The first leaves 0.001, the second would leave 1e-6 <= 1e-4 and is dropped with what follows.
    assert rendered.contributed[0].tolist() == [True, False, False]
    assert rendered.centred[0].tolist() == [True, False, False]
    aside = splats([[1.0, 0.0, 3.0]], [1.0], scale=0.5)  # projects to x = 2.5 + 10/3, outside 5
    rendered = PLUGIN.render(aside, viewpoints(), RenderSettings(masks=True))
    assert rendered.contributed is not None
    assert rendered.centred is not None
    assert rendered.contributed[0].tolist() == [True]
    assert rendered.centred[0].tolist() == [False]


def test_alpha_clamp() -> None:
    scene = splats([[0, 0, 2]], [1.0])
    for clamp in (0.999, 0.99):
        rendered = PLUGIN.render(scene, viewpoints(), RenderSettings(alpha_clamp=clamp))
        assert rendered.alpha[0, 0, 2, 2].item() == pytest.approx(clamp)


def test_values_that_are_not_finite_are_left_out() -> None:
    scene = splats([[0, 0, 2], [0.1, 0, 2]], [0.5, 0.5])
    alone = PLUGIN.render(splats([[0, 0, 2]], [0.5]), viewpoints(), RenderSettings())
    for field in ("means", "scales", "quats", "opacities", "sh_coeffs"):
        broken = getattr(scene, field).clone()
        broken[1] = math.nan
        rendered = PLUGIN.render(replace(scene, **{field: broken}), viewpoints(), RenderSettings())
        assert torch.equal(rendered.color, alone.color), field


@pytest.mark.parametrize("mode", list(RenderMode))
def test_gradients(mode: RenderMode) -> None:
    generator = torch.Generator().manual_seed(5)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means = randn(4, 3) * 0.2 + torch.tensor([0.0, 0.0, 3.0])
    inputs = (
        means, randn(4, 4), (randn(4, 3) * 0.2 - 1).exp(), randn(4).sigmoid(), randn(4, 4, 3) * 0.3,
        torch.eye(4, dtype=torch.float64)[None] + 0.01 * randn(1, 4, 4), randn(1, 3),
    )  # fmt: skip

    def render(*values: torch.Tensor) -> torch.Tensor:
        means, quats, scales, opacities, sh_coeffs, world_from_camera, backgrounds = values
        views = viewpoints(6, 4)
        views = replace(views, world_from_camera=world_from_camera, backgrounds=backgrounds)
        scene = Splats(means, quats, scales, opacities, sh_coeffs)
        rendered = PLUGIN.render(scene, views, RenderSettings(mode=mode))
        parts = [p for p in (rendered.color, rendered.depth, rendered.alpha) if p is not None]
        return torch.cat(parts, dim=1)

    leaves = tuple(value.requires_grad_() for value in inputs)
    assert torch.autograd.gradcheck(render, leaves, eps=1e-7, atol=1e-4)


def test_choose() -> None:
    cpu = torch.device("cpu")
    assert choose("reference", cpu) is PLUGIN
    assert choose("auto", cpu).unavailable(cpu) is None
