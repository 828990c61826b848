"""Evaluate a model on held-out scenes, identically every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median

import torch
from torch import nn

from splatfactory.datasets.samples import Batch
from splatfactory.protocols import Prediction, Supervision
from splatfactory.runtime.distributed import World
from splatfactory.runtime.randomness import fixed_randomness
from splatfactory.training.meters import Averages
from splatfactory.training.objective import Objective

OnBatch = Callable[[int, Batch, Prediction, Supervision], None]


@torch.no_grad()
def validate(
    model: nn.Module,
    objective: Objective,
    batches: Iterable[Batch],
    world: World,
    seed: int,
    on_batch: OnBatch | None = None,
    medians: Sequence[str] = (),
    is_stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Means over all scenes of all processes: metrics, and losses as `loss/<name>`.

    Runs in evaluation mode and float32, with its own random generators, so validating more or
    less often does not change training.

    Args:
        model: maps context views to a prediction.
        objective: renders predictions and computes losses.
        batches: this process's share of the held-out batches.
        world: process group.
        seed: seed of everything random.
        on_batch: called with each batch and its results.
        medians: metrics whose median over all scenes is also returned, as `<name>_median`.
        is_stopping: checked before each batch; if true on any process, there is no result.

    Returns:
        The means; empty if there are no scenes, None if stopped.

    Raises:
        ValueError: if one of `medians` is not a metric.
    """
    averages = Averages()
    single: dict[str, list[float]] = {name: [] for name in medians}
    was_training = model.training
    model.eval()
    with fixed_randomness(seed, world.device), torch.compiler.set_stance("force_eager"):
        for number, batch in enumerate(batches):
            if is_stopping():
                break
            batch = batch.to(world.device)
            prediction = model(batch.context)
            terms, supervision = objective(prediction, batch, is_training=False)
            numbers = objective.describe(supervision, terms)
            averages.add(numbers)
            for name in single.keys() & numbers.keys():
                single[name] += numbers[name].reshape(-1).tolist()
            if on_batch is not None:
                on_batch(number, batch, prediction, supervision)
    model.train(was_training)
    means = combined(averages, world)
    if any(world.gather(is_stopping())):
        return None
    return means | _medians(world.gather(single), means) if means else means


def combined(averages: Averages, world: World) -> dict[str, float]:
    """Means over the scenes of all processes, for the union of their keys."""
    parts = world.gather(averages.totals())
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for names, values, numbers in parts:
        for name, value, number in zip(names, values, numbers, strict=True):
            sums[name] = sums.get(name, 0.0) + value
            counts[name] = counts.get(name, 0.0) + number
    return {name: sums[name] / counts[name] if counts[name] else math.nan for name in sums}


def _medians(parts: list[dict[str, list[float]]], means: dict[str, float]) -> dict[str, float]:
    """Medians over the scenes of all processes; NaN values are ignored."""
    for name in parts[0]:
        if name not in means:
            raise ValueError(
                f"train.median_metrics: {name} is not a validation metric; "
                f"known: {', '.join(sorted(means))}"
            )
    present = {
        name: [value for part in parts for value in part[name] if not math.isnan(value)]
        for name in parts[0]
    }
    return {
        f"{name}_median": median(values) if values else math.nan for name, values in present.items()
    }
