"""The interface between scenes and renderers: plain tensors in, plain tensors out.

A renderer turns one scene into images from several viewpoints. `docs/conventions.md` defines what
the images show; `zipsplat.render.reference` is its executable form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from zipsplat.plugins import Plugins
from zipsplat.render import _rules as rules  # a plug-in would have no underscore

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RenderMode(str, Enum):
    """What is rendered: colour, accumulated depth (D), expected depth (ED), or both together."""

    RGB = "RGB"
    D = "D"
    ED = "ED"
    RGB_D = "RGB+D"
    RGB_ED = "RGB+ED"

    @property
    def has_color(self) -> bool:
        """Whether colour is rendered."""
        return self.value.startswith("RGB")

    @property
    def has_depth(self) -> bool:
        """Whether depth is rendered."""
        return self.value.endswith("D")

    @property
    def is_expected(self) -> bool:
        """Whether depth is divided by the opacity of the pixel."""
        return self.value.endswith("ED")


@dataclass(frozen=True)
class Splats:
    """One scene.

    Args:
        means: (N, 3) world units.
        quats: (N, 4) wxyz, of any non-zero length.
        scales: (N, 3) standard deviations, world units.
        opacities: (N,) in [0, 1].
        sh_coeffs: (N, S, 3) spherical harmonics, S = (degree + 1)².
    """

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh_coeffs: Tensor


@dataclass(frozen=True)
class Viewpoints:
    """The cameras of V images.

    Args:
        world_from_camera: (V, 4, 4) rigid, OpenCV axes.
        K: (V, 3, 3) intrinsics in pixels.
        width: width of every image.
        height: height of every image.
        backgrounds: (V, 3) colours behind the scene; black if not given. Depth has none.
    """

    world_from_camera: Tensor
    K: Tensor
    width: int
    height: int
    backgrounds: Tensor | None = None


@dataclass(frozen=True)
class RenderSettings:
    """How a scene is rendered; the defaults are those of gsplat 1.5.

    Args:
        mode: what is rendered.
        sh_degree: degree of the harmonics used; None uses all that the scene has.
        near_plane: Gaussians whose centre is nearer are left out, world units.
        far_plane: Gaussians whose centre is farther are left out, world units.
        eps2d: pixels² added to the variance of each projected Gaussian.
        radius_clip: Gaussians with a smaller radius in pixels are left out.
        alpha_clamp: largest opacity of one Gaussian at one pixel (0.99 in gsplat 1.6).
        masks: whether to compute `Rendered.contributed` and `Rendered.centred`.
        antialiased: whether opacities are multiplied by √(det Σ / det (Σ + eps2d·I)), Σ being the
            projected covariance, so that the blur does not brighten small Gaussians; gsplat's mode
            of this name, after Yu et al., "Mip-Splatting", 2024.
    """

    mode: RenderMode = RenderMode.RGB
    sh_degree: int | None = None
    near_plane: float = rules.NEAR_PLANE
    far_plane: float = rules.FAR_PLANE
    eps2d: float = rules.EPS2D
    radius_clip: float = 0.0
    alpha_clamp: float = rules.ALPHA_CLAMP
    masks: bool = False
    antialiased: bool = False


@dataclass(frozen=True)
class Rendered:
    """Images of one scene.

    Args:
        alpha: (V, 1, H, W) opacity in [0, 1].
        color: (V, 3, H, W), not clamped from above; None if the mode has no colour.
        depth: (V, 1, H, W) camera z in world units; None if the mode has no depth.
        contributed: (V, N) whether the Gaussian was blended at any pixel; None unless asked for.
        centred: (V, N) whether it was blended at the pixel (x, y) that has the projected centre m
            within 0 ≤ m − (x + ½, y + ½) < 1; None unless asked for.
    """

    alpha: Tensor
    color: Tensor | None = None
    depth: Tensor | None = None
    contributed: Tensor | None = None
    centred: Tensor | None = None


class Renderer(Protocol):
    """Renders one scene from V viewpoints, differentiably in the splats, poses and backgrounds."""

    @property
    def name(self) -> str:
        """The name that `choose` takes."""

    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot render scenes on this device; None if it can."""

    def render(self, splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Rendered:
        """Render the scene."""


RENDERERS: Plugins[Renderer] = Plugins("zipsplat.render", "renderer")
PREFERENCE = ("cuda", "cpu", "reference")


def choose(name: str, device: torch.device) -> Renderer:
    """Find a renderer for scenes on a device.

    Args:
        name: "auto" for the fastest that can be used, or a renderer's name.
        device: of the scene.

    Raises:
        ValueError: if there is no renderer of that name.
        RuntimeError: if it cannot be used; the message says why.
    """
    if name != "auto":
        renderer = RENDERERS[name]
        reason = renderer.unavailable(device)
        if reason is not None:
            raise RuntimeError(f"renderer {name!r} cannot be used: {reason}")
        return renderer
    reasons = []
    for candidate in (n for n in PREFERENCE if n in RENDERERS.names()):
        reason = RENDERERS[candidate].unavailable(device)
        if reason is None:
            return RENDERERS[candidate]
        reasons.append(f"{candidate}: {reason}")
    raise RuntimeError("no renderer can be used; " + "; ".join(reasons))
