"""From a prediction to numbers to minimise: draw the views, judge them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from splatfactory.datasets.samples import Batch, Views
from splatfactory.protocols import Drawn, Prediction, SceneLoss, Supervision
from splatfactory.schema import HeadConfig
from splatfactory.tiny.patch_points import surface_of_tokens
from splatfactory.tiny.true_matches import true_matches
from splatfactory.training.drawing import activated, draw
from zipsplat.render import Renderer


class Objective:
    """Draws what a loss needs and no more.

    Context views are drawn only for the activated mask, without gradients, and only if the
    chamfer term asks which Gaussians to spare.

    Args:
        loss: The terms and their weights.
        renderer: What draws.
    """

    def __init__(self, loss: SceneLoss, renderer: Renderer) -> None:
        self.loss = loss
        self.renderer = renderer
        self._unmeasured = set() if loss.config.lpips_weight > 0 else {"lpips", "lpips_loss"}

    def __call__(
        self, prediction: Prediction, batch: Batch, *, is_training: bool
    ) -> tuple[dict[str, Tensor], Supervision]:
        """Every term per scene, and what it was computed from.

        Args:
            prediction: Gaussians (B, N).
            batch: The scenes they were predicted from.
            is_training: Whether a random background may be used.
        """
        config = self.loss.config
        gaussians = prediction.gaussians.to(torch.float32)
        views = supervised_views(batch, config)
        drawn, mask = draw(gaussians, views, self.renderer, config.activated)
        assert mask is not None
        if _needs_context_mask(config) and not config.loss_on_context:
            mask = mask | activated(gaussians, batch.context, self.renderer, config.activated)
        if is_training and config.random_background:
            drawn = over_random_colors(drawn)
        if views.masks is not None:
            drawn = over_truth(drawn, views, views.masks)
        surface = None
        if config.surface_weight > 0:
            surface = surface_of_tokens(
                batch.context, prediction.tokens, prediction.token_group, prediction.patch_size
            )
        logits, matches = None, None
        if config.match_weight > 0 and prediction.matches is not None:
            logits = prediction.matches.logits
            matches = true_matches(batch.context, prediction.matches)
        supervision = Supervision(gaussians, mask, drawn, views, surface, logits, matches)
        return self.loss(supervision), supervision

    def describe(self, supervision: Supervision, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Everything worth logging, (B,) each; losses as `loss/<name>`."""
        numbers = self.loss.describe(supervision, terms)
        numbers = {name: v for name, v in numbers.items() if name not in self._unmeasured}
        return numbers | self.named(terms)

    def named(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses as the log names them, without gradient; what is not measured is left out."""
        return {
            f"loss/{name}": value.detach()
            for name, value in terms.items()
            if name not in self._unmeasured
        }


def supervised_views(batch: Batch, config: HeadConfig) -> Views:
    """Target views, after the context views if those are supervised as well."""
    if not config.loss_on_context:
        return batch.target
    return Views.cat([batch.context, batch.target], dim=1)


def over_random_colors(drawn: Drawn) -> Drawn:
    """Put a colour of its own behind each view; the true picture has none, so holes cost."""
    colors = torch.rand(*drawn.color.shape[:3], 1, 1).to(drawn.color)
    color = drawn.color + colors * (1 - drawn.alpha.unsqueeze(2))
    return dataclasses.replace(drawn, color=color)


def over_truth(drawn: Drawn, views: Views, masks: Tensor) -> Drawn:
    """Put the true colours where masks (B, V, H, W) are False: no loss and no gradient there."""
    return dataclasses.replace(drawn, color=torch.where(masks.unsqueeze(2), drawn.color, views.rgb))


def _needs_context_mask(config: HeadConfig) -> bool:
    uses_mask = config.use_chamfer and config.detach_activated_gaussians
    return uses_mask and config.chamfer_weight > 0
