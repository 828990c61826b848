"""Profiling of a run: a trace of its steps, and a record of its GPU memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import profile, schedule, supported_activities

from splatfactory.runtime.distributed import World

logger = logging.getLogger(__name__)

STEPS_BEFORE_TRACE = 3
"""Steps skipped for compilation, caches and first allocations; the last warms up the profiler."""


class StepTrace:
    """Profiles some steps of this process into `profile_rank<r>.pt.trace.json.gz`.

    The file opens in Perfetto, chrome://tracing and TensorBoard's profiler.

    Args:
        num_steps: number of steps to trace, after the first three of this process; 0 disables it.
        world: process group; each process writes its own file.
        folder: folder of the file.
    """

    def __init__(self, num_steps: int, world: World, folder: Path) -> None:
        self.path = folder / f"profile_rank{world.rank}.pt.trace.json.gz"
        self._profile = self._profiler(num_steps) if num_steps > 0 else None

    def __enter__(self) -> StepTrace:
        """Start counting steps."""
        if self._profile is not None:
            self._profile.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write the partial trace if the run ends early."""
        if self._profile is None:
            return
        self._profile.stop()
        if self._profile.step_num < STEPS_BEFORE_TRACE:
            logger.warning(
                "no trace: train.profile starts after %d steps, but the run made %d",
                STEPS_BEFORE_TRACE, self._profile.step_num,
            )  # fmt: skip

    def step(self) -> None:
        """Call after each step."""
        if self._profile is not None:
            self._profile.step()

    def _profiler(self, num_steps: int) -> profile:
        waiting = schedule(
            wait=STEPS_BEFORE_TRACE - 1, warmup=1, active=num_steps, repeat=1, skip_first=0
        )
        return profile(
            activities=supported_activities(), schedule=waiting, on_trace_ready=self._write
        )

    def _write(self, traced: profile) -> None:
        part = self.path.with_name(
            f".{self.path.name}.part.gz"
        )  # the suffix makes the profiler compress
        traced.export_chrome_trace(str(part))
        os.replace(part, self.path)
        logger.info("trace written to %s", self.path)


def check_memory_record(is_wanted: bool, device: torch.device) -> None:
    """Raise a `ValueError` if memory recording is requested without a CUDA device."""
    if is_wanted and device.type != "cuda":
        raise ValueError(
            f"train.record_memory=true needs a CUDA device, but this run is on {device}; "
            "the log has peak memory on any device as memory/peak_gib"
        )


@contextmanager
def memory_record(is_wanted: bool, world: World, folder: Path) -> Iterator[None]:
    """Record GPU allocations; write a snapshot at the end or when memory runs out.

    View `memory_snapshot_rank<r>.pickle` at https://pytorch.org/memory_viz.

    Args:
        is_wanted: whether to record at all.
        world: process group; each process writes its own file.
        folder: folder of the file.

    Raises:
        ValueError: if this process does not run on a CUDA device.
    """
    check_memory_record(is_wanted, world.device)
    if not is_wanted:
        yield
        return
    torch.cuda.memory._record_memory_history(max_entries=1_000_000)
    try:
        yield
    finally:
        path = folder / f"memory_snapshot_rank{world.rank}.pickle"
        part = path.with_name(f".{path.name}.part")
        torch.cuda.memory._dump_snapshot(str(part))
        os.replace(part, path)
        torch.cuda.memory._record_memory_history(enabled=None)
        logger.info("memory snapshot written to %s", path)
