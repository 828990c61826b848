"""The gsplat adapter: its reasons, its calls with a stand-in for gsplat, and the real thing."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from zipsplat.render import Rendered, RenderMode, RenderSettings, Splats, Viewpoints, choose
from zipsplat.render import cuda as adapter
from zipsplat.render._projection import pixel_centres, project
from zipsplat.render.cuda import PLUGIN
from zipsplat.render.reference import PLUGIN as REFERENCE


@pytest.fixture(autouse=True)
def _fresh_reasons() -> Iterator[None]:
    adapter._missing.cache_clear()
    yield
    adapter._missing.cache_clear()


def scene(num: int = 60, views: int = 2) -> tuple[Splats, Viewpoints]:
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(num, 3, generator=generator) * 4 - 2
    means[:, 2] += 5
    splats = Splats(
        means=means,
        quats=torch.randn(num, 4, generator=generator),
        scales=0.05 + 0.3 * torch.rand(num, 3, generator=generator),
        opacities=torch.rand(num, generator=generator),
        sh_coeffs=0.4 * torch.randn(num, 4, 3, generator=generator),
    )
    pose = torch.eye(4).repeat(views, 1, 1)
    pose[:, 0, 3] = torch.linspace(0, 0.5, views)
    K = torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]).repeat(views, 1, 1)
    return splats, Viewpoints(pose, K, 32, 24, torch.rand(views, 3, generator=generator))


def test_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "move it with .cuda()" in str(PLUGIN.unavailable(torch.device("cpu")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert PLUGIN.unavailable(torch.device("cuda")) == "PyTorch sees no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    reason = PLUGIN.unavailable(torch.device("cuda"))
    assert reason == "the package gsplat is missing; `pip install 'zipsplat[cuda]'` brings it"
    with pytest.raises(RuntimeError, match="renderer 'cuda' cannot be used"):
        choose("cuda", torch.device("cpu"))


def test_reasons_of_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: object())
    backend = types.SimpleNamespace(_C=None)
    monkeypatch.setattr(adapter.importlib, "import_module", lambda _name: backend)
    monkeypatch.setattr(adapter.shutil, "which", lambda _name: None)
    assert "finds no nvcc" in str(PLUGIN.unavailable(torch.device("cuda")))
    adapter._missing.cache_clear()
    monkeypatch.setattr(adapter.shutil, "which", lambda _name: "/usr/bin/nvcc")
    assert "no compiled kernels" in str(PLUGIN.unavailable(torch.device("cuda")))
    adapter._missing.cache_clear()
    backend._C = object()
    assert PLUGIN.unavailable(torch.device("cuda")) is None

    def broken(_name: str) -> Any:
        raise OSError("ninja failed")

    adapter._missing.cache_clear()
    monkeypatch.setattr(adapter.importlib, "import_module", broken)
    assert "could not compile its kernels: ninja failed" in str(
        PLUGIN.unavailable(torch.device("cuda"))
    )


class FakeGsplat(types.ModuleType):
    """What the adapter uses of gsplat's interface, rendered by the reference renderer."""

    def __init__(self) -> None:
        super().__init__("gsplat")

    def rasterization(
        self,
        *,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        near_plane: float,
        far_plane: float,
        radius_clip: float,
        eps2d: float,
        sh_degree: int,
        packed: bool,
        tile_size: int,
        backgrounds: Tensor | None,
        render_mode: str,
        rasterize_mode: str,
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        assert not packed
        assert rasterize_mode in ("classic", "antialiased")
        splats = Splats(means, quats, scales, opacities, colors)
        viewpoints = Viewpoints(torch.linalg.inv(viewmats), Ks, width, height, backgrounds)
        settings = RenderSettings(
            RenderMode(render_mode),
            sh_degree,
            near_plane,
            far_plane,
            eps2d,
            radius_clip,
            antialiased=rasterize_mode == "antialiased",
        )
        rendered = REFERENCE.render(splats, viewpoints, settings)
        projected = project(splats, viewpoints, settings)
        self.weights = self._weights(projected, projected.opacities, width, height)
        images = [p for p in (rendered.color, rendered.depth) if p is not None]
        meta = {
            "means2d": projected.means,
            "conics": projected.conics,
            "opacities": projected.opacities,
            "width": width,
            "height": height,
            "tile_size": tile_size,
            "isect_offsets": None,
            "flatten_ids": None,
        }
        return torch.cat(images, dim=1).movedim(1, -1), rendered.alpha.movedim(1, -1), meta

    def _weights(self, projected: Any, opacities: Tensor, width: int, height: int) -> Tensor:
        """(V, N, H·W) blending weights, one Gaussian after the other."""
        pixels = pixel_centres(height, width, opacities)
        weights = torch.zeros(*projected.depths.shape, len(pixels))
        for view in range(len(weights)):
            through = torch.ones(len(pixels))
            for i in projected.depths[view].argsort(stable=True).tolist():
                if not projected.visible[view, i]:
                    continue
                dx, dy = (projected.means[view, i] - pixels).unbind(-1)
                a, b, c = projected.conics[view, i]
                alpha = opacities[view, i] * torch.exp(-0.5 * (a * dx**2 + c * dy**2) - b * dx * dy)
                alpha = alpha.clamp_max(0.999) * (alpha >= 1 / 255)
                after = through * (1 - alpha)
                weights[view, i] = torch.where(after > 1e-4, alpha * through.abs(), 0.0)
                through = torch.where(after > 1e-4, after, -through.abs())
        return weights.detach()

    def rasterize_to_pixels(self, *, colors: Tensor, **_rest: Any) -> tuple[Tensor, None]:
        return torch.einsum("vnp,vnc->vpc", self.weights, colors), None

    def rasterize_to_indices_in_range(
        self, *, range_start: int, range_end: int, transmittances: Tensor, **_rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert range_start == 0
        assert range_end > 1_000_000
        assert (transmittances == 1).all()
        views, ids, pixels = (self.weights > 0).nonzero(as_tuple=True)
        return ids, pixels, views


@pytest.fixture
def gsplat(monkeypatch: pytest.MonkeyPatch) -> FakeGsplat:
    fake = FakeGsplat()
    monkeypatch.setitem(sys.modules, "gsplat", fake)
    return fake


def images(rendered: Rendered) -> list[Tensor]:
    return [p for p in (rendered.alpha, rendered.color, rendered.depth) if p is not None]


@pytest.mark.usefixtures("gsplat")
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("mode", list(RenderMode))
def test_images_and_masks(mode: RenderMode, antialiased: bool) -> None:
    splats, viewpoints = scene()
    settings = RenderSettings(
        mode=mode, masks=True, near_plane=4.0, eps2d=0.5, antialiased=antialiased
    )
    rendered = PLUGIN.render(splats, viewpoints, settings)
    wanted = REFERENCE.render(splats, viewpoints, settings)
    assert [p is None for p in (rendered.color, rendered.depth)] == [
        p is None for p in (wanted.color, wanted.depth)
    ]
    for ours, theirs in zip(images(rendered), images(wanted), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert torch.equal(rendered.contributed, wanted.contributed)
    assert torch.equal(rendered.centred, wanted.centred)
    assert wanted.centred is not None
    assert 0 < wanted.centred.sum() < wanted.centred.numel()


@pytest.mark.usefixtures("gsplat")
def test_masks_work_while_gradients_are_off_and_do_not_leak() -> None:
    splats, viewpoints = scene()
    means = splats.means.requires_grad_()
    with torch.no_grad():
        rendered = PLUGIN.render(splats, viewpoints, RenderSettings(masks=True))
    assert rendered.contributed is not None
    rendered = PLUGIN.render(splats, viewpoints, RenderSettings(masks=True))
    rendered.alpha.sum().backward()
    assert means.grad is not None
    assert means.grad.abs().sum() > 0


def test_keywords_are_those_of_gsplat() -> None:
    """The names that we call with exist in the installed gsplat, where there is one."""
    gsplat = pytest.importorskip("gsplat", reason="gsplat is not installed")
    for name in ("rasterization", "rasterize_to_pixels", "rasterize_to_indices_in_range"):
        ours = inspect.signature(getattr(FakeGsplat, name)).parameters
        theirs = inspect.signature(getattr(gsplat, name)).parameters
        named = {n for n, p in ours.items() if p.kind is p.KEYWORD_ONLY}
        assert named <= set(theirs)


@pytest.mark.cuda
@pytest.mark.parametrize("mode", list(RenderMode))
def test_on_a_gpu(mode: RenderMode) -> None:
    reason = PLUGIN.unavailable(torch.device("cuda"))
    if reason is not None:
        pytest.skip(reason)
    splats, viewpoints = scene()
    on_gpu = Splats(*(getattr(splats, n).cuda() for n in Splats.__dataclass_fields__))
    views = Viewpoints(
        viewpoints.world_from_camera.cuda(),
        viewpoints.K.cuda(),
        32,
        24,
        viewpoints.backgrounds.cuda(),
    )
    settings = RenderSettings(mode=mode, masks=True)
    rendered = PLUGIN.render(on_gpu, views, settings)
    wanted = REFERENCE.render(splats, viewpoints, settings)
    for ours, theirs in zip(images(rendered), images(wanted), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-3, atol=1e-4)
    assert torch.equal(rendered.contributed.cpu(), wanted.contributed)
    assert torch.equal(rendered.centred.cpu(), wanted.centred)
