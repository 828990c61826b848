"""Adapter to gsplat (Ye et al., 2024) for scenes on CUDA devices; versions 1.5.3 and newer.

gsplat is an optional package: `pip install "zipsplat[cuda]"`. It compiles its kernels at first use,
which needs nvcc and a C++ compiler.

Per-Gaussian masks come from its stock outputs. A Gaussian contributed if the sum of its blending
weights is positive: that sum is the gradient of one extra channel, rendered from the projection
and tile lists at hand. It is centred if the blended pairs of Gaussian and pixel include it with the
pixel above and left of its centre. A pair takes 24 bytes; those of a scene, several hundred
megabytes.

The largest opacity at a pixel is gsplat's own (0.999; 0.99 from version 1.6), whatever
`RenderSettings.alpha_clamp` says.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import shutil
from typing import Any

import torch
from torch import Tensor

from zipsplat.render import Rendered, RenderMode, RenderSettings, Splats, Viewpoints
from zipsplat.rotations import normalize_quat

_TILE_SIZE = 16  # pixels; gsplat's default
_ALL_BATCHES = 1 << 30  # gsplat counts a tile's list in batches


class CudaRenderer:
    """gsplat's rasterization."""

    name = "cuda"

    def unavailable(self, device: torch.device) -> str | None:
        """It needs a scene on a CUDA device, gsplat, and gsplat's compiled kernels."""
        if device.type != "cuda":
            return (
                f"it renders scenes on CUDA devices, this one is on {device}; move it with .cuda()"
            )
        if not torch.cuda.is_available():
            return "PyTorch sees no CUDA device"
        return _missing()

    def render(self, splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Rendered:
        """Render the scene; see `Renderer.render`."""
        degree = settings.sh_degree
        if degree is None:
            degree = int(splats.sh_coeffs.shape[1] ** 0.5) - 1
        world_from_camera = viewpoints.world_from_camera.float()
        images, alphas, meta = _gsplat().rasterization(
            means=splats.means.float(),
            quats=normalize_quat(splats.quats.float()),
            scales=splats.scales.float(),
            opacities=splats.opacities.float(),
            colors=splats.sh_coeffs.float(),
            viewmats=torch.linalg.inv(world_from_camera),
            Ks=viewpoints.K.float(),
            width=viewpoints.width,
            height=viewpoints.height,
            near_plane=settings.near_plane,
            far_plane=settings.far_plane,
            radius_clip=settings.radius_clip,
            eps2d=settings.eps2d,
            sh_degree=degree,
            packed=False,
            tile_size=_TILE_SIZE,
            backgrounds=_backgrounds(viewpoints, settings.mode),
            render_mode=settings.mode.value,
            rasterize_mode="antialiased" if settings.antialiased else "classic",
        )
        rendered = _split(images, alphas, settings.mode, splats.means.dtype)
        if not settings.masks:
            return rendered
        with torch.no_grad():
            meta = {k: v.detach() if isinstance(v, Tensor) else v for k, v in meta.items()}
            contributed, centred = _contributed(meta), _centred(meta)
        return Rendered(rendered.alpha, rendered.color, rendered.depth, contributed, centred)


@functools.cache
def _missing() -> str | None:
    """What gsplat lacks to run, as a sentence; None if nothing."""
    for package in ("gsplat", "packaging"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is missing; `pip install 'zipsplat[cuda]'` brings it"
    try:
        backend = importlib.import_module("gsplat.cuda._backend")
    except Exception as error:  # its build can fail in many ways
        return f"gsplat could not compile its kernels: {error}"
    if getattr(backend, "_C", None) is not None:
        return None
    if shutil.which("nvcc") is None:
        return "gsplat has to compile its kernels and finds no nvcc; install the CUDA toolkit"
    return "gsplat has no compiled kernels; `python -c 'import gsplat.cuda._backend'` says why"


def _gsplat() -> Any:
    return importlib.import_module("gsplat")


def _backgrounds(viewpoints: Viewpoints, mode: RenderMode) -> Tensor | None:
    """Colours behind the scene; gsplat itself puts zero behind depths that come with colour."""
    if viewpoints.backgrounds is None or not mode.has_color:
        return None
    return viewpoints.backgrounds.float()


def _split(images: Tensor, alphas: Tensor, mode: RenderMode, dtype: torch.dtype) -> Rendered:
    """From (V, H, W, C), colour before depth, to separate (V, C, H, W)."""
    planes = images.movedim(-1, 1).to(dtype)
    return Rendered(
        alpha=alphas.movedim(-1, 1).to(dtype),
        color=planes[:, :3] if mode.has_color else None,
        depth=planes[:, -1:] if mode.has_depth else None,
    )


def _blend(meta: dict[str, Any], values: Tensor) -> Tensor:
    """Render (V, N, 1) values with the projection and lists of a finished render."""
    rendered: Tensor = _gsplat().rasterize_to_pixels(
        means2d=meta["means2d"],
        conics=meta["conics"],
        colors=values,
        opacities=meta["opacities"],
        image_width=meta["width"],
        image_height=meta["height"],
        tile_size=meta["tile_size"],
        isect_offsets=meta["isect_offsets"],
        flatten_ids=meta["flatten_ids"],
    )[0]
    return rendered


def _contributed(meta: dict[str, Any]) -> Tensor:
    """Whether each Gaussian has any weight, (V, N): weights are at least 4e-7, so > 0 is exact."""
    with torch.enable_grad():
        ones = torch.ones_like(meta["opacities"]).unsqueeze(-1).requires_grad_()
        weights = torch.autograd.grad(_blend(meta, ones).sum(), ones)[0]
    return weights.squeeze(-1) > 0


def _centred(meta: dict[str, Any]) -> Tensor:
    """Whether each Gaussian is blended at the pixel above and left of its centre, (V, N)."""
    means = meta["means2d"]
    num_views, num = means.shape[:2]
    width, height = meta["width"], meta["height"]
    ids, pixels, views = _gsplat().rasterize_to_indices_in_range(
        range_start=0,
        range_end=_ALL_BATCHES,
        transmittances=means.new_ones(num_views, height, width),
        means2d=means,
        conics=meta["conics"],
        opacities=meta["opacities"],
        image_width=width,
        image_height=height,
        tile_size=meta["tile_size"],
        isect_offsets=meta["isect_offsets"],
        flatten_ids=meta["flatten_ids"],
    )
    x, y = (means[views, ids] - 0.5).floor().unbind(-1)
    own = (x == pixels % width) & (y == pixels // width)
    centred = torch.zeros(num_views, num, dtype=torch.bool, device=means.device)
    centred[views[own], ids[own]] = True
    return centred


PLUGIN = CudaRenderer()
