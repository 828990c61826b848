"""Parameter groups, optimizers, gradient norms and averaged weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splatfactory.schema import OptimizerConfig, TrainConfig
from splatfactory.training.muon import MuonWithAdamW, is_hidden_matrix

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "AdamW": torch.optim.AdamW,
    "Adam": torch.optim.Adam,
    "Muon": MuonWithAdamW,
}
UNDECAYED = re.compile(
    r"(^|\.)(bias|gamma|cls_token|camera_token|pos_embed)$|(^|\.)[a-z_]*norm[a-z0-9_]*(\.\d+)?\.weight$"
)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning-rate factor, a weight decay and, with Muon, a rule."""

    lr_scale: float
    weight_decay: float
    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    is_matrix: bool = False

    @property
    def num_values(self) -> int:
        """Total number of values in the group."""
        return sum(parameter.numel() for parameter in self.parameters)


@dataclass(frozen=True)
class Optimization:
    """The optimizer of a network, with its parameter groups.

    Attributes:
        groups: its trainable parameters.
        optimizer: the optimizer over these groups.
        average: the moving average of the weights, if enabled.
    """

    groups: list[ParameterGroup]
    optimizer: torch.optim.Optimizer
    average: AveragedWeights | None


def build_optimization(network: nn.Module, options: TrainConfig) -> Optimization:
    """Freeze parameters as configured, and build the optimizer of the others.

    Raises:
        ValueError: if nothing is trainable, or the optimizer is unknown.
    """
    freeze_unmatched(network, options.opt_regexp)
    groups = parameter_groups(network, options.lr_scaling, options.optimizer)
    optimizer = build_optimizer(groups, options.lr, options.optimizer)
    average = AveragedWeights(network, options.ema_decay) if options.ema_decay else None
    return Optimization(groups, optimizer, average)


def freeze_unmatched(model: nn.Module, pattern: str | None) -> None:
    """Freeze all parameters whose name does not match a regular expression.

    Raises:
        ValueError: if none matches.
    """
    if pattern is None:
        return
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and re.search(pattern, name) is not None)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"train.opt_regexp={pattern!r} matches no trainable parameter")


def parameter_groups(
    model: nn.Module, lr_scaling: Mapping[str, float], config: OptimizerConfig
) -> list[ParameterGroup]:
    """Sort trainable parameters by learning-rate factor and weight decay, for Muon also by kind.

    A parameter takes the factor of the first pattern that is part of its name; `a+b` stands for
    either. Groups are in the order of their first parameter.

    Raises:
        ValueError: if nothing is trainable.
    """
    members: dict[tuple[float, float, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_spared = config.decay_exclusions and UNDECAYED.search(name) is not None
            is_matrix = config.name == "Muon" and is_hidden_matrix(name, parameter)
            scale = lr_scale_of(name, lr_scaling) * (config.muon_lr_factor if is_matrix else 1.0)
            key = (scale, 0.0 if is_spared else config.weight_decay, is_matrix)
            members.setdefault(key, []).append((name, parameter))
    if not members:
        raise ValueError("the model has no trainable parameter")
    return [
        ParameterGroup(scale, decay, tuple(n for n, _ in pairs), tuple(p for _, p in pairs), matrix)
        for (scale, decay, matrix), pairs in members.items()
    ]


def lr_scale_of(name: str, lr_scaling: Mapping[str, float]) -> float:
    """Learning-rate factor of a parameter."""
    for pattern, scale in lr_scaling.items():
        if any(part in name for part in pattern.split("+")):
            return float(scale)
    return 1.0


def build_optimizer(
    groups: Sequence[ParameterGroup], lr: float, config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Build an optimizer over the groups; the learning rate is set before each step.

    Raises:
        ValueError: if the optimizer is unknown.
    """
    if config.name not in OPTIMIZERS:
        raise ValueError(
            f"train.optimizer.name must be one of {', '.join(OPTIMIZERS)}, got {config.name!r}"
        )
    described: list[dict[str, Any]] = [
        {
            "params": list(group.parameters),
            "lr": lr * group.lr_scale,
            "lr_scale": group.lr_scale,
            "weight_decay": group.weight_decay,
        }
        for group in groups
    ]
    beta1, beta2 = config.betas
    if config.name == "Muon":
        for group, description in zip(groups, described, strict=True):
            description["is_matrix"] = group.is_matrix
        return MuonWithAdamW(described, (beta1, beta2), config.eps)
    return OPTIMIZERS[config.name](described, lr=lr, betas=(beta1, beta2), eps=config.eps)  # type: ignore[call-arg]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Global L2 norm of all gradients, a scalar on their device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients)


class AveragedWeights:
    """Exponential moving average of the trainable parameters, in float32.

    Args:
        model: the model to average.
        decay: fraction of the old average kept per step, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {
            name: parameter.detach().float().clone()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average; early on, a decay of (1 + t) / (10 + t) makes it follow faster."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            if name in self.values:
                self.values[name].lerp_(parameter.detach().float(), 1 - decay)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's state dict with averaged values in place of the trained ones."""
        return {
            name: self.values[name].to(value.dtype) if name in self.values else value
            for name, value in model.state_dict().items()
        }


@contextmanager
def swapped(model: nn.Module, average: AveragedWeights) -> Iterator[None]:
    """Use the averaged weights inside the block."""
    own = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average.state(model))
    try:
        yield
    finally:
        model.load_state_dict(own)
