"""`python -m splatfactory.train <experiment> --conf zipsplat key=value …`: train a model.

Under `torchrun`, the same command uses all processes, on one machine or many.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import random
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from splatfactory.config import (
    Config,
    ConfigError,
    Request,
    help_lines,
    load,
    merge,
    read_yaml,
    split_overrides,
    to_dict,
)
from splatfactory.datasets.loader import DataLossError
from splatfactory.models import build_model
from splatfactory.models.initialisation import load_strictly
from splatfactory.runtime import checkpoints, distributed, run_folder
from splatfactory.runtime.checkpoints import CheckpointError
from splatfactory.runtime.distributed import World
from splatfactory.trainer_parts import trainer_parts
from splatfactory.training import run_page
from splatfactory.training.diagnostics import check_memory_record
from splatfactory.training.optim import build_optimization
from splatfactory.training.trainer import Trainer, TrainingError
from splatfactory.training.writers import Writer, build_writers, check_writers
from zipsplat import weights
from zipsplat.terminal import error_line

# Spelled out, because `__name__` is `__main__` under `-m`.
logger = logging.getLogger("splatfactory.train")

USER_ERRORS = (
    ConfigError, TrainingError, CheckpointError, DataLossError, ValueError, OSError,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status: 0 when finished, 128 + signal when stopped, 1 on errors."""
    options = parse(argv)
    try:
        if options.dry_run:
            from splatfactory.dry_run import report

            request = _request(options)
            config = _with_reloaded_model(request, load(request))
            sys.stdout.write(report(config, options.dry_run))
            return 0
        return train(options)
    except USER_ERRORS as error:
        if not str(error):
            raise
        sys.stderr.write(f"error: {error_line(error)}\n")
        return 1
    except (torch.OutOfMemoryError, MemoryError) as error:
        sys.stderr.write(f"error: {_memory_advice(error)}\n")
        return 1
    except RuntimeError as error:
        advice = _advice(error)
        if advice is None:
            raise
        sys.stderr.write(f"error: {advice}\n")
        return 1


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; flags and `key=value` may come in any order."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.train",
        description="Train a feed-forward Gaussian splatting model.",
        epilog="options, given as key=value:\n" + "\n".join(help_lines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", help="name of the run, below outputs/training/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="options to override")
    parser.add_argument("--conf", help="name of a shipped configuration, or a YAML file")
    parser.add_argument("--restore", action="store_true", help="continue the run")
    parser.add_argument("--overwrite", action="store_true", help="start over; the old run is kept")
    parser.add_argument(
        "--distributed", action="store_true", help="fail unless launched by torchrun"
    )
    parser.add_argument(
        "--dry-run", type=int, metavar="GPUS", default=0,
        help="only print configuration, parameter groups, memory and batches for this many GPUs",
    )  # fmt: skip
    return parser.parse_intermixed_args(argv)


def train(options: argparse.Namespace) -> int:
    """Join the process group, build all components, train."""
    if options.distributed and "WORLD_SIZE" not in os.environ:
        raise ConfigError(
            "--distributed needs torchrun: `torchrun --nproc_per_node=4 -m splatfactory.train …`"
        )
    folder = run_folder.run_folder(options.experiment)
    request, config, is_restored = _wanted(options, folder)
    if not is_restored:
        run_folder.check_unused(folder, overwrite=options.overwrite)
    with distributed.join(config.train.ddp_timeout_minutes) as world:
        run_folder.log_to(None, is_main=world.is_main)
        config = _with_seed(config, world)
        # Write nothing before everything is ready, so a failed start leaves no trace.
        trainer = build(config, world, folder, is_restored=is_restored)
        with _opened(folder, request, config, world, is_restored):
            run_folder.log_to(folder, is_main=world.is_main)
            if world.is_main:
                _announce(trainer)
            writers = _writers(config, world, folder, options.experiment, trainer.progress.step)
            try:
                is_finished = trainer.run(writers)
            finally:
                for writer in writers:
                    writer.close()
            if world.is_main:
                _write_page(folder)
    if not is_finished:
        logger.info("stopped at step %d; resume with --restore", trainer.progress.step)
    return 0 if trainer.signals.signal is None else 128 + trainer.signals.signal


def build(config: Config, world: World, folder: Path, *, is_restored: bool) -> Trainer:
    """Build all components of a run, ready to start or resume; writes no file."""
    prepare_torch(config)
    newest = checkpoints.load_newest(folder) if is_restored else None
    seed_everything(config.train.seed or 0)
    model = build_model(config.model, with_initial_weights=newest is None and not _given(config))
    if newest is None:
        _load_given(model.network, config)
    model.to(world.device)
    compile_parts(model.network, config.train.compile)
    optimization = build_optimization(model.network, config.train)
    # From here on, seeds differ by process, so that each samples its own priors and token ratios.
    seed_everything((config.train.seed or 0) + 1_000_003 * (world.rank + 1))
    check_writers(config.train.writer)
    check_memory_record(config.train.record_memory, world.device)
    trainer = Trainer(config, trainer_parts(config, model, optimization, world), world, folder)
    if newest is not None:
        state, path = newest
        trainer.restore(state)
        logger.info("resuming from %s", path)
    return trainer


def _with_seed(config: Config, world: World) -> Config:
    """Fill in a missing seed from system entropy, equal on all processes."""
    if config.train.seed is not None:
        return config
    seed = world.gather(secrets.randbelow(2**31))[0]
    return dataclasses.replace(config, train=dataclasses.replace(config.train, seed=seed))


def _writers(
    config: Config, world: World, folder: Path, experiment: str, step: int
) -> list[Writer]:
    if not world.is_main:
        return []
    names, project = config.train.writer, config.train.project_name
    return build_writers(names, folder, project, experiment, to_dict(config), step)


def _write_page(folder: Path) -> None:
    """Write the run's page; a failure here does not fail the run."""
    try:
        logger.info("curves written to %s", run_page.write(folder))
    except (ConfigError, OSError, ValueError) as error:
        logger.warning("could not write the page of the run: %s", error)


def prepare_torch(config: Config) -> None:
    """Apply process-wide settings of PyTorch."""
    torch.set_float32_matmul_precision(config.train.matmul_precision)
    if config.train.num_threads is not None:
        torch.set_num_threads(config.train.num_threads)
    if config.train.detect_anomaly:
        torch.autograd.set_detect_anomaly(True)
    if config.train.deterministic and not torch.cuda.is_available():
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = True


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def compile_parts(network: nn.Module, mode: str | None) -> None:
    """Compile the repeated blocks in place, so that names in checkpoints do not change."""
    if mode is None:
        return
    for part in network.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                block.compile(mode=mode)


def _wanted(options: argparse.Namespace, folder: Path) -> tuple[Request, Config, bool]:
    """What to run, and whether it resumes a run; a restart by torchrun always does."""
    request = _request(options)
    is_restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    has_run = (folder / run_folder.CONFIG).is_file()
    if options.restore and not has_run and request.conf is None:
        run_folder.existing_run(options.experiment)
    is_restored = (options.restore or is_restart) and has_run
    if is_restored:
        request, config = run_folder.restored_request(folder, request)
    else:
        config = load(request)
    if request.conf is None and not is_restored:
        raise ConfigError("--conf is missing; pass a configuration, e.g. --conf zipsplat")
    groups, _ = split_overrides(options.overrides)
    # A restored configuration already contains the other run's model, unless it is composed again.
    if options.conf or groups or not is_restored:
        config = _with_reloaded_model(request, config)
    _check(config)
    return request, _shortened(config), is_restored


def _with_reloaded_model(request: Request, config: Config) -> Config:
    """Take the model options of `load_experiment` if requested; overrides take precedence."""
    if not config.train.reload_model:
        return config
    if config.train.load_experiment is None:
        raise ConfigError("train.reload_model=true needs train.load_experiment=<name of a run>")
    groups, values = split_overrides(request.overrides)
    chosen = [group for group in groups if group.split("/")[0].split("=")[0] == "model"]
    if chosen:
        raise ConfigError(
            f"train.reload_model=true takes the whole model of run {config.train.load_experiment},"
            f" {chosen[-1]} selects another; drop one of them"
        )
    source = run_folder.existing_run(config.train.load_experiment)
    saved = read_yaml(source / run_folder.CONFIG)["model"]
    return merge([{**to_dict(config), "model": saved}], values)


def _request(options: argparse.Namespace) -> Request:
    return Request(options.conf, tuple(options.overrides))


def _check(config: Config) -> None:
    if config.train.num_steps is None and config.train.epochs is None:
        raise ConfigError("set train.num_steps or train.epochs")


def _shortened(config: Config) -> Config:
    """With `fast_dev_run`, a run of a few steps that exercises every stage."""
    steps = config.train.fast_dev_run
    if not steps:
        return config
    changed = dataclasses.replace(config.train, num_steps=steps, log_every_iter=1, max_minutes=None)
    return dataclasses.replace(config, train=changed)


@contextmanager
def _opened(
    folder: Path, request: Request, config: Config, world: World, is_restored: bool
) -> Iterator[None]:
    """Open the folder on the main process; tell the others of a failure, so they do not wait."""
    failure, lock = "", None
    if world.is_main:
        try:
            lock = run_folder.open_for_training(folder, is_restored=is_restored)
            run_folder.describe(folder, request, config, world.size)
        except (ConfigError, OSError) as error:
            failure = str(error)
    try:
        failure = world.gather(failure)[0]
        if failure:
            raise ConfigError(failure)
        yield
    finally:
        if lock is not None:
            lock.release()


def _given(config: Config) -> bool:
    return config.model.weights is not None or config.train.load_experiment is not None


def _load_given(network: nn.Module, config: Config) -> None:
    """Load initial weights from a file, a released model or another run."""
    source: str | Path | None = config.model.weights
    if config.train.load_experiment is not None:
        source = run_folder.weights_of(config.train.load_experiment)
    if source is None:
        return
    checkpoint = weights.load(source)
    load_strictly(network, checkpoint.tensors, str(checkpoint.path))
    logger.info("starting from %s", checkpoint.path)


def _announce(trainer: Trainer) -> None:
    for line in architecture_lines(trainer.network, trainer.options.print_arch):
        logger.info("%s", line)
    for group in trainer.groups:
        logger.info(
            "%d tensors, %.2f M values: learning rate × %g, weight decay %g",
            len(group.names), group.num_values / 1e6, group.lr_scale, group.weight_decay,
        )  # fmt: skip
    logger.info("%d batches per epoch, on %s", len(trainer.parts.source), trainer.world.device)


def architecture_lines(network: nn.Module, depth: int) -> list[str]:
    """List the modules down to a depth, with their number of values; nothing at depth 0."""
    lines = []
    for name, part in network.named_modules():
        level = name.count(".") + 1 if name else 0
        if depth > 0 and level <= depth:
            millions = sum(value.numel() for value in part.parameters()) / 1e6
            label = f"{name}: " if name else ""
            lines.append(f"{'  ' * level}{label}{type(part).__name__}, {millions:.2f} M values")
    return lines


def _advice(error: RuntimeError) -> str | None:
    """One line of advice on PyTorch errors that the user can fix, else None."""
    if "can't allocate memory" in str(error):
        return _memory_advice(error)
    if "DataLoader worker" in str(error):
        return (
            f"a data worker died ({str(error).splitlines()[0]}), most likely because memory ran "
            "out; lower data.num_workers or data.prefetch_factor, then resume with --restore"
        )
    return None


def _memory_advice(error: BaseException) -> str:
    first = str(error).splitlines()[0] if str(error) else "out of memory"
    return (
        f"out of memory ({first}); lower data.batch_size or the largest data.image_num_range, "
        "or set model.use_checkpoint=true model.backbone.use_checkpoint=true"
    )


if __name__ == "__main__":
    sys.exit(main())
