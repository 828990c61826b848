"""The training loss: every term per scene, weighted and summed.

Each module of this package is one loss, found by name like third-party ones; see
docs/extending.md. Two more, for small networks, are in `splatfactory.tiny`. The names of
the built-in terms are those of the released training logs. Geometry is computed in float32 whatever
the precision of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from splatfactory.losses.perceptual import PerceptualLoss
from splatfactory.metrics import psnr
from splatfactory.options import Kind
from splatfactory.perceptual_network import PerceptualNetwork
from splatfactory.protocols import Loss, LossKind, Supervision
from splatfactory.schema import HeadConfig
from zipsplat.plugins import Plugins

LOSSES: Plugins[LossKind | Loss] = Plugins("splatfactory.losses", "loss")
"""A loss without options may be a plain function."""

RENDERING = {
    "mse_loss": ("pixel_error", "mse_weight"),
    "lpips_loss": ("perceptual", "lpips_weight"),
    "scale_penalty": ("scale_penalty", None),
    "opacity_penalty": ("opacity_penalty", None),
    "location_penalty": ("location_penalty", None),
    "ssim_loss": ("structural", "ssim_weight"),
}
"""Terms of `rendering_loss` in summation order: the loss, and the option with its weight."""
GEOMETRY = {
    "location_loss": ("chamfer", "chamfer_weight"),
    "depth_loss": ("depth", "depth_weight"),
    "surface_loss": ("splatfactory.tiny.surface_loss", "surface_weight"),
    "match_loss": ("splatfactory.tiny.match_loss", "match_weight"),
}
"""Terms of `geometry_loss`, in the same form."""
BUILT_IN = dict([*RENDERING.values(), *GEOMETRY.values()])
ONLY_IF_WEIGHED = ("lpips_loss", "ssim_loss", "location_loss")
"""Terms too expensive to compute only for the log; the others cost next to nothing."""
SCALED = ("location_loss", "depth_loss")
"""Terms that are also logged with their weights, as `<term>_scaled`."""


class Term(NamedTuple):
    """A loss and its weight; a loss of None is 0, because its weight is 0."""

    loss: Loss | None
    weight: float


class TrainingLoss:
    """All loss terms of one configuration.

    Args:
        config: weights and thresholds.
        perceptual: LPIPS; needed if its weight is not 0.

    Raises:
        ValueError: if LPIPS has a weight but no network, or an extra loss is unknown or cannot
            be built.
    """

    def __init__(self, config: HeadConfig, perceptual: PerceptualNetwork | None) -> None:
        if config.lpips_weight > 0 and perceptual is None:
            raise ValueError(
                "model.gaussian_head.lpips_weight is "
                f"{config.lpips_weight} but there are no LPIPS weights; "
                "set it to 0 to train without LPIPS"
            )
        self.config = config
        given = {} if perceptual is None else {"perceptual": PerceptualLoss(perceptual)}
        self.rendering = _terms(RENDERING, config, given)
        self.geometry = _terms(GEOMETRY, config, given)
        self.extra = {name: extra_term(name, value) for name, value in config.extra_losses.items()}

    def __call__(self, supervision: Supervision) -> dict[str, Tensor]:
        """Every term and their sum, `total`; each (B,)."""
        rendering, rendering_loss = _evaluate(self.rendering, supervision)
        geometry, geometry_loss = _evaluate(self.geometry, supervision)
        if self.rendering["ssim_loss"].loss is None:
            del rendering["ssim_loss"]
        terms = {**rendering, "rendering_loss": rendering_loss, **geometry}
        for name in SCALED:
            terms[f"{name}_scaled"] = self.geometry[name].weight * geometry[name]
        terms["geometry_loss"] = geometry_loss
        terms["total"] = rendering_loss + geometry_loss
        for name, (loss, weight) in self.extra.items():
            assert loss is not None
            terms[name] = loss(supervision)
            terms["total"] = terms["total"] + weight * terms[name]
        return terms

    @torch.no_grad()
    def describe(self, supervision: Supervision, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Metrics that are logged but not minimised; each (B,)."""
        gaussians = supervision.gaussians
        rendered, true = supervision.rendered.color, supervision.views.rgb
        numbers = {
            "psnr": psnr(true, rendered).mean(dim=1),
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


def extra_term(name: str, value: Any) -> Term:
    """Build a loss of `extra_losses`.

    Args:
        name: a module of this package, or the dotted name of your own.
        value: its weight, or a mapping with `weight` (default 1) and the loss's own options.

    Raises:
        ValueError: if the loss is unknown, or an option or the weight is invalid.
    """
    options = dict(value) if isinstance(value, Mapping) else {"weight": value}
    weight = options.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)):
        raise ValueError(f"extra_losses maps names to weights, got {weight!r} for {name}")
    if name in BUILT_IN:
        own = BUILT_IN[name]
        advice = (
            f"set its weight with model.gaussian_head.{own}" if own else "it is always part of it"
        )
        raise ValueError(f"{name} is a built-in term of the loss, not an extra one; {advice}")
    plugin = LOSSES[name]
    if isinstance(plugin, Kind):
        return Term(plugin.build(options, "extra_losses", name), float(weight))
    if options:
        raise ValueError(f"the loss {name} has no options, got {', '.join(options)}")
    return Term(plugin, float(weight))


def _terms(
    table: Mapping[str, tuple[str, str | None]], config: HeadConfig, given: Mapping[str, Loss]
) -> dict[str, Term]:
    terms = {}
    for name, (module, option) in table.items():
        weight: float = 1.0 if option is None else getattr(config, option)
        if name in ONLY_IF_WEIGHED and not weight > 0:
            terms[name] = Term(None, weight)
        else:
            terms[name] = Term(given.get(module) or _built_in(module, config), weight)
    return terms


def _built_in(module: str, config: HeadConfig) -> Loss:
    kind = LOSSES[module]
    assert isinstance(kind, Kind)
    return kind.create(config)


def _evaluate(
    terms: Mapping[str, Term], supervision: Supervision
) -> tuple[dict[str, Tensor], Tensor]:
    """Evaluate the terms, and their weighted sum in table order; each (B,)."""
    values: dict[str, Tensor] = {}
    total: Tensor | None = None
    means = supervision.gaussians.means
    for name, (loss, weight) in terms.items():
        if loss is None:
            values[name] = means.new_zeros(len(means))
            continue
        values[name] = loss(supervision)
        total = weight * values[name] if total is None else total + weight * values[name]
    assert total is not None
    return values, total
