"""Benchmarks that run during training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from splatfactory.config import Config, to_dict
from splatfactory.eval.benchmarks import configure, load_benchmark
from splatfactory.eval.fingerprint import digest_of_tensors
from splatfactory.eval.pipeline import evaluate
from splatfactory.protocols import Benchmark
from splatfactory.runtime.distributed import World


def benchmark(name: str, config: Config, world: World) -> Benchmark:
    """Evaluates the model being trained; processes share the scenes.

    Args:
        name: a benchmark, or its YAML file; `benchmarks.<name>` of the configuration, without
            folder and suffix, overrides its options.
        config: configuration of the training run.
        world: process group of the run.

    Raises:
        ConfigError: if the benchmark does not exist, or its options are invalid.
    """
    changes = config.benchmarks.get(Path(name).stem)
    tree = to_dict(config)
    overrides = []
    if changes is not None:
        for section, options in (("eval", changes.eval), ("data", changes.data)):
            overrides += [f"{section}.{key}={value}" for key, value in options.items()]
        if changes.max_samples is not None:
            overrides.append(f"max_samples={changes.max_samples}")
    overrides += [f"eval.{key}={tree['eval'][key]}" for key in ("renderer", "lpips")]
    evaluation = configure(load_benchmark(name), None, tree["model"], overrides)

    def run(
        model: nn.Module, folder: Path, is_stopping: Callable[[], bool]
    ) -> dict[str, float] | None:
        weights = digest_of_tensors(model.get_submodule("network").state_dict())
        summary = evaluate(
            evaluation, model, weights, folder, world, overwrite=True, is_stopping=is_stopping
        )
        if summary is None:
            return None
        return {key: value for key, value in summary.items() if isinstance(value, float)}

    return run
