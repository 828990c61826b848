"""Render batches of scenes, and find the Gaussians that the images constrain."""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.datasets.samples import Views
from splatfactory.protocols import RenderedViews
from splatfactory.schema import ActivatedRule
from zipsplat.gaussians import Gaussians
from zipsplat.render import Rendered, Renderer, RenderMode, RenderSettings, Viewpoints

WITH_DEPTH = RenderSettings(mode=RenderMode.RGB_D)
WITH_MASKS = RenderSettings(mode=RenderMode.RGB_D, masks=True)
MASKS_ONLY = RenderSettings(mode=RenderMode.D, masks=True)


def render_views(
    gaussians: Gaussians, views: Views, renderer: Renderer, rule: ActivatedRule | None = None
) -> tuple[RenderedViews, Tensor | None]:
    """Render every view of every scene over black, with accumulated depth Σ w·z.

    Args:
        gaussians: (B, N) float32.
        views: (B, V); only cameras, poses and image size are used.
        renderer: the renderer.
        rule: which Gaussians count as activated; None skips the mask.

    Returns:
        The renders, and (B, N) whether any view activates a Gaussian, or None.
    """
    settings = WITH_DEPTH if rule is None else WITH_MASKS
    with torch.autocast(gaussians.device.type, enabled=False):
        results = [
            renderer.render(gaussians[scene].splats(), viewpoints(views, scene), settings)
            for scene in range(len(gaussians))
        ]
    rendered = RenderedViews(
        color=torch.stack([_present(result.color) for result in results]),
        depth=torch.stack([_present(result.depth)[:, 0] for result in results]),
        alpha=torch.stack([result.alpha[:, 0] for result in results]),
    )
    return rendered, None if rule is None else torch.stack([_mask(r, rule) for r in results])


@torch.no_grad()
def activated(
    gaussians: Gaussians, views: Views, renderer: Renderer, rule: ActivatedRule
) -> Tensor:
    """(B, N) whether any view activates a Gaussian, without gradients or colours."""
    with torch.autocast(gaussians.device.type, enabled=False):
        return torch.stack(
            [
                _mask(
                    renderer.render(
                        gaussians[scene].detach().splats(), viewpoints(views, scene), MASKS_ONLY
                    ),
                    rule,
                )
                for scene in range(len(gaussians))
            ]
        )


def viewpoints(views: Views, scene: int) -> Viewpoints:
    """The views of one scene, in the renderers' format."""
    return Viewpoints(
        views.poses[scene].Rt, views.cameras[scene].K, views.width, views.height, None
    )


def _mask(result: Rendered, rule: ActivatedRule) -> Tensor:
    masks = result.centred if rule is ActivatedRule.centred else result.contributed
    return _present(masks).any(dim=0)


def _present(part: Tensor | None) -> Tensor:
    assert part is not None, "the renderer did not return a requested output"
    return part
