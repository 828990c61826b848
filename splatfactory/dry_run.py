"""What a run would be, without running it: configuration, parameters, memory, batches."""

from __future__ import annotations

import torch

from splatfactory.config import Config, ConfigError, to_dict
from splatfactory.datasets.from_config import training_loader
from splatfactory.models import build_model
from splatfactory.training.optim import freeze_unmatched, parameter_groups

GIB = 2**30


def report(config: Config, num_gpus: int) -> str:
    """A text for people.

    Args:
        config: Of the run.
        num_gpus: Processes it would have.
    """
    from omegaconf import OmegaConf

    parts = [OmegaConf.to_yaml(OmegaConf.create(to_dict(config))), _parameters(config)]
    parts.append(_batches(config, num_gpus))
    return "\n".join(parts) + "\n"


def _parameters(config: Config) -> str:
    """Parameter groups and the memory of weights, gradients and optimizer, on one GPU."""
    with torch.device("meta"):
        network = build_model(config.model, with_initial_weights=False).network
    freeze_unmatched(network, config.train.opt_regexp)
    groups = parameter_groups(network, config.train.lr_scaling, config.train.optimizer)
    lines = ["parameter groups:"]
    for group in groups:
        lines.append(
            f"  {len(group.names)} tensors, {group.num_values / 1e6:.2f} M values, "
            f"learning rate {config.train.lr * group.lr_scale:g}, "
            f"weight decay {group.weight_decay:g}"
        )
    trained = sum(group.num_values for group in groups)
    frozen = sum(parameter.numel() for parameter in network.parameters()) - trained
    lines.append(f"  {frozen / 1e6:.2f} M values frozen")
    # Muon keeps one number per value of a matrix, the other rules two per value.
    moments = sum((4 if group.is_matrix else 8) * group.num_values for group in groups)
    copies = {"weights": 4 * (trained + frozen), "gradients": 4 * trained}
    copies[config.train.optimizer.name] = moments
    if config.train.ema_decay is not None:
        copies["averaged weights"] = 4 * trained
    lines.append("memory per GPU, float32 state (activations come on top):")
    lines += [f"  {name}: {size / GIB:.2f} GiB" for name, size in copies.items()]
    lines.append(f"  together: {sum(copies.values()) / GIB:.2f} GiB")
    return "\n".join(lines)


def _batches(config: Config, num_gpus: int) -> str:
    budget = max(1, config.data.batch_size // num_gpus)
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
