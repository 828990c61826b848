"""The CPU renderer: checks, the call of the rasterizer, and the composition of its images."""

from __future__ import annotations

import importlib.util
import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zipsplat.render import Rendered, RenderMode, RenderSettings, Splats, Viewpoints
from zipsplat.render._projection import finite_colors
from zipsplat.render._rules import EXPECTED_DEPTH_ALPHA_MIN
from zipsplat.render.cpu.num_threads import get_num_threads

if TYPE_CHECKING:
    from zipsplat.render.cpu.view import Plan

logger = logging.getLogger(__name__)


class CpuRenderer:
    """Tiled rasterization with SIMD kernels."""

    name = "cpu"

    def unavailable(self, device: torch.device) -> str | None:
        """It needs numba, and scenes in the memory of the CPU."""
        if device.type != "cpu":
            return f"it renders scenes on the CPU, this one is on {device}; move it with .cpu()"
        if importlib.util.find_spec("numba") is None:
            return "the package numba is missing; install it with `pip install numba`"
        return None

    def render(self, splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Rendered:
        """Render the scene; see `Renderer.render`.

        Raises:
            ValueError: if shapes do not fit together, or a camera is not finite.
        """
        from zipsplat.render.cpu.operation import Rasterize

        _check(splats, viewpoints, settings)
        dtype = splats.means.dtype
        pose = viewpoints.world_from_camera.float()
        quats = splats.quats if dtype == torch.float32 else _within_float32(splats.quats)
        opacities = splats.opacities
        if not settings.mode.has_color:  # with colour, the kernels check this themselves
            opacities = _of_finite_colors(opacities, splats.sh_coeffs, settings.sh_degree)
        tensors = (splats.means, quats, splats.scales, opacities, splats.sh_coeffs)
        inputs = [*(t.float() for t in tensors), pose[:, :3, :3].mT, pose[:, :3, 3]]
        if not torch.is_grad_enabled():  # `needs_input_grad` is true for parameters even then
            inputs = [t.detach() for t in inputs]
        rasterize: Any = Rasterize.apply
        features, transmittance, masks = rasterize(_plan(splats, viewpoints, settings), *inputs)
        rendered = _compose(features, transmittance, viewpoints.backgrounds, settings.mode)
        alpha, color, depth = (None if t is None else t.to(dtype) for t in rendered)
        assert alpha is not None
        if not settings.masks:
            return Rendered(alpha, color, depth)
        return Rendered(alpha, color, depth, contributed=masks[0], centred=masks[1])


def _within_float32(quats: Tensor) -> Tensor:
    """Quaternions scaled by powers of two, which is exact, into the range of float32."""
    _, exponents = torch.frexp(quats.detach().abs().amax(dim=-1, keepdim=True))
    return torch.ldexp(quats, -exponents.clamp(-1000, 1000))


def _of_finite_colors(opacities: Tensor, sh_coeffs: Tensor, degree: int | None) -> Tensor:
    """Opacities, zero where a colour is NaN: a Gaussian that no image shows has no depth either."""
    if sh_coeffs.detach().sum().isfinite():
        return opacities
    return torch.where(finite_colors(sh_coeffs, degree), opacities, torch.zeros_like(opacities))


def _compose(
    features: Tensor, transmittance: Tensor, backgrounds: Tensor | None, mode: RenderMode
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Alpha, colour over its background, and depth."""
    transmittance = transmittance.unsqueeze(1)
    alpha = 1 - transmittance
    color, depth = None, None
    if mode.has_color:
        color = features[:, :3] if mode.has_depth else features  # a slice has a costly gradient
        if backgrounds is not None:
            color = torch.addcmul(color, transmittance, backgrounds.float()[:, :, None, None])
    if mode.has_depth:
        depth = features[:, -1:]
        if mode.is_expected:
            depth = depth / alpha.clamp_min(EXPECTED_DEPTH_ALPHA_MIN)
    return alpha, color, depth


def _plan(splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Plan:
    from zipsplat.render.cpu.layout import Culling, ImageSize, RasterSettings, Shading
    from zipsplat.render.cpu.view import Plan

    num_coeffs = splats.sh_coeffs.shape[1]
    degree = settings.sh_degree
    if degree is None:
        degree = int(num_coeffs**0.5) - 1
    planes = float(settings.near_plane), float(settings.far_plane)
    return Plan(
        K=viewpoints.K.detach().float().numpy(),
        settings=RasterSettings(
            size=ImageSize(viewpoints.width, viewpoints.height),
            culling=Culling(*planes, float(settings.radius_clip)),
            shading=Shading(degree if settings.mode.has_color else -1, num_coeffs),
            eps2d=float(settings.eps2d),
            antialiased=settings.antialiased,
        ),
        num_features=3 * settings.mode.has_color + settings.mode.has_depth,
        alpha_clamp=settings.alpha_clamp,
        with_masks=settings.masks,
        num_threads=get_num_threads(),
    )


def _check(splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> None:
    num = len(splats.means)
    shapes = {
        "means": (num, 3),
        "quats": (num, 4),
        "scales": (num, 3),
        "opacities": (num,),
        "sh_coeffs": (num, splats.sh_coeffs.shape[1] if splats.sh_coeffs.ndim > 1 else -1, 3),
    }
    for name, shape in shapes.items():
        _check_shape(name, getattr(splats, name), shape)
    num_views = len(viewpoints.K)
    _check_shape("world_from_camera", viewpoints.world_from_camera, (num_views, 4, 4))
    _check_shape("K", viewpoints.K, (num_views, 3, 3))
    if viewpoints.backgrounds is not None:
        _check_shape("backgrounds", viewpoints.backgrounds, (num_views, 3))
    if viewpoints.width < 1 or viewpoints.height < 1:
        raise ValueError(f"an image needs pixels, got {viewpoints.width} x {viewpoints.height}")
    _check_cameras(viewpoints)
    _check_settings(splats.sh_coeffs.shape[1], settings)


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")


def _check_cameras(viewpoints: Viewpoints) -> None:
    for name in ("world_from_camera", "K"):
        if not np.isfinite(getattr(viewpoints, name).detach().numpy()).all():
            raise ValueError(f"{name} has entries that are not finite")
    if (viewpoints.K.detach().numpy()[:, (0, 1), (0, 1)] <= 0).any():
        raise ValueError("the focal lengths in K must be positive")
    if viewpoints.K.requires_grad and torch.is_grad_enabled():
        logger.warning("the CPU renderer gives no gradient to the intrinsics K")


def _check_settings(num_coeffs: int, settings: RenderSettings) -> None:
    if num_coeffs not in (1, 4, 9, 16):
        raise ValueError(f"sh_coeffs must hold 1, 4, 9 or 16 harmonics, got {num_coeffs}")
    degree = settings.sh_degree
    if degree is not None and not (degree >= 0 and (degree + 1) ** 2 <= num_coeffs):
        raise ValueError(
            f"sh_degree must be in 0..{int(num_coeffs**0.5) - 1} for this scene, got {degree}"
        )
    if not settings.near_plane > 0:
        raise ValueError(f"near_plane must be positive, got {settings.near_plane}")
    if not settings.eps2d > 0:
        raise ValueError(f"eps2d must be positive, got {settings.eps2d}")
    if not 0 < settings.alpha_clamp < 1:
        raise ValueError(f"alpha_clamp must be between 0 and 1, got {settings.alpha_clamp}")


def warm_up(progress: Callable[[float], object] | None = None) -> None:
    """Compile all kernels, or load them from the cache, so that the first image is quick.

    Args:
        progress: called with the fraction done, up to 1.
    """
    from zipsplat.render.cpu.comparison import compare_images, truth_of
    from zipsplat.render.cpu.l1_ssim import Weights

    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(16, 11 + 48, generator=generator)
    parts = numbers.split((3, 4, 3, 1, 48), dim=1)
    viewpoints = Viewpoints(torch.eye(4)[None], torch.eye(3)[None] * 16, 16, 16)
    modes = (RenderMode.RGB, RenderMode.RGB_D, RenderMode.D)
    for number, (mode, masks) in enumerate(itertools.product(modes, (False, True))):
        means, quats, scales, opacities, sh_coeffs = (p.clone().requires_grad_() for p in parts)
        splats = Splats(means, quats, scales, opacities[:, 0], sh_coeffs.unflatten(1, (16, 3)))
        rendered = PLUGIN.render(splats, viewpoints, RenderSettings(mode=mode, masks=masks))
        rendered.alpha.sum().backward()
        if progress is not None:
            progress((number + 1) / (2 * len(modes) + 1))
    image = numbers.new_zeros(3, 16, 16).numpy()
    compare_images(truth_of(image, 1), image.reshape(-1), Weights(1.0, 1.0), 1)
    if progress is not None:
        progress(1.0)


PLUGIN = CpuRenderer()
