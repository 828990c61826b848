"""The CPU rasterizer against the reference renderer, and its manners."""

from __future__ import annotations

import logging
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from zipsplat.render import Rendered, Renderer, RenderMode, RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import PLUGIN, get_num_threads, set_num_threads, warm_up
from zipsplat.render.reference import PLUGIN as REFERENCE

NAMES = ("means", "quats", "scales", "opacities", "sh_coeffs", "world_from_camera", "backgrounds")


@pytest.fixture(autouse=True)
def _default_threads() -> None:
    yield
    set_num_threads(None)


def random_scene(
    num: int, width: int, height: int, views: int = 1, seed: int = 0, degree: int = 3
) -> tuple[Splats, Viewpoints]:
    """Gaussians of 2 to 8 pixels all over the image and a little beyond."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    focal = 0.9 * width
    depth = 2 + 8 * uniform(num)
    x = (uniform(num) - 0.5) * 1.2 * width / focal * depth
    y = (uniform(num) - 0.5) * 1.2 * height / focal * depth
    splats = Splats(
        means=torch.stack((x, y, depth), dim=1),
        quats=3 * normal(num, 4),
        scales=2 * 4 ** uniform(num, 3) * (depth / focal)[:, None],
        opacities=0.1 + 0.9 * uniform(num),
        sh_coeffs=0.3 * normal(num, (degree + 1) ** 2, 3),
    )
    turn = 0.05 * normal(views, 3, 3)
    pose = torch.eye(4).repeat(views, 1, 1)
    pose[:, :3, :3] = torch.matrix_exp(turn - turn.mT)
    pose[:, :3, 3] = 0.2 * normal(views, 3)
    K = torch.tensor([[focal, 0, width / 2 + 0.3], [0, 1.1 * focal, height / 2 - 0.7], [0, 0, 1]])
    K = K.repeat(views, 1, 1)
    return splats, Viewpoints(pose, K, width, height, uniform(views, 3))


def cast(
    splats: Splats, viewpoints: Viewpoints, dtype: torch.dtype
) -> tuple[Splats, Viewpoints, list[Tensor]]:
    """Copies of a dtype that require gradients, and the list of them in the order of NAMES."""
    leaves = [getattr(splats, f.name).to(dtype).requires_grad_() for f in fields(Splats)]
    pose = viewpoints.world_from_camera.to(dtype).requires_grad_()
    assert viewpoints.backgrounds is not None
    behind = viewpoints.backgrounds.to(dtype).requires_grad_()
    views = replace(
        viewpoints, world_from_camera=pose, K=viewpoints.K.to(dtype), backgrounds=behind
    )
    return Splats(*leaves), views, [*leaves, pose, behind]


def images(rendered: Rendered) -> list[Tensor]:
    return [p for p in (rendered.alpha, rendered.color, rendered.depth) if p is not None]


def loss_of(rendered: Rendered, alpha_weight: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    total = torch.zeros((), dtype=rendered.alpha.dtype)
    for number, image in enumerate(images(rendered)):
        weights = torch.randn(image.shape, generator=generator).to(image)
        total = total + (alpha_weight if number == 0 else 1.0) * (image * weights).sum()
    return total


def check_gradients(
    splats: Splats, viewpoints: Viewpoints, settings: RenderSettings, alpha_weight: float = 1.0
) -> None:
    """Compare with float64 autograd through the reference; relative L2 at most 2e-5."""
    splats32, views32, leaves32 = cast(splats, viewpoints, torch.float32)
    splats64, views64, leaves64 = cast(splats, viewpoints, torch.float64)
    rendered = PLUGIN.render(splats32, views32, settings)
    wanted = REFERENCE.render(splats64, views64, settings)
    for ours, theirs in zip(images(rendered), images(wanted), strict=True):
        assert (ours - theirs).abs().max() < 2e-5 * max(1.0, theirs.abs().max().item())
    ours32 = torch.autograd.grad(loss_of(rendered, alpha_weight), leaves32, allow_unused=True)
    theirs64 = torch.autograd.grad(loss_of(wanted, alpha_weight), leaves64, allow_unused=True)
    for name, our, their in zip(NAMES, ours32, theirs64, strict=True):
        if their is None or their.norm() == 0:
            assert our is None or our.norm() == 0, name
            continue
        assert our is not None, name
        error = ((our - their).norm() / their.norm()).item()
        assert error <= 2e-5, f"gradient by {name}: relative error {error:.1e}"


@pytest.mark.parametrize("mode", list(RenderMode))
def test_gradients_of_every_mode(mode: RenderMode) -> None:
    splats, viewpoints = random_scene(500, 40, 33, views=2)
    check_gradients(splats, viewpoints, RenderSettings(mode=mode))


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_gradients_of_lower_degrees(degree: int) -> None:
    """Both as stored, and as the leading part of more harmonics."""
    splats, viewpoints = random_scene(120, 24, 20, seed=1, degree=degree)
    check_gradients(splats, viewpoints, RenderSettings())
    splats, viewpoints = random_scene(120, 24, 20, seed=1, degree=3)
    check_gradients(splats, viewpoints, RenderSettings(sh_degree=degree))


@pytest.mark.parametrize("size", [0.05, 0.3, 1.0])
def test_gradients_of_antialiased_gaussians(size: float) -> None:
    """From a tenth of a pixel, where the blur is nearly all that there is, to several pixels."""
    splats, viewpoints = random_scene(400, 40, 33, views=2, seed=5)
    splats = replace(splats, scales=size * splats.scales)
    check_gradients(splats, viewpoints, RenderSettings(mode=RenderMode.RGB_D, antialiased=True))


def test_antialiased_images_have_the_light_of_much_finer_ones() -> None:
    """Few Gaussians: the mean of the image does not depend on the size of its pixels."""
    splats, fine = random_scene(30, 256, 256, seed=6)
    splats = replace(splats, scales=0.5 * splats.scales)
    K = fine.K.clone()
    K[:, :2] /= 4
    coarse = replace(fine, K=K, width=64, height=64)

    def light(viewpoints: Viewpoints, antialiased: bool) -> float:
        rendered = PLUGIN.render(splats, viewpoints, RenderSettings(antialiased=antialiased))
        return rendered.alpha.mean().item()

    wanted = light(fine, False)
    assert light(coarse, True) == pytest.approx(wanted, rel=0.25)
    assert light(coarse, False) > 1.5 * wanted


def test_gradients_of_opacity_alone() -> None:
    """The alpha image of an opaque scene: the last transmittance is tiny, but counts."""
    splats, viewpoints = random_scene(600, 32, 32, seed=2)
    splats32, views32, leaves32 = cast(splats, viewpoints, torch.float32)
    splats64, views64, leaves64 = cast(splats, viewpoints, torch.float64)
    settings = RenderSettings(mode=RenderMode.D)
    ours = PLUGIN.render(splats32, views32, settings).alpha
    theirs = REFERENCE.render(splats64, views64, settings).alpha
    assert theirs.mean() > 0.99
    by_ours = torch.autograd.grad(ours.sum(), leaves32[3])[0]
    by_theirs = torch.autograd.grad(theirs.sum(), leaves64[3])[0]
    assert ((by_ours - by_theirs).norm() / by_theirs.norm()).item() <= 2e-5


def test_gradients_at_the_clamp() -> None:
    """Opaque Gaussians on pixel centres reach the clamp; there the opacity has no gradient."""
    splats, viewpoints = random_scene(60, 24, 20, seed=3)
    splats = replace(splats, opacities=torch.ones(60), scales=3 * splats.scales)
    check_gradients(splats, viewpoints, RenderSettings(alpha_clamp=0.99))
    check_gradients(splats, viewpoints, RenderSettings(alpha_clamp=0.7))


def test_gradients_beside_the_image() -> None:
    """Large Gaussians whose centres lie beyond 1.3 times the frustum, where slopes are held."""
    splats, viewpoints = random_scene(200, 32, 24, seed=4)
    means = splats.means.clone()
    means[:, :2] *= 2.0
    splats = replace(splats, means=means, scales=5 * splats.scales)
    check_gradients(splats, viewpoints, RenderSettings(mode=RenderMode.RGB_D))


def test_settings_reach_the_kernels() -> None:
    splats, viewpoints = random_scene(300, 32, 24, seed=5)
    settings = RenderSettings(
        mode=RenderMode.RGB_D,
        near_plane=4.0,
        far_plane=8.0,
        eps2d=1.5,
        radius_clip=5.0,
        alpha_clamp=0.5,
    )
    check_gradients(splats, viewpoints, settings)


def test_no_background_is_black() -> None:
    splats, viewpoints = random_scene(5, 24, 20)
    black = replace(viewpoints, backgrounds=torch.zeros(1, 3))
    none = replace(viewpoints, backgrounds=None)
    a = PLUGIN.render(splats, black, RenderSettings()).color
    b = PLUGIN.render(splats, none, RenderSettings()).color
    assert a is not None
    assert torch.equal(a, b)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (16, 16), (17, 15), (3, 200), (301, 5)])
def test_sizes(width: int, height: int) -> None:
    splats, viewpoints = random_scene(50, width, height, seed=6)
    splats = replace(splats, scales=splats.scales * 3)
    rendered = PLUGIN.render(splats, viewpoints, RenderSettings(mode=RenderMode.RGB_D))
    wanted = REFERENCE.render(splats, viewpoints, RenderSettings(mode=RenderMode.RGB_D))
    for ours, theirs in zip(images(rendered), images(wanted), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("num", [1, 15, 16, 17, 31, 32, 33, 48, 4097])
def test_numbers_of_gaussians(num: int) -> None:
    """Around the groups of 16 and the chunks of 4096."""
    splats, viewpoints = random_scene(num, 24, 20, seed=8, degree=1)
    means = torch.cat((splats.means[:, :2] * 0.5, splats.means[:, 2:]), dim=1)
    splats = replace(splats, means=means, opacities=splats.opacities * min(1.0, 30 / num) + 0.02)
    check_gradients(splats, viewpoints, RenderSettings())


def test_no_gaussians() -> None:
    splats, viewpoints, leaves = cast(*random_scene(0, 24, 20, views=2), torch.float32)
    rendered = PLUGIN.render(splats, viewpoints, RenderSettings(mode=RenderMode.RGB_ED, masks=True))
    assert (rendered.alpha == 0).all()
    assert rendered.color is not None
    assert viewpoints.backgrounds is not None
    assert torch.equal(rendered.color, viewpoints.backgrounds[..., None, None].expand(2, 3, 20, 24))
    assert rendered.contributed is not None
    assert rendered.contributed.shape == (2, 0)
    gradients = torch.autograd.grad(loss_of(rendered), leaves)
    assert [g.shape for g in gradients] == [leaf.shape for leaf in leaves]


@pytest.mark.parametrize("mode", [RenderMode.RGB, RenderMode.D, RenderMode.RGB_D])
def test_masks(mode: RenderMode) -> None:
    splats, viewpoints = random_scene(1500, 40, 33, views=3, seed=9, degree=0)
    settings = RenderSettings(mode=mode, masks=True)
    rendered = PLUGIN.render(splats, viewpoints, settings)
    wanted = REFERENCE.render(*cast(splats, viewpoints, torch.float64)[:2], settings)
    assert rendered.contributed is not None
    assert rendered.centred is not None
    assert rendered.contributed.dtype == torch.bool
    assert torch.equal(rendered.contributed, wanted.contributed)
    assert torch.equal(rendered.centred, wanted.centred)
    assert 0 < rendered.centred.sum() < rendered.contributed.sum() < rendered.contributed.numel()
    without = PLUGIN.render(splats, viewpoints, replace(settings, masks=False))
    assert without.contributed is None
    assert without.centred is None
    assert torch.equal(without.alpha, rendered.alpha)


@pytest.mark.parametrize("renderer", [REFERENCE, PLUGIN], ids=["reference", "cpu"])
def test_a_pixel_is_full_when_less_than_a_ten_thousandth_would_pass(renderer: Renderer) -> None:
    """Layers of opacity 1/2: 13 let 1.2e-4 pass; the 14th would let 6e-5 pass, and is dropped."""
    num = 16
    splats = Splats(
        means=torch.tensor([[0.0, 0, 1 + 0.1 * layer] for layer in range(num)]),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(num, 1),
        scales=torch.full((num, 3), 3.0),
        opacities=torch.full((num,), 0.5),
        sh_coeffs=torch.zeros(num, 1, 3),
    )
    viewpoints = Viewpoints(
        torch.eye(4)[None], torch.tensor([[[10.0, 0, 0.5], [0, 10, 0.5], [0, 0, 1]]]), 1, 1
    )
    rendered = renderer.render(splats, viewpoints, RenderSettings(masks=True))
    assert rendered.contributed is not None
    assert rendered.contributed[0].tolist() == [layer < 13 for layer in range(num)]
    assert rendered.alpha.item() == pytest.approx(1 - 0.5**13, abs=1e-6)


def test_order_of_equal_depths_is_that_of_the_input() -> None:
    splats, viewpoints = random_scene(2, 8, 8, degree=0)
    means = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 2.0]])
    colors = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
    splats = replace(
        splats,
        means=means,
        sh_coeffs=colors,
        opacities=torch.full((2,), 0.9),
        scales=torch.ones(2, 3),
    )
    viewpoints = replace(viewpoints, world_from_camera=torch.eye(4)[None], backgrounds=None)
    color = PLUGIN.render(splats, viewpoints, RenderSettings()).color
    flipped = Splats(*(getattr(splats, f.name).flip(0) for f in fields(Splats)))
    other = PLUGIN.render(flipped, viewpoints, RenderSettings()).color
    assert color is not None
    assert other is not None
    assert (color[0, 0] > color[0, 1]).all()
    assert (other[0, 0] < other[0, 1]).all()


def test_float64_is_computed_in_float32() -> None:
    splats, viewpoints = random_scene(100, 24, 20)
    splats64, views64, leaves = cast(splats, viewpoints, torch.float64)
    rendered = PLUGIN.render(splats64, views64, RenderSettings(mode=RenderMode.RGB_ED))
    single = PLUGIN.render(splats, viewpoints, RenderSettings(mode=RenderMode.RGB_ED))
    for ours, theirs in zip(images(rendered), images(single), strict=True):
        assert ours.dtype == torch.float64
        assert torch.equal(ours.float(), theirs)
    for gradient in torch.autograd.grad(loss_of(rendered), leaves):
        assert gradient.dtype == torch.float64


def test_results_may_be_used_twice_and_inputs_may_be_strided() -> None:
    splats, viewpoints = random_scene(64, 24, 20)
    table = torch.cat((splats.means, splats.quats, splats.scales), dim=1).requires_grad_()
    strided = replace(
        splats, means=table[:, :3], quats=table[:, 3:7], scales=table[:, 7:].flip(0).flip(0)
    )
    rendered = PLUGIN.render(strided, viewpoints, RenderSettings())
    loss = loss_of(rendered)
    first = torch.autograd.grad(loss, table, retain_graph=True)[0]
    second = torch.autograd.grad(loss, table)[0]
    assert torch.equal(first, second)
    plain = PLUGIN.render(splats, viewpoints, RenderSettings())
    assert torch.equal(plain.alpha, rendered.alpha)


def test_changing_an_input_before_backward_is_noticed() -> None:
    splats, viewpoints = random_scene(64, 24, 20)
    means = splats.means.clone().requires_grad_()
    moved = means * 1.0
    rendered = PLUGIN.render(replace(splats, means=moved), viewpoints, RenderSettings())
    with torch.no_grad():
        moved += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rendered.alpha.sum().backward()


BROKEN = {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf")}


@pytest.mark.parametrize("name", NAMES[:5])
@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN.keys())
def test_broken_gaussians_are_left_out(name: str, value: float) -> None:
    """The others render as if the broken ones were missing; those get zero gradient."""
    splats, viewpoints = random_scene(50, 24, 20, seed=10, degree=1)
    broken = torch.zeros(50, dtype=torch.bool)
    broken[[0, 17, 49]] = True
    damaged = getattr(splats, name).clone()
    damaged[broken] = torch.where(
        torch.rand(damaged[broken].shape, generator=torch.Generator().manual_seed(0)) < 0.5,
        torch.tensor(value),
        damaged[broken],
    )
    damaged.view(50, -1)[broken, 0] = value
    mixed, views, leaves = cast(replace(splats, **{name: damaged}), viewpoints, torch.float32)
    whole = Splats(*(getattr(splats, f.name)[~broken] for f in fields(Splats)))
    whole, views_whole, leaves_whole = cast(whole, viewpoints, torch.float32)
    settings = RenderSettings(mode=RenderMode.RGB_D)
    rendered, wanted = (
        PLUGIN.render(mixed, views, settings),
        PLUGIN.render(whole, views_whole, settings),
    )
    assert torch.equal(rendered.alpha, wanted.alpha)
    assert torch.equal(rendered.color, wanted.color)
    ours = torch.autograd.grad(loss_of(rendered), leaves)
    theirs = torch.autograd.grad(loss_of(wanted), leaves_whole)
    for our, their in zip(ours[:5], theirs[:5], strict=True):
        assert (our[broken] == 0).all()
        torch.testing.assert_close(our[~broken], their, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[5:], theirs[5:], rtol=1e-4, atol=1e-5)


def test_zero_quaternions_are_left_out() -> None:
    splats, viewpoints = random_scene(20, 24, 20)
    quats = splats.quats.clone()
    quats[3] = 0
    rendered = PLUGIN.render(replace(splats, quats=quats), viewpoints, RenderSettings(masks=True))
    assert rendered.contributed is not None
    assert not rendered.contributed[:, 3].any()
    assert rendered.alpha.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": torch.zeros(5, 2)}, r"means must have shape \(5, 3\), got \(5, 2\)"),
        ({"quats": torch.zeros(4, 4)}, r"quats must have shape \(5, 4\)"),
        ({"opacities": torch.zeros(5, 1)}, r"opacities must have shape \(5,\)"),
        ({"sh_coeffs": torch.zeros(5, 5, 3)}, "1, 4, 9 or 16 harmonics, got 5"),
        ({"sh_coeffs": torch.zeros(5, 3)}, "sh_coeffs must have shape"),
    ],
)
def test_wrong_shapes(changes: dict[str, Tensor], message: str) -> None:
    splats, viewpoints = random_scene(5, 8, 8, degree=0)
    with pytest.raises(ValueError, match=message):
        PLUGIN.render(replace(splats, **changes), viewpoints, RenderSettings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": torch.full((1, 3, 3), float("nan"))}, "K has entries that are not finite"),
        ({"K": -torch.eye(3)[None]}, "focal lengths in K must be positive"),
        ({"world_from_camera": torch.eye(4)}, "world_from_camera must have shape"),
        ({"world_from_camera": torch.full((1, 4, 4), float("inf"))}, "not finite"),
        ({"backgrounds": torch.zeros(2, 3)}, r"backgrounds must have shape \(1, 3\)"),
        ({"width": 0}, "an image needs pixels, got 0 x 8"),
    ],
)
def test_wrong_viewpoints(changes: dict[str, object], message: str) -> None:
    splats, viewpoints = random_scene(5, 8, 8, degree=0)
    with pytest.raises(ValueError, match=message):
        PLUGIN.render(splats, replace(viewpoints, **changes), RenderSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RenderSettings(sh_degree=1), "sh_degree must be in 0..0 for this scene, got 1"),
        (RenderSettings(near_plane=0.0), "near_plane must be positive"),
        (RenderSettings(eps2d=0.0), "eps2d must be positive"),
        (RenderSettings(alpha_clamp=1.0), "alpha_clamp must be between 0 and 1"),
    ],
)
def test_wrong_settings(settings: RenderSettings, message: str) -> None:
    splats, viewpoints = random_scene(5, 8, 8, degree=0)
    with pytest.raises(ValueError, match=message):
        PLUGIN.render(splats, viewpoints, settings)


def test_unavailable_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PLUGIN.unavailable(torch.device("cpu")) is None
    assert "cuda" in str(PLUGIN.unavailable(torch.device("cuda")))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "pip install numba" in str(PLUGIN.unavailable(torch.device("cpu")))


def test_intrinsics_get_no_gradient_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    splats, viewpoints = random_scene(5, 8, 8)
    K = viewpoints.K.clone().requires_grad_()
    with caplog.at_level(logging.WARNING):
        PLUGIN.render(splats, replace(viewpoints, K=K), RenderSettings())
    assert "no gradient to the intrinsics" in caplog.text


@pytest.mark.parametrize("num_threads", [2, 3, 5])
def test_threads_change_nothing(num_threads: int) -> None:
    """Not one bit of images, masks and gradients, over several chunks and many tiles."""
    splats, viewpoints = random_scene(9000, 100, 90, views=2, seed=11, degree=1)
    settings = RenderSettings(mode=RenderMode.RGB_D, masks=True)

    def everything(threads: int) -> list[Tensor]:
        set_num_threads(threads)
        assert get_num_threads() == threads
        ours, views, leaves = cast(splats, viewpoints, torch.float32)
        rendered = PLUGIN.render(ours, views, settings)
        assert rendered.contributed is not None
        assert rendered.centred is not None
        gradients = torch.autograd.grad(loss_of(rendered), leaves)
        return [*images(rendered), rendered.contributed, rendered.centred, *gradients]

    for one, many in zip(everything(1), everything(num_threads), strict=True):
        assert torch.equal(one, many)


def test_warm_up_reports_progress() -> None:
    seen: list[float] = []
    warm_up(seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
