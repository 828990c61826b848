"""The training loop: fetch, step, log, validate, save; independent of model and data.

A step is one update of the weights from `gradient_accumulation_steps` batches per process;
all counts, schedules and intervals are in steps.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from splatfactory.config import to_dict
from splatfactory.datasets.samples import Batch
from splatfactory.protocols import BatchSource, Benchmark, Prediction, Supervision, TrainableModel
from splatfactory.runtime import checkpoints
from splatfactory.runtime.checkpoints import BestModels, CheckpointError
from splatfactory.runtime.distributed import World, mean_over_scenes, without_sync
from splatfactory.schema import Config, Precision
from splatfactory.training.diagnostics import StepTrace, memory_record
from splatfactory.training.interruption import Interruption
from splatfactory.training.objective import Objective
from splatfactory.training.optim import (
    Optimization,
    gradient_norm,
    set_learning_rate,
    swapped,
)
from splatfactory.training.reporter import Figures, Reporter
from splatfactory.training.schedules import default_warmup, max_views, warmup_cosine
from splatfactory.training.validation import validate
from splatfactory.training.writers import Writer
from zipsplat.float32_products import fastest, width_of

logger = logging.getLogger(__name__)


class TrainingError(RuntimeError):
    """Training cannot continue; the message is one line for the user."""


@dataclass(frozen=True)
class Parts:
    """The components that a trainer combines.

    Attributes:
        model: a `TrainableModel`, on its device.
        optimization: optimizer of its network.
        objective: renders predictions and computes losses.
        source: training batches of this process.
        validation: this process's share of the held-out batches; identical at every call.
        figures: makes the figures of one batch.
        benchmarks: evaluations to run during training, by name.
    """

    model: nn.Module
    optimization: Optimization
    objective: Objective
    source: BatchSource
    validation: Callable[[], Iterable[Batch]]
    figures: Figures | None = None
    benchmarks: Mapping[str, Benchmark] = field(default_factory=dict)


@dataclass
class Progress:
    """Progress of a run; part of the checkpoint."""

    step: int = 0
    epoch: int = 0
    scenes: int = 0
    nonfinite: int = 0
    nonfinite_in_a_row: int = 0
    last_eval: dict[str, float] | None = None


class Trainer:
    """One training run, seen from one process.

    Args:
        config: the configuration.
        parts: model, data, optimizer and objective.
        world: process group.
        folder: the run's folder.
    """

    def __init__(self, config: Config, parts: Parts, world: World, folder: Path) -> None:
        self.config, self.options = config, config.train
        self.parts, self.world, self.folder = parts, world, folder
        self.conf = to_dict(config)
        self.network = parts.model.get_submodule("network")
        self.width = width_of(self.network)
        self.optimizer, self.ema = parts.optimization.optimizer, parts.optimization.average
        self.groups = parts.optimization.groups
        self.parameters = [p for group in self.groups for p in group.parameters]
        # A step uses either the camera encoder or the camera tokens, never both.
        uses_all = config.model.backbone.freeze_camera_enc
        self.model = world.wrap(
            parts.model, self.options.ddp_find_unused_parameters or not uses_all
        )
        self.progress = Progress()
        self.best = BestModels(folder, self.options.keep_best_checkpoints, self.options.best_mode)
        self.signals = Interruption()
        self.trace = StepTrace(self.options.profile, world, folder)
        self.reporter = Reporter(self.options, world, parts.figures)
        self.watch = self.reporter.watch
        self.began = self.saved_at = time.monotonic()
        self.saved_step = self.validated_step = -1
        self.schedule: dict[str, float] = {}

    # --- the loop ---------------------------------------------------------------------------

    def run(self, writers: Sequence[Writer] = ()) -> bool:
        """Train to the end.

        Args:
            writers: destinations of numbers and images; only the main process has any.

        Returns:
            True if training finished, False if it was stopped.
        """
        self.reporter.writers = writers
        self.model.train()
        memory = memory_record(self.options.record_memory, self.world, self.folder)
        with self.signals, memory, self.trace:
            if self.options.eval_init and self.progress.step == 0:
                self._validate()
            elif self.progress.step > 0:
                self._validate_if_due()  # the run may have stopped between saving and validation
            is_stopped = self._wants_stop()
            while not is_stopped and not self._is_done():
                is_stopped = self._run_epoch()
            self._save_if_new()
            if not is_stopped:
                self._conclude()
                is_stopped = self._wants_stop()
        return not is_stopped

    def _run_epoch(self) -> bool:
        """Train on the rest of an epoch; returns whether to stop."""
        self._apply_schedules()
        for batches in self._groups():
            is_stopped = self._step(batches)
            if is_stopped or self._is_done():
                return is_stopped
            self._apply_schedules()
        self.progress.epoch += 1
        every = self.options.eval_every_epoch
        by_steps = self.options.eval_every_iter is not None
        if not by_steps and every and self.progress.epoch % every == 0 and not self._validate():
            return True
        every = self.options.benchmark_every_epoch
        if every and self.progress.epoch % every == 0:
            self._run_benchmarks()
        return False

    def _groups(self) -> Iterator[list[Batch]]:
        """Yield the batches of one step at a time; the last group of an epoch may be smaller."""
        source = iter(self.parts.source)
        while True:
            with self.watch.measure("data"):
                batches = list(islice(source, self.options.gradient_accumulation_steps))
            if not batches:
                return
            yield batches

    def _step(self, batches: list[Batch]) -> bool:
        """Make one update, then log, validate and save as due; returns whether to stop."""
        stop, save, num_scenes = self.world.sum(
            [
                float(self.signals.wants_stop or self._is_time_up()),
                float(self.signals.wants_save or self._is_interval_over()),
                float(sum(map(len, batches))),
            ]
        )
        with self.watch.measure("step"):
            self._update(batches, num_scenes)
        self.progress.step += 1
        self.progress.scenes += int(num_scenes)
        self.reporter.count(self.progress.step, batches, int(num_scenes))
        self.reporter.log(self.progress.step, self._state_numbers(), self.parameters)
        every = self.options.save_every_iter
        if save or (every and self.progress.step % every == 0):
            self._save()
            self.signals.saved()
        is_stopped = bool(stop) or not self._validate_if_due()
        self.trace.step()
        return is_stopped

    def _update(self, batches: list[Batch], num_scenes: float) -> None:
        """Backpropagate the mean loss over all scenes of the step, and step the optimizer."""
        for number, batch in enumerate(batches):
            is_last = number == len(batches) - 1
            with without_sync(self.model, is_last=is_last), self._fast_products():
                self._backward(batch.to(self.world.device, non_blocking=True), num_scenes)
        norm = gradient_norm(self.parameters)
        self.reporter.averages.add({"l2/grad_norm": norm})
        if self._is_usable(norm, batches):
            if self.options.clip_grad is not None:
                nn.utils.clip_grads_with_norm_(self.parameters, self.options.clip_grad, norm)
            set_learning_rate(self.optimizer, self._learning_rate(self.progress.step))
            self.optimizer.step()
            if self.ema is not None:
                self.ema.update(self.network, self.progress.step)
        self.optimizer.zero_grad(set_to_none=True)

    def _fast_products(self) -> AbstractContextManager[object]:
        """Use the faster float32 products; compiled models keep theirs."""
        return nullcontext() if self.options.compile else fastest(self.width, self.world.device)

    def _backward(self, batch: Batch, num_scenes: float) -> None:
        device = self.world.device.type
        is_mixed = self.options.mixed_precision is not Precision.float32
        with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
            prediction: Prediction = self.model(batch.context)
        terms, supervision = self.parts.objective(prediction, batch, is_training=True)
        mean_over_scenes(terms["total"], num_scenes, self.world.size).backward()
        report, coming = self.reporter, self.progress.step + 1
        report.averages.add(self.parts.objective.named(terms))
        if report.is_due(coming, self.options.log_every_iter):
            detached = {name: value.detach() for name, value in terms.items()}
            report.latest = self.parts.objective.describe(supervision, detached)
            report.latest |= prediction.metrics
        if report.is_due(coming, self.options.plot_every_iter):
            report.write_figures("training", coming, batch, prediction, supervision)

    def _is_usable(self, norm: Tensor, batches: list[Batch]) -> bool:
        """Whether all gradients are finite; too many failures in a row abort the run."""
        progress = self.progress
        if bool(torch.isfinite(norm)):
            progress.nonfinite_in_a_row = 0
            return True
        progress.nonfinite += 1
        progress.nonfinite_in_a_row += 1
        names = ", ".join(name for batch in batches for name in batch.names[:4])
        step = progress.step + 1  # the step number of this update in the log
        logger.warning(
            "step %d: the gradient is not finite, skipping the update (%d so far; scenes %s)",
            step, progress.nonfinite, names,
        )  # fmt: skip
        if progress.nonfinite_in_a_row >= self.options.max_nonfinite_steps:
            raise TrainingError(
                f"{progress.nonfinite_in_a_row} gradients in a row were not finite at step "
                f"{step}; lower train.lr, or debug with train.detect_anomaly=true"
            )
        return False

    # --- schedules and limits ---------------------------------------------------------------

    def _apply_schedules(self) -> None:
        """Apply the schedules of the coming step to model and data."""
        step, num_steps = self.progress.step, self.options.num_steps
        model = cast(TrainableModel, self.parts.model)
        self.schedule = {key: float(v) for key, v in model.schedule(step, num_steps).items()}
        fewest, most = self.config.data.image_num_range
        bound = most
        if num_steps is not None:
            bound = max_views(step, num_steps, self.config.data.view_schedule, fewest, most)
        self.parts.source.set_max_views(bound)
        self.schedule["max_views"] = float(bound)

    def _learning_rate(self, step: int) -> float:
        """Learning rate of parameters with factor 1 at a step."""
        options, num_steps = self.options, self.options.num_steps
        warmup = options.warmup_steps
        if options.lr_schedule == "constant" or num_steps is None:
            return options.lr * min(1.0, (step + 1) / warmup if warmup else 1.0)
        warmup = default_warmup(num_steps) if warmup is None else warmup
        return options.lr * warmup_cosine(step, num_steps, warmup)

    def _state_numbers(self) -> dict[str, float]:
        """Numbers other than model metrics."""
        numbers = {
            "lr": self._learning_rate(self.progress.step - 1),
            "epoch": float(self.progress.epoch),
            "scenes": float(self.progress.scenes),
            "nonfinite_steps": float(self.progress.nonfinite),
        }
        return numbers | {f"schedule/{key}": value for key, value in self.schedule.items()}

    def _is_done(self) -> bool:
        options, progress = self.options, self.progress
        has_steps = options.num_steps is not None and progress.step >= options.num_steps
        has_epochs = options.epochs is not None and progress.epoch >= options.epochs
        return has_steps or has_epochs

    def _is_time_up(self) -> bool:
        limit = self.options.max_minutes
        return limit is not None and time.monotonic() - self.began >= 60 * limit

    def _is_interval_over(self) -> bool:
        """Whether `save_every_minutes` have passed since the last save."""
        limit = self.options.save_every_minutes
        return limit is not None and time.monotonic() - self.saved_at >= 60 * limit

    def _wants_stop(self) -> bool:
        """Whether any process was asked to stop."""
        return bool(self.world.max([float(self.signals.wants_stop)])[0])

    # --- validation ----------------------------------------------------------------------------

    def _validate_if_due(self) -> bool:
        every = self.options.eval_every_iter
        return not every or self.progress.step % every != 0 or self._validate()

    def _validate(self) -> bool:
        """Validate the weights, at most once per step; returns False if stopped in between."""
        if self.validated_step == self.progress.step:
            return True
        self.validated_step = self.progress.step

        def write_figures(
            number: int, batch: Batch, made: Prediction, supervision: Supervision
        ) -> None:
            if number < self.options.num_eval_plots:
                self.reporter.write_figures(
                    f"eval/{number}", self.progress.step, batch, made, supervision
                )

        with self.watch.measure("eval"), self._averaged_weights():
            values = validate(
                self.parts.model, self.parts.objective, self.parts.validation(), self.world,
                self.options.seed or 0, write_figures, self.options.median_metrics,
                self._is_stopping,
            )  # fmt: skip
        if values is None:
            logger.info("validation was interrupted; --restore repeats it")
            return False
        if not values:
            logger.warning("there is nothing to validate on; data.val_scenes is 0")
            return True
        self.progress.last_eval = values
        self.reporter.report("eval", self.progress.step, values)
        self._offer(values)
        return True

    def _offer(self, values: Mapping[str, float]) -> None:
        key = self.options.best_key
        if key not in values:
            raise TrainingError(
                f"train.best_key={key} is not a validation metric; known: "
                f"{', '.join(sorted(values))}"
            )
        if self.world.is_main and not self.options.fast_dev_run:
            self.best.offer(values[key], self.progress.step, self._export_state(), self.conf)

    def _run_benchmarks(self) -> None:
        for name, benchmark in self.parts.benchmarks.items():
            folder = self.folder / f"test_{self.progress.epoch}" / name
            with self.watch.measure("benchmark"), self._averaged_weights():
                was_training = self.parts.model.training
                values = benchmark(self.parts.model.eval(), folder, self._is_stopping)
                self.parts.model.train(was_training)
            if values is None:
                logger.info("benchmark %s was interrupted; --restore continues", name)
                return
            self.reporter.report(name, self.progress.step, values)

    def _is_stopping(self) -> bool:
        return self.signals.wants_stop

    def _averaged_weights(self) -> Any:
        return nullcontext() if self.ema is None else swapped(self.network, self.ema)

    def _conclude(self) -> None:
        """At the end of training: export the weights, validate, and run benchmarks."""
        if self.world.is_main and not self.options.fast_dev_run:
            path = self.folder / checkpoints.LAST
            checkpoints.export(self._export_state(), self.conf, path)
            logger.info("weights written to %s", path)
        self._validate()
        if not self._wants_stop():
            self._run_benchmarks()

    # --- saving -----------------------------------------------------------------------------

    def _save_if_new(self) -> None:
        if self.saved_step != self.progress.step and self.progress.step > 0:
            self._save()

    def _save(self) -> None:
        """Write a full checkpoint; all processes take part, the main one writes."""
        if self.options.fast_dev_run:
            return
        with self.watch.measure("save"):
            positions = self.world.gather(self.parts.source.state_dict())
            generators = self.world.gather(checkpoints.random_state(self.world.device))
            failure = ""
            if self.world.is_main:
                path = checkpoints.full_path(self.folder, self.progress.step)
                try:
                    checkpoints.save(self._state(positions, generators), path)
                    checkpoints.keep_newest(self.folder, self.options.keep_last_checkpoints)
                except CheckpointError as error:
                    failure = str(error)
            failure = self.world.gather(failure)[0]
        if failure:
            raise CheckpointError(failure)
        self.saved_at, self.saved_step = time.monotonic(), self.progress.step

    def _state(self, positions: list[Any], generators: list[Any]) -> dict[str, Any]:
        progress = self.progress
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": {"last_epoch": progress.step},
            "conf": self.conf,
            "epoch": progress.epoch,
            "eval": progress.last_eval,
            "tot_it": progress.step,
            "tot_n_samples": progress.scenes,
            "nonfinite": progress.nonfinite,
            "ema": None if self.ema is None else self.ema.values,
            "best": self.best.state(),
            "data": positions,
            "rng": generators,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a full checkpoint, bit for bit if the number of processes is the same.

        Raises:
            TrainingError: if it does not match the model, the optimizer or the data.
        """
        try:
            self.network.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            rank = self.world.rank
            positions, generators = state["data"], state["rng"]
            position = positions[min(rank, len(positions) - 1)]
            goes_on = self.parts.source.load_state_dict(
                position, accept_changes=self.options.accept_changed_data
            )
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:400]
            raise TrainingError(f"the checkpoint does not match this run: {reason}") from error
        if self.ema is not None and state.get("ema"):
            self.ema.values = {k: v.to(self.world.device) for k, v in state["ema"].items()}
        if rank < len(generators):
            checkpoints.restore_random_state(generators[rank], self.world.device)
        self.best.restore(state.get("best") or [], int(state["tot_it"]))
        self.progress = Progress(
            step=int(state["tot_it"]),
            epoch=int(state["epoch"]) + (not goes_on),
            scenes=int(state["tot_n_samples"]),
            nonfinite=int(state.get("nonfinite", 0)),
            last_eval=state.get("eval"),
        )
        self.saved_step = self.progress.step

    def _export_state(self) -> dict[str, Tensor]:
        """Weights to evaluate and export: the averaged ones if enabled."""
        weights = self.network.state_dict() if self.ema is None else self.ema.state(self.network)
        dtype = getattr(torch, self.options.export_dtype.value)
        return {
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in weights.items()
        }
