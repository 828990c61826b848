"""What training minimises: every term per scene, weighed and summed.

The names of the terms are those of the released training logs. Geometry is computed in float32
whatever the precision of the network. An additional loss is one module with a `PLUGIN`, named in
`model.gaussian_head.extra_losses` with its weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from splatfactory.losses.chamfer import anchor_error, chamfer_error
from splatfactory.losses.depth import depth_error, points_from_depth
from splatfactory.losses.matching import matching_error
from splatfactory.losses.penalties import location_penalty, opacity_penalty, scale_penalty
from splatfactory.losses.perceptual import perceptual_error
from splatfactory.losses.photometric import absolute_error, squared_error
from splatfactory.losses.structural import structural_error
from splatfactory.losses.surface import surface_error
from splatfactory.metrics import psnr
from splatfactory.perceptual_network import PerceptualNetwork
from splatfactory.protocols import Loss, Supervision
from splatfactory.schema import HeadConfig
from zipsplat.plugins import Plugins

LOSSES: Plugins[Loss] = Plugins("splatfactory.losses")


class TrainingLoss:
    """All terms of one configuration.

    Args:
        config: Weights and thresholds.
        perceptual: LPIPS; needed if its weight is not 0.

    Raises:
        ValueError: If LPIPS has a weight but no network.
        KeyError: If an extra loss is not known.
    """

    def __init__(self, config: HeadConfig, perceptual: PerceptualNetwork | None) -> None:
        if config.lpips_weight > 0 and perceptual is None:
            raise ValueError(
                "model.gaussian_head.lpips_weight is "
                f"{config.lpips_weight} but there are no LPIPS weights; set it to 0 to do without"
            )
        self.config = config
        self.perceptual = perceptual
        self.extra = {name: LOSSES[name] for name in config.extra_losses}

    def __call__(self, supervision: Supervision) -> dict[str, Tensor]:
        """Every term and their sum, `total`; each (B,)."""
        terms = {**self._rendering(supervision), **self._geometry(supervision)}
        terms["total"] = terms["rendering_loss"] + terms["geometry_loss"]
        for name, loss in self.extra.items():
            terms[name] = loss(supervision)
            terms["total"] = terms["total"] + self.config.extra_losses[name] * terms[name]
        return terms

    @torch.no_grad()
    def describe(self, supervision: Supervision, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Numbers that are logged but not minimised; each (B,)."""
        gaussians = supervision.gaussians
        drawn, true = supervision.drawn.color, supervision.views.rgb
        numbers = {
            "psnr": psnr(true, drawn).mean(dim=1),
            "lpips": terms["lpips_loss"],
            "activated_gaussians": supervision.activated.float().sum(dim=1),
            "activated_pct": supervision.activated.float().mean(dim=1),
        }
        for name in ("means", "scales", "opacities"):
            values = getattr(gaussians, name).flatten(1)
            numbers |= {
                f"{name}_min": values.amin(dim=1),
                f"{name}_max": values.amax(dim=1),
                f"{name}_mean": values.mean(dim=1),
                f"{name}_median": values.median(dim=1).values,
                f"{name}_std": values.std(dim=1),
            }
        return numbers

    def _rendering(self, supervision: Supervision) -> dict[str, Tensor]:
        config, gaussians = self.config, supervision.gaussians
        drawn, true = supervision.drawn.color, supervision.views.rgb
        pixel_error = absolute_error if config.use_l1_loss else squared_error
        terms = {"mse_loss": pixel_error(drawn, true)}
        terms["lpips_loss"] = torch.zeros_like(terms["mse_loss"])
        if config.lpips_weight > 0 and self.perceptual is not None:
            terms["lpips_loss"] = perceptual_error(self.perceptual, drawn, true)
        terms["scale_penalty"] = scale_penalty(gaussians.scales, config.min_scale, config.max_scale)
        terms["opacity_penalty"] = opacity_penalty(
            gaussians.opacities, config.opacity_penalty_threshold
        )
        terms["location_penalty"] = location_penalty(gaussians.means, config.location_penalty_range)
        total = config.mse_weight * terms["mse_loss"] + config.lpips_weight * terms["lpips_loss"]
        total = total + terms["scale_penalty"] + terms["opacity_penalty"]
        total = total + terms["location_penalty"]
        if config.ssim_weight > 0:
            terms["ssim_loss"] = structural_error(drawn, true)
            total = total + config.ssim_weight * terms["ssim_loss"]
        terms["rendering_loss"] = total
        return terms

    def _geometry(self, supervision: Supervision) -> dict[str, Tensor]:
        config, depths = self.config, supervision.views.depths
        location = depth = supervision.gaussians.means.new_zeros(len(depths))
        if bool((depths >= 0).any()):
            if config.chamfer_weight > 0:  # its search is nearly half of a step on a CPU
                location = self._location(supervision)
            depth = depth_error(supervision.drawn.depth, depths)
        surface = surface_error(supervision.gaussians.means, supervision.surface)
        match = torch.zeros_like(surface)
        if supervision.matches is not None and supervision.match_logits is not None:
            match = matching_error(supervision.match_logits, supervision.matches)
        scaled_location = config.chamfer_weight * location
        scaled_depth = config.depth_weight * depth
        return {
            "location_loss": location,
            "location_loss_scaled": scaled_location,
            "depth_loss": depth,
            "depth_loss_scaled": scaled_depth,
            "surface_loss": surface,
            "match_loss": match,
            "geometry_loss": (
                scaled_location
                + scaled_depth
                + config.surface_weight * surface
                + config.match_weight * match
            ),
        }

    def _location(self, supervision: Supervision) -> Tensor:
        means, views = supervision.gaussians.means, supervision.views
        if self.config.detach_activated_gaussians:
            means = torch.where(supervision.activated[..., None], means.detach(), means)
        surface = None
        if self.config.use_chamfer:
            surface = points_from_depth(views.depths, views.cameras.K, views.poses.Rt)
        values = []
        for scene, points in enumerate(means):
            is_valid = views.depths[scene] >= 0
            if not bool(is_valid.any()):
                values.append(points.new_zeros(()))
            elif surface is None:
                values.append(anchor_error(points))
            else:
                values.append(chamfer_error(points, surface[scene][is_valid]))
        return torch.stack(values)
