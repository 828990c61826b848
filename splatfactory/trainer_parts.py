"""Builds what a trainer needs besides the model and its optimizer, from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from splatfactory.config import Config, ConfigError
from splatfactory.datasets.from_config import training_loader, validation_loader
from splatfactory.datasets.samples import Batch
from splatfactory.losses import TrainingLoss
from splatfactory.perceptual_network import fetch_perceptual_network
from splatfactory.protocols import BatchSource
from splatfactory.runtime.distributed import World
from splatfactory.training.objective import Objective
from splatfactory.training.optim import Optimization
from splatfactory.training.overfitting import FewBatches
from splatfactory.training.trainer import Parts
from splatfactory.visualization.training_figures import training_figures
from zipsplat.render import choose


def trainer_parts(
    config: Config, model: nn.Module, optimization: Optimization, world: World
) -> Parts:
    """The trainer's parts: the given model and optimizer, and loss, data, validation and figures.

    Raises:
        ConfigError: if the renderer cannot be used here.
    """
    try:
        renderer = choose(config.train.renderer, world.device)
    except RuntimeError as error:
        raise ConfigError(f"train.renderer={config.train.renderer}: {error}") from error
    head = config.model.gaussian_head
    perceptual = fetch_perceptual_network().to(world.device) if head.lpips_weight > 0 else None
    loss = TrainingLoss(head, perceptual)
    is_cuda = world.device.type == "cuda"
    source: BatchSource = training_loader(config.data, world.rank, world.size, pin_memory=is_cuda)
    if config.train.overfit:
        source = FewBatches(source, config.train.overfit)
    return Parts(
        model=model,
        optimization=optimization,
        objective=Objective(loss, renderer),
        source=source,
        validation=_validation(config, world),
        figures=partial(training_figures, renderer=config.train.renderer),
        benchmarks=_benchmarks(config, world),
    )


def _validation(config: Config, world: World) -> Callable[[], Iterable[Batch]]:
    loader = (
        validation_loader(config.data, world.rank, world.size) if config.data.val_scenes else None
    )
    return lambda: () if loader is None else iter(loader)


def _benchmarks(config: Config, world: World) -> dict[str, Any]:
    if not config.train.run_benchmarks or config.train.fast_dev_run:
        return {}
    from splatfactory.eval.in_training import benchmark

    names = config.train.run_benchmarks
    return {Path(name).stem: benchmark(name, config, world) for name in names}
