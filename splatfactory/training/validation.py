"""Judge a model on scenes that training does not see, the same way every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from splatfactory.datasets.batch import Batch
from splatfactory.protocols import Prediction, Supervision
from splatfactory.training.distributed import World
from splatfactory.training.meters import Averages
from splatfactory.training.objective import Objective

Picture = Callable[[int, Batch, Prediction, Supervision], None]


@torch.no_grad()
def validate(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Batch],
    world: World,
    seed: int,
    on_batch: Picture | None = None,
) -> dict[str, float]:
    """Means over all scenes of all processes: metrics, and losses as `loss/<name>`.

    In evaluation mode and float32, with random generators of its own, so that validating more or
    less often changes nothing in training.

    Args:
        model: Context views to a prediction.
        objective: Draws and judges.
        batches: This process's share.
        world: The other processes.
        seed: Of anything random.
        on_batch: Called with each batch and what became of it.
    """
    averages = Averages()
    was_training = model.training
    model.eval()
    with fixed_randomness(seed, world.device), torch.compiler.set_stance("force_eager"):
        for number, batch in enumerate(batches):
            batch = batch.to(world.device)
            prediction = model(batch.context)
            terms, supervision = objective(prediction, batch, is_training=False)
            averages.add(objective.describe(supervision, terms))
            if on_batch is not None:
                on_batch(number, batch, prediction, supervision)
    model.train(was_training)
    return combined(averages, world)


def combined(averages: Averages, world: World) -> dict[str, float]:
    """Means over the scenes of all processes; the keys of any process are kept."""
    parts = world.gather(averages.totals())
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for names, values, numbers in parts:
        for name, value, number in zip(names, values, numbers, strict=True):
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0.0) + number
    return {name: sums[name] / counts[name] for name in sums}


@contextmanager
def fixed_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside a block and put its generators back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
