"""The brute-force renderer: every visible Gaussian at every pixel, front to back.

It is the oracle that the other renderers and their gradients are tested against. It works on any
device, in float32 and float64, and is differentiable in everything, intrinsics included. It is
slow: the time grows with the number of pixels times the number of Gaussians.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipsplat.render import Rendered, RenderSettings, Splats, Viewpoints
from zipsplat.render._projection import Projected, pixel_centres, project, shade
from zipsplat.render._rules import ALPHA_MIN, EXPECTED_DEPTH_ALPHA_MIN, TRANSMITTANCE_MIN

TILE = 16  # pixels, side of the tiles of gsplat
PAIRS_PER_CHUNK = 4_000_000  # Gaussians times pixels held at once without gradients, about 0.3 GB


@dataclass(frozen=True)
class _Blended:
    """What P pixels of one view receive from N Gaussians."""

    weights: Tensor  # (N, P)
    transmittance: Tensor  # (P,)
    centred: Tensor  # (N, P) bool


class ReferenceRenderer:
    """Dense compositing in plain PyTorch.

    Args:
        square_cut: Render a Gaussian only in the tiles that the square of three standard deviations
            of its longer axis touches, as gsplat 1.4 does, instead of wherever it can be seen.
    """

    name = "reference"

    def __init__(self, square_cut: bool = False) -> None:
        self.square_cut = square_cut

    def unavailable(self, device: torch.device) -> str | None:
        """It works everywhere."""
        del device
        return None

    def render(self, splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Rendered:
        """Render the scene; see `Renderer.render`."""
        projected = project(splats, viewpoints, settings)
        colors = shade(splats, viewpoints, settings)
        views = [
            self._render_view(projected, colors, viewpoints, settings, view)
            for view in range(len(viewpoints.K))
        ]
        return _stack(views)

    def _render_view(
        self,
        projected: Projected,
        colors: Tensor,
        viewpoints: Viewpoints,
        settings: RenderSettings,
        view: int,
    ) -> Rendered:
        """Render one view; the fields of the result have no view dimension."""
        depths = projected.depths[view]
        order = torch.argsort(depths, stable=True)
        order = order[projected.visible[view, order]]
        means, conics = projected.means[view, order], projected.conics[view, order]
        opacities = projected.opacities[view, order]
        values = torch.cat((colors[view, order], depths[order, None]), dim=-1)

        reach = _square_radii(projected.covariances[view, order]) if self.square_cut else None
        pixels = pixel_centres(viewpoints.height, viewpoints.width, means)
        per_chunk = max(1, PAIRS_PER_CHUNK // max(1, len(order)))
        painted, transmittances = [], []
        contributed = torch.zeros(len(depths), dtype=torch.bool, device=depths.device)
        centred = torch.zeros_like(contributed)
        for chunk in pixels.split(per_chunk):
            blended = _blend(means, conics, opacities, chunk, settings.alpha_clamp, reach)
            painted.append(values.T @ blended.weights)
            transmittances.append(blended.transmittance)
            contributed[order] |= (blended.weights > 0).any(dim=-1)
            centred[order] |= blended.centred.any(dim=-1)
        shape = (viewpoints.height, viewpoints.width)
        image = torch.cat(painted, dim=-1).unflatten(-1, shape)
        transmittance = torch.cat(transmittances).reshape(1, *shape)
        rendered = _compose(image, transmittance, viewpoints.backgrounds, view, settings)
        if not settings.masks:
            return rendered
        return replace(rendered, contributed=contributed, centred=centred)


def _blend(
    means: Tensor,
    conics: Tensor,
    opacities: Tensor,
    pixels: Tensor,
    alpha_clamp: float,
    reach: Tensor | None,
) -> _Blended:
    """Weights of N Gaussians, nearest first, at P pixels."""
    offset = means.unsqueeze(1) - pixels
    dx, dy = offset.unbind(-1)
    a, b, c = conics.unsqueeze(1).unbind(-1)
    power = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities.unsqueeze(-1) * torch.exp(-power)).clamp_max(_float32(alpha_clamp))
    inside = (power >= 0) & (alpha >= _float32(ALPHA_MIN))
    if reach is not None:
        inside = inside & _shares_tile(means, reach, pixels)
    alpha = torch.where(inside, alpha, torch.zeros_like(alpha))

    after = torch.cumprod(1 - alpha, dim=0)
    alive = after > _float32(TRANSMITTANCE_MIN)  # once a pixel is done, what is behind is left out
    before = torch.cat((torch.ones_like(after[:1]), after[:-1]))
    weights = torch.where(alive, alpha * before, torch.zeros_like(alpha))
    transmittance = torch.where(alive, 1 - alpha, torch.ones_like(alpha)).prod(dim=0)
    centred = inside & alive & ((offset >= 0) & (offset < 1)).all(dim=-1)
    return _Blended(weights, transmittance, centred)


def _square_radii(covariances: Tensor) -> Tensor:
    """Three standard deviations of the longer axis in whole pixels, (N,), by gsplat 1.4's rule."""
    xx, xy, yy = covariances.detach().unbind(-1)
    half = 0.5 * (xx + yy)
    longest = half + (half.square() - (xx * yy - xy * xy)).clamp_min(0.01).sqrt()
    return torch.ceil(3 * longest.sqrt())


def _shares_tile(means: Tensor, radii: Tensor, pixels: Tensor) -> Tensor:
    """Whether the square around a Gaussian touches the tile of a pixel, (N, P)."""
    tiles = torch.floor(pixels / TILE)
    first = torch.floor((means.detach() - radii[:, None]) / TILE).unsqueeze(1)
    last = torch.ceil((means.detach() + radii[:, None]) / TILE).unsqueeze(1)
    return ((tiles >= first) & (tiles < last)).all(dim=-1)


def _compose(
    image: Tensor,
    transmittance: Tensor,
    backgrounds: Tensor | None,
    view: int,
    settings: RenderSettings,
) -> Rendered:
    """Split the (4, H, W) sums into colour over the background, and depth."""
    color, depth = image[:3], image[3:]
    alpha = 1 - transmittance
    if backgrounds is not None:
        color = color + transmittance * backgrounds[view, :, None, None]
    if settings.mode.is_expected:
        depth = depth / alpha.clamp_min(EXPECTED_DEPTH_ALPHA_MIN)
    return Rendered(
        alpha=alpha,
        color=color if settings.mode.has_color else None,
        depth=depth if settings.mode.has_depth else None,
    )


def _stack(views: list[Rendered]) -> Rendered:
    """Join views along a new first dimension."""

    def join(name: str) -> Tensor | None:
        values = [getattr(view, name) for view in views]
        return None if values[0] is None else torch.stack(values)

    alpha = torch.stack([view.alpha for view in views])
    return Rendered(alpha, join("color"), join("depth"), join("contributed"), join("centred"))


def _float32(value: float) -> float:
    """The value that a float32 constant has, so that float64 runs use the same thresholds."""
    return torch.tensor(value, dtype=torch.float32).item()


PLUGIN = ReferenceRenderer()
