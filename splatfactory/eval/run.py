"""`python -m splatfactory.eval.run <benchmark,…> --conf zipsplat_eval eval.num_views=N`.

Under `torchrun`, all its processes share the scenes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from splatfactory.config import ConfigError, help_lines
from splatfactory.eval import benchmarks
from splatfactory.eval.benchmarks import Evaluation
from splatfactory.eval.loading import ModelSource, from_checkpoint, load_model
from splatfactory.eval.pipeline import EvaluationError, evaluate
from splatfactory.eval.report import number
from splatfactory.eval.scoring import METRICS
from splatfactory.paths import outputs_root
from splatfactory.runtime import distributed, run_folder
from splatfactory.runtime.distributed import World
from zipsplat.terminal import error_line

logger = logging.getLogger(__name__)

USER_ERRORS = (ConfigError, EvaluationError, ValueError, OSError)
TIMEOUT_MINUTES = 24 * 60.0
"""Processes wait for each other only at the end, so the slowest may be far behind."""


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit status."""
    options = parse(argv)
    try:
        source_model = None
        if options.checkpoint:
            source_model = from_checkpoint(options.checkpoint, options.overrides)
        evaluations = [
            benchmarks.configure(
                benchmarks.load_benchmark(name),
                options.conf,
                None if source_model is None else source_model.model,
                options.overrides,
            )
            for name in options.benchmarks.split(",")
        ]
        with distributed.join(TIMEOUT_MINUTES) as world:
            run_folder.log_to(None, is_main=world.is_main)
            for evaluation in evaluations:
                _run(evaluation, source_model, options, world)
    except USER_ERRORS as error:
        if not str(error):
            raise
        sys.stderr.write(f"error: {error_line(error)}\n")
        return 1
    except (torch.OutOfMemoryError, MemoryError) as error:
        sys.stderr.write(f"error: out of memory: {error_line(error)}\n")
        return 1
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; flags and `key=value` may come in any order."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.eval.run",
        description=f"Evaluate a model. Benchmarks: {', '.join(benchmarks.names())}.",
        epilog="options, given as key=value:\n" + "\n".join(help_lines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("benchmarks", help="one or more, separated by commas")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options to override")
    parser.add_argument("--conf", help="name of a shipped configuration, or a YAML file")
    parser.add_argument("--checkpoint", help="a training run, or a weights file")
    parser.add_argument("--tag", help="name of the result folder")
    parser.add_argument(
        "--overwrite", action="store_true", help="evaluate again; old results are kept"
    )
    parser.add_argument(
        "--overwrite_eval", action="store_true", help="evaluate again with changed settings or code"
    )
    return parser.parse_intermixed_args(argv)


def _run(
    evaluation: Evaluation,
    source_model: ModelSource | None,
    options: argparse.Namespace,
    world: World,
) -> None:
    tag = options.tag or (source_model.tag if source_model else None) or _stem(options.conf)
    folder = outputs_root() / "results" / evaluation.benchmark.name / tag / evaluation.label
    source = source_model.weights if source_model else evaluation.config.model.weights
    if source is None:
        raise ConfigError(
            "no weights to evaluate: give --checkpoint, or model.weights=<name or path>"
        )
    model, digest = load_model(evaluation.config, source)
    summary = evaluate(
        evaluation, model.to(world.device), digest, folder, world,
        overwrite=options.overwrite, overwrite_eval=options.overwrite_eval,
    )  # fmt: skip
    if world.is_main and summary is not None:
        sys.stdout.write(_closing(evaluation, summary, folder))


def _stem(conf: str | None) -> str:
    if conf is None:
        raise ConfigError(
            "nothing to evaluate: pass --conf NAME, e.g. zipsplat_eval, or --checkpoint PATH"
        )
    return Path(conf).stem


def _closing(evaluation: Evaluation, summary: Mapping[str, Any], folder: Path) -> str:
    scores = ", ".join(
        f"{metric.upper()} {number(summary.get(f'target_{metric}'), metric)}" for metric in METRICS
    )
    name = f"{evaluation.benchmark.name} {evaluation.label}"
    report = folder / "report.html"
    return f"{name}: {scores} over {summary['scenes']} scenes\nreport: {report}\n"


if __name__ == "__main__":
    sys.exit(main())
