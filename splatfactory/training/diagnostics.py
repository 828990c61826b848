"""Looking into a run: where the time of a step goes, and what holds the memory of the GPU."""

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
"""Compilation, caches and first allocations; the profiler itself starts in the last of them."""


class StepTrace:
    """Traces some steps of this process into `profile_rank<r>.pt.trace.json.gz`.

    The file opens in Perfetto, chrome://tracing and TensorBoard's profiler.

    Args:
        num_steps: Steps to trace, after the first three of this process; 0: none.
        world: This process among all; each writes its own file.
        folder: Where the file goes.
    """

    def __init__(self, num_steps: int, world: World, folder: Path) -> None:
        self.path = folder / f"profile_rank{world.rank}.pt.trace.json.gz"
        self._profile = self._profiler(num_steps) if num_steps > 0 else None

    def __enter__(self) -> StepTrace:
        """Begin to count steps."""
        if self._profile is not None:
            self._profile.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what was traced, if the run ends before all steps are."""
        if self._profile is None:
            return
        self._profile.stop()
        if self._profile.step_num < STEPS_BEFORE_TRACE:
            logger.warning(
                "nothing was traced: train.profile begins after %d steps, the run made %d",
                STEPS_BEFORE_TRACE, self._profile.step_num,
            )  # fmt: skip

    def step(self) -> None:
        """To be called after each step."""
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
        part = self.path.with_name(f".{self.path.name}.part.gz")  # compressed by its suffix
        traced.export_chrome_trace(str(part))
        os.replace(part, self.path)
        logger.info("a trace is in %s", self.path)


def check_memory_record(is_wanted: bool, device: torch.device) -> None:
    """Raise a `ValueError` if memory is to be recorded on anything but a GPU."""
    if is_wanted and device.type != "cuda":
        raise ValueError(
            f"train.record_memory=true needs a CUDA device, this run is on {device}; "
            "the log has the peak memory of a run anywhere, as memory/peak_gib"
        )


@contextmanager
def memory_record(is_wanted: bool, world: World, folder: Path) -> Iterator[None]:
    """Record allocations of the GPU; at the end, or when memory runs out, write a snapshot.

    `memory_snapshot_rank<r>.pickle` is what https://pytorch.org/memory_viz shows.

    Args:
        is_wanted: Whether to do anything.
        world: This process among all; each writes its own file.
        folder: Where the file goes.

    Raises:
        ValueError: If this process does not compute on a GPU.
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
        logger.info("a memory snapshot is in %s", path)
