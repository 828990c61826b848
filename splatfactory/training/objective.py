"""The training objective: render the views of a prediction and evaluate the losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from splatfactory.datasets.samples import Batch, Views
from splatfactory.protocols import Prediction, RenderedViews, SceneLoss, Supervision
from splatfactory.schema import HeadConfig
from splatfactory.tiny.patch_points import surface_of_tokens
from splatfactory.tiny.true_matches import true_matches
from splatfactory.training.rendering import activated, render_views
from zipsplat.render import Renderer


class Objective:
    """Renders only what the loss needs.

    Context views are rendered only for the activated mask, without gradients, and only if the
    chamfer term needs to know which Gaussians to exempt.

    Args:
        loss: the terms and their weights.
        renderer: the renderer.
    """

    def __init__(self, loss: SceneLoss, renderer: Renderer) -> None:
        self.loss = loss
        self.renderer = renderer
        self._unmeasured = set() if loss.config.lpips_weight > 0 else {"lpips", "lpips_loss"}

    def __call__(
        self, prediction: Prediction, batch: Batch, *, is_training: bool
    ) -> tuple[dict[str, Tensor], Supervision]:
        """Every term per scene, and the supervision it was computed from.

        Args:
            prediction: Gaussians (B, N).
            batch: the batch they were predicted from.
            is_training: whether random backgrounds may be used.
        """
        config = self.loss.config
        gaussians = prediction.gaussians.to(torch.float32)
        views = supervised_views(batch, config)
        rendered, mask = render_views(gaussians, views, self.renderer, config.activated)
        assert mask is not None
        if _needs_context_mask(config) and not config.loss_on_context:
            mask = mask | activated(gaussians, batch.context, self.renderer, config.activated)
        if is_training and config.random_background:
            rendered = over_random_colors(rendered)
        if views.masks is not None:
            rendered = over_truth(rendered, views, views.masks)
        surface = None
        if config.surface_weight > 0:
            surface = surface_of_tokens(
                batch.context, prediction.tokens, prediction.token_group, prediction.patch_size
            )
        logits, matches = None, None
        if config.match_weight > 0 and prediction.matches is not None:
            logits = prediction.matches.logits
            matches = true_matches(batch.context, prediction.matches)
        supervision = Supervision(gaussians, mask, rendered, views, surface, logits, matches)
        return self.loss(supervision), supervision

    def describe(self, supervision: Supervision, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Everything worth logging, (B,) each; losses as `loss/<name>`."""
        numbers = self.loss.describe(supervision, terms)
        numbers = {name: v for name, v in numbers.items() if name not in self._unmeasured}
        return numbers | self.named(terms)

    def named(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Detached losses under their log names; unmeasured ones are left out."""
        return {
            f"loss/{name}": value.detach()
            for name, value in terms.items()
            if name not in self._unmeasured
        }


def supervised_views(batch: Batch, config: HeadConfig) -> Views:
    """Target views, preceded by the context views if those are supervised too."""
    if not config.loss_on_context:
        return batch.target
    return Views.cat([batch.context, batch.target], dim=1)


def over_random_colors(rendered: RenderedViews) -> RenderedViews:
    """Composite each view over a random colour, which the true image lacks, so holes cost."""
    colors = torch.rand(*rendered.color.shape[:3], 1, 1).to(rendered.color)
    color = rendered.color + colors * (1 - rendered.alpha.unsqueeze(2))
    return dataclasses.replace(rendered, color=color)


def over_truth(rendered: RenderedViews, views: Views, masks: Tensor) -> RenderedViews:
    """Insert true colours where masks (B, V, H, W) are False: no loss, no gradient there."""
    return dataclasses.replace(
        rendered, color=torch.where(masks.unsqueeze(2), rendered.color, views.rgb)
    )


def _needs_context_mask(config: HeadConfig) -> bool:
    uses_mask = config.use_chamfer and config.detach_activated_gaussians
    return uses_mask and config.chamfer_weight > 0
