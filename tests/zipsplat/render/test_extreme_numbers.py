"""Quaternions of any length, and NaN colours, are the same to all renderers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zipsplat.render import Renderer, RenderMode, RenderSettings, Splats, Viewpoints, cpu, reference
from zipsplat.rotations import matrix_from_quat, normalize_quat

RENDERERS = (cpu.PLUGIN, reference.PLUGIN)
LENGTHS = (1e-44, 1e-38, 1e-30, 1e-23, 1e-19, 1e-12, 1e-6, 1.0, 1e6, 1e12, 1e19, 1e20, 1e30, 1e38)


def scene(dtype: torch.dtype = torch.float32) -> Splats:
    generator = torch.Generator().manual_seed(3)
    num = 24
    means = torch.randn(num, 3, generator=generator) * 0.4 + torch.tensor([0.0, 0.0, 4.0])
    quats = torch.nn.functional.normalize(torch.randn(num, 4, generator=generator), dim=-1)
    scales = torch.rand(num, 3, generator=generator) * torch.tensor([0.5, 0.1, 0.02]) + 0.01
    opacities = torch.rand(num, generator=generator) * 0.8 + 0.1
    sh_coeffs = torch.randn(num, 4, 3, generator=generator) * 0.3
    return Splats(*(t.to(dtype) for t in (means, quats, scales, opacities, sh_coeffs)))


def changed(splats: Splats, **parts: Tensor) -> Splats:
    return Splats(**{**vars(splats), **parts})


def rendered(
    renderer: Renderer, splats: Splats, mode: RenderMode = RenderMode.RGB_D
) -> list[Tensor]:
    K = torch.tensor([[[60.0, 0, 24], [0, 60, 24], [0, 0, 1]]], dtype=splats.means.dtype)
    viewpoints = Viewpoints(torch.eye(4, dtype=splats.means.dtype)[None], K, 48, 48)
    found = renderer.render(splats, viewpoints, RenderSettings(mode=mode))
    return [part for part in (found.alpha, found.color, found.depth) if part is not None]


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.name)
@pytest.mark.parametrize("length", LENGTHS)
def test_quaternions_of_any_length(renderer: Renderer, length: float) -> None:
    splats = scene()
    quats = splats.quats.double() * length
    assert ((quats.float() != 0).any(dim=-1)).all()
    rounded = quats.float().double()  # very short ones keep few digits
    unit = (rounded / rounded.norm(dim=-1, keepdim=True)).float()
    for found, wanted in zip(
        rendered(renderer, changed(splats, quats=quats.float())),
        rendered(reference.PLUGIN, changed(splats, quats=unit)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.name)
@pytest.mark.parametrize("length", [1e-200, 1e-60, 1e60, 1e200])
def test_longer_ones_in_float64(renderer: Renderer, length: float) -> None:
    splats = scene(torch.float64)
    found = rendered(renderer, changed(splats, quats=splats.quats * length))
    for part, wanted in zip(found, rendered(reference.PLUGIN, splats), strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("length", [1e-30, 1e-5, 1.0, 1e5, 1e30])
def test_gradients_by_quaternions_of_any_length(length: float) -> None:
    """Those of a unit quaternion, over the length."""

    def gradient(renderer: Renderer, quats: Tensor) -> Tensor:
        quats = quats.clone().requires_grad_()
        color = rendered(renderer, changed(scene(), quats=quats))[1]
        (color * torch.linspace(0, 1, color.numel()).view_as(color)).sum().backward()
        assert quats.grad is not None
        return quats.grad.double()

    wanted = gradient(reference.PLUGIN, scene().quats)
    for renderer in RENDERERS:
        found = gradient(renderer, scene().quats * length) * length
        torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.name)
@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_quaternions_without_a_direction_are_left_out(renderer: Renderer, bad: float) -> None:
    splats = scene()
    quats = splats.quats.clone()
    quats[::3] = bad
    kept = torch.arange(len(quats)) % 3 != 0
    without = Splats(**{name: part[kept] for name, part in vars(splats).items()})
    for found, wanted in zip(
        rendered(renderer, changed(splats, quats=quats)), rendered(renderer, without), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda renderer: renderer.name)
@pytest.mark.parametrize("mode", list(RenderMode))
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_colours_that_are_nan(renderer: Renderer, mode: RenderMode, bad: float) -> None:
    splats = scene()
    sh_coeffs = splats.sh_coeffs.clone()
    sh_coeffs[::3, 2, 1] = bad
    kept = torch.arange(len(sh_coeffs)) % 3 != 0
    without = Splats(**{name: part[kept] for name, part in vars(splats).items()})
    for found, wanted in zip(
        rendered(renderer, changed(splats, sh_coeffs=sh_coeffs), mode),
        rendered(renderer, without, mode),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_ordinary_quaternions_are_scaled_as_before() -> None:
    quats = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normalize_quat(quats), torch.nn.functional.normalize(quats, dim=-1))
    assert torch.equal(normalize_quat(torch.zeros(2, 4)), torch.zeros(2, 4))
    assert torch.equal(matrix_from_quat(torch.tensor([1e-42, 0, 0, 0])), torch.eye(3))
