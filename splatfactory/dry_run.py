"""Preview of a run without running it: configuration, parameters, memory, batches."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from splatfactory.config import Config, ConfigError, to_dict
from splatfactory.datasets.from_config import training_loader
from splatfactory.models import build_model
from splatfactory.schema import ModelConfig
from splatfactory.training.activation_memory import activation_bytes
from splatfactory.training.optim import ParameterGroup, freeze_unmatched, parameter_groups
from zipsplat.model.compression import select_stride
from zipsplat.model.network import ZipSplatNetwork

RECOMPUTING = "model.use_checkpoint=true model.backbone.use_checkpoint=true"


def report(config: Config, num_gpus: int) -> str:
    """Format the preview.

    Args:
        config: configuration of the run.
        num_gpus: number of GPUs, with one process each.
    """
    from omegaconf import OmegaConf

    network = _network_without_memory(config)
    groups = parameter_groups(network, config.train.lr_scaling, config.train.optimizer)
    parts = [
        OmegaConf.to_yaml(OmegaConf.create(to_dict(config))),
        _parameters(config, network, groups),
        _memory(config, network, groups, num_gpus),
        _batches(config, num_gpus),
    ]
    return "\n".join(parts) + "\n"


def activations(config: Config, num_gpus: int) -> int:
    """Bytes of the network's forward and backward pass on one GPU, for the most views."""
    scenes, views = _largest_batch(config, num_gpus)
    side = _image_side(config)

    def build() -> nn.Module:
        network = build_model(config.model, with_initial_weights=False).network
        freeze_unmatched(network, config.train.opt_regexp)
        return network.train()

    shape = (scenes, views, 3, side, side)
    share = float(config.model.query_sample_ratio[1])
    return activation_bytes(
        build, lambda net, images: _outputs(net, images, share), shape,
        config.train.mixed_precision,
    )  # fmt: skip


def _network_without_memory(config: Config) -> nn.Module:
    with torch.device("meta"):
        network = build_model(config.model, with_initial_weights=False).network
    freeze_unmatched(network, config.train.opt_regexp)
    return network


def _parameters(config: Config, network: nn.Module, groups: list[ParameterGroup]) -> str:
    lines = ["parameter groups:"]
    for group in groups:
        lines.append(
            f"  {len(group.names)} tensors, {group.num_values / 1e6:.2f} M values, "
            f"learning rate {config.train.lr * group.lr_scale:g}, "
            f"weight decay {group.weight_decay:g}"
        )
    frozen = _num_values(network) - sum(group.num_values for group in groups)
    lines.append(f"  {frozen / 1e6:.2f} M values frozen")
    return "\n".join(lines)


def _memory(config: Config, network: nn.Module, groups: list[ParameterGroup], num_gpus: int) -> str:
    """Weights, gradients, optimizer and activations on one GPU."""
    trained = sum(group.num_values for group in groups)
    # Muon keeps one moment per value of a matrix, AdamW two per value.
    moments = sum((4 if group.is_matrix else 8) * group.num_values for group in groups)
    sizes = {"weights": 4 * _num_values(network), "gradients": 4 * trained}
    sizes[config.train.optimizer.name] = moments
    if config.train.ema_decay is not None:
        sizes["averaged weights"] = 4 * trained
    lines, kept = _activation_lines(config, num_gpus)
    lines = [*(f"  {name}: {_size(size)}" for name, size in sizes.items()), *lines]
    lines.append(f"  total: {_size(sum(sizes.values()) + kept)}")
    return "\n".join(["memory per GPU (not counting rendering and losses):", *lines])


def _activation_lines(config: Config, num_gpus: int) -> tuple[list[str], int]:
    """Lines on activation memory, with and without checkpointing, and the bytes as configured."""
    scenes, views = _largest_batch(config, num_gpus)
    side = _image_side(config)
    name = f"  activations of the network, {scenes} × {views} views of {side} × {side} pixels"
    try:
        kept = activations(config, num_gpus)
        lines = [f"{name}: {_size(kept)}"]
        if not (config.model.use_checkpoint and config.model.backbone.use_checkpoint):
            saving = dataclasses.replace(config, model=_recomputing(config.model))
            less = activations(saving, num_gpus)
            lines.append(f"    with {RECOMPUTING}: {_size(less)}")
    except RuntimeError as error:  # the network depends on values, which fake tensors lack
        return [f"{name}: unknown ({' '.join(str(error).split())[:200]})"], 0
    return lines, kept


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.1f} MiB"


def _recomputing(model: ModelConfig) -> ModelConfig:
    backbone = dataclasses.replace(model.backbone, use_checkpoint=True)
    return dataclasses.replace(model, use_checkpoint=True, backbone=backbone)


def _outputs(network: nn.Module, images: Tensor, share: float) -> Tensor:
    """Flatten all outputs the losses use; the choice of tokens does not affect memory."""
    if isinstance(network, ZipSplatNetwork):
        made = network(images, None, share, select_stride)
    else:
        made = network(images)
    parts = (made.means, made.scales, made.quats, made.opacities, made.sh_coeffs)
    return torch.cat([part.flatten().float() for part in parts])


def _largest_batch(config: Config, num_gpus: int) -> tuple[int, int]:
    """Scenes and context views per GPU of the batch with the most views."""
    most = config.data.image_num_range[1]
    return max(1, _budget(config, num_gpus) // most), most


def _image_side(config: Config) -> int:
    side = config.data.preprocessing.resize or config.model.img_size
    patch = config.model.backbone.patch_size or 14
    return side // patch * patch


def _budget(config: Config, num_gpus: int) -> int:
    return max(1, config.data.batch_size // num_gpus)


def _num_values(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _batches(config: Config, num_gpus: int) -> str:
    budget = _budget(config, num_gpus)
    fewest, most = config.data.image_num_range
    lines = [
        f"batches on {num_gpus} GPUs, {budget} context images each:",
        f"  {max(1, budget // fewest)} scenes of {fewest} views to "
        f"{max(1, budget // most)} scenes of {most} views per GPU and step",
    ]
    try:
        loader = training_loader(config.data, 0, num_gpus)
        lines.append(f"  {len(loader)} batches per epoch of {loader.num_scenes} scenes")
    except (ConfigError, ValueError, OSError) as error:
        lines.append(f"  batches per epoch: unknown, the data cannot be read ({error})")
    return "\n".join(lines)
