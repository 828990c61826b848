"""The CPU rasterizer fed with everything that a scene should not be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zipsplat.render import RenderMode, RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import PLUGIN

ODD = [0.0, -0.0, 1e-38, 1e-20, 1e-6, 1e6, 1e20, 3e38, float("inf"), -float("inf"), float("nan")]


def wild_scene(random: np.random.Generator, num: int, share: float, degree: int) -> Splats:
    """Ordinary Gaussians around the camera, a share of whose numbers is replaced by odd ones."""

    def spoiled(values: np.ndarray) -> torch.Tensor:
        odd = random.choice(ODD, values.shape) * random.choice([-1, 1], values.shape)
        return torch.from_numpy(
            np.where(random.random(values.shape) < share, odd, values).astype(np.float32)
        )

    return Splats(
        means=spoiled(random.normal(size=(num, 3)) * 3),
        quats=spoiled(random.normal(size=(num, 4))),
        scales=spoiled(np.exp(random.normal(size=(num, 3)) * 2 - 2)),
        opacities=spoiled(random.random(num)),
        sh_coeffs=spoiled(random.normal(size=(num, (degree + 1) ** 2, 3))),
    )


def render_wild(seed: int, num: int, share: float, width: int, height: int) -> None:
    random = np.random.default_rng(seed)
    degree = int(random.integers(0, 4))
    splats = wild_scene(random, num, share, degree)
    leaves = [
        t.requires_grad_()
        for t in (splats.means, splats.quats, splats.scales, splats.opacities, splats.sh_coeffs)
    ]
    focal = float(np.exp(random.normal()) * max(width, height))
    K = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    viewpoints = Viewpoints(torch.eye(4)[None], K, width, height)
    mode = list(RenderMode)[int(random.integers(0, 5))]
    rendered = PLUGIN.render(splats, viewpoints, RenderSettings(mode=mode, masks=True))
    total = rendered.alpha.sum()
    assert rendered.alpha.isfinite().all()
    assert (rendered.alpha >= 0).all()
    assert (rendered.alpha <= 1).all()
    for image in (rendered.color, rendered.depth):
        if image is not None:
            assert not image.isnan().any()
            total = total + image.sum()
    gradients = torch.autograd.grad(total, leaves)
    rendered_at_all = rendered.contributed
    assert rendered_at_all is not None
    for gradient in gradients:
        assert (gradient[~rendered_at_all[0]] == 0).all()


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(
    seed=st.integers(0, 2**31),
    num=st.integers(0, 120),
    share=st.sampled_from([0.0, 0.02, 0.3]),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
)
def test_odd_numbers(seed: int, num: int, share: float, width: int, height: int) -> None:
    render_wild(seed, num, share, width, height)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 3), (3, 4000), (1, 513)])
def test_odd_shapes(width: int, height: int) -> None:
    for seed in range(3):
        render_wild(seed, 200, 0.02, width, height)


@pytest.mark.slow
def test_many_odd_scenes() -> None:
    for seed in range(600):
        random = np.random.default_rng(seed)
        width, height = (int(n) for n in random.integers(1, 150, 2))
        render_wild(
            1000 + seed,
            int(random.integers(0, 3000)),
            float(random.choice([0, 0.01, 0.2])),
            width,
            height,
        )


@pytest.mark.slow
def test_a_million_gaussians() -> None:
    render_wild(0, 1_000_000, 0.001, 320, 200)


def test_more_intersections_than_can_be_listed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zipsplat.render.cpu.view._MAX_INTERSECTIONS", 10)
    random = np.random.default_rng(0)
    K = torch.tensor([[[100.0, 0, 100], [0, 100, 100], [0, 0, 1]]])
    viewpoints = Viewpoints(torch.eye(4)[None], K, 200, 200)
    with pytest.raises(MemoryError, match="render a smaller image or smaller Gaussians"):
        PLUGIN.render(wild_scene(random, 100, 0.0, 0), viewpoints, RenderSettings())
