"""Progress reports: numbers for the writers, log lines, and figures at intervals."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from splatfactory.datasets.samples import Batch
from splatfactory.protocols import Prediction, Supervision
from splatfactory.runtime.distributed import World
from splatfactory.runtime.peak_memory import memory_gib
from splatfactory.schema import TrainConfig
from splatfactory.training.meters import Averages, FirstSteps, Stopwatch, duration
from splatfactory.training.writers import Writer

logger = logging.getLogger(__name__)

Figures = Callable[[Batch, Prediction, Supervision], Mapping[str, Tensor]]


class Reporter:
    """Collects numbers between two log lines and writes them.

    Args:
        options: intervals and metrics to report.
        world: process group; only the main process writes.
        figures: makes the figures of one batch, or None.

    Attributes:
        averages: means over the steps since the last log line.
        writers: destinations of numbers and images; empty until the run starts.
        latest: numbers of the last step only, each (B,) or a scalar.
        watch: time spent since the last log line.
    """

    def __init__(
        self,
        options: TrainConfig,
        world: World,
        figures: Figures | None,
    ) -> None:
        self.options, self.world = options, world
        self.figures = figures
        self.writers: Sequence[Writer] = ()
        self.averages, self.watch = Averages(), Stopwatch()
        self.latest: dict[str, Tensor] = {}
        self._steps = self._scenes = self._views = 0
        self._first_steps = FirstSteps()

    def count(self, step: int, batches: Sequence[Batch], num_scenes: int) -> None:
        """Add one step to the rates; after the first few, log an estimate of the run's duration.

        Args:
            step: number of updates so far.
            batches: batches of this process.
            num_scenes: number of scenes over all processes.
        """
        self._steps += 1
        self._scenes += num_scenes
        own = sum(len(batch) * batch.context.shape[1] for batch in batches)
        self._views += own * self.world.size
        seconds, total = self._first_steps.passed(time.monotonic()), self.options.num_steps
        if seconds is not None and total is not None and step < total:
            logger.info(
                "%d more steps of about %.2f s take %s, validation and saving not counted; "
                "peak memory so far %.2f GiB",
                total - step, seconds, duration((total - step) * seconds),
                memory_gib(self.world.device),
            )  # fmt: skip

    def is_due(self, step: int, every: int | None) -> bool:
        """Whether update `step`, counted from 1, is a multiple of `every` or the last."""
        return bool(every) and (step % (every or 1) == 0 or step == self.options.num_steps)

    def log(
        self, step: int, state: Mapping[str, float], parameters: Sequence[nn.Parameter]
    ) -> None:
        """Write a log line if one is due, and reset.

        Args:
            step: number of updates so far.
            state: numbers other than model metrics: learning rate, schedules, counts.
            parameters: parameters for the weight norm.
        """
        if not self.is_due(step, self.options.log_every_iter):
            return
        values = self.averages.means()
        values |= {
            key: float(value.float().mean())
            for key, value in self.latest.items()
            if key not in values
        }
        values |= {**state, **self._rates(), "l2/param_norm": _norm(parameters)}
        self.report("training", step, values, self._head(step, values))
        self.averages.clear()
        self.watch.clear()
        self._steps = self._scenes = self._views = 0

    def report(self, kind: str, step: int, values: Mapping[str, float], head: str = "") -> None:
        """Write numbers to all writers, and the selected ones to the console."""
        if not self.world.is_main:
            return
        for writer in self.writers:
            writer.scalars(step, {f"{kind}/{key}": value for key, value in values.items()})
        wanted = self.options.stdout_metrics
        shown = [key for key in (sorted(values) if wanted is None else wanted) if key in values]
        text = "  ".join(f"{key} {values[key]:.4g}" for key in shown or values)
        logger.info("%s  %s", head or f"{kind} at step {step}", text)

    def write_figures(
        self,
        kind: str,
        step: int,
        batch: Batch,
        prediction: Prediction,
        supervision: Supervision,
    ) -> None:
        """Write the figures of a batch."""
        if self.figures is None or not self.world.is_main:
            return
        with torch.no_grad():
            figures = self.figures(batch, prediction, supervision)
        for writer in self.writers:
            for name, figure in figures.items():
                writer.image(step, f"{kind}/{name}", figure)

    def _rates(self) -> dict[str, float]:
        seconds = max(self.watch.elapsed, 1e-9)
        times = self.watch.seconds.items()
        numbers = {f"time/{name}_s": total / max(1, self._steps) for name, total in times}
        return numbers | {
            "rate/steps_per_s": self._steps / seconds,
            "rate/scenes_per_s": self._scenes / seconds,
            "rate/views_per_s": self._views / seconds,
            "memory/peak_gib": memory_gib(self.world.device),
        }

    def _head(self, step: int, values: Mapping[str, float]) -> str:
        total, rate = self.options.num_steps, values["rate/steps_per_s"]
        head = f"step {step}"
        if total is not None:
            left = (total - step) / rate if rate else 0.0
            head += f"/{total} ({100 * step // total} %, {duration(left)} left)"
        return (
            f"{head}  {rate:.2f} steps/s, {values['rate/scenes_per_s']:.1f} scenes/s, "
            f"{values['rate/views_per_s']:.1f} views/s, {values['memory/peak_gib']:.2f} GiB"
        )


@torch.no_grad()
def _norm(parameters: Sequence[nn.Parameter]) -> float:
    norms = [torch.linalg.vector_norm(parameter) for parameter in parameters]
    return float(torch.linalg.vector_norm(torch.stack(norms)))
