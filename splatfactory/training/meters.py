"""Averages and times over an interval of steps."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor


class Averages:
    """Means over scenes, kept on the device until read: one transfer instead of forty."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add numbers of one batch, each (B,) or a scalar; NaN values are ignored."""
        for key, value in values.items():
            flat = value.detach().float().reshape(-1)
            zero = flat.new_zeros(())
            self._sums[key] = self._sums.get(key, zero) + flat.nansum()
            self._counts[key] = self._counts.get(key, zero) + (~flat.isnan()).sum()

    def totals(self) -> tuple[list[str], list[float], list[float]]:
        """Names, sums and counts."""
        names = sorted(self._sums)
        if not names:
            return [], [], []
        devices = {self._sums[name].device for name in names}
        device = devices.pop() if len(devices) == 1 else torch.device("cpu")
        pairs = [torch.stack((self._sums[name], self._counts[name])) for name in names]
        sums, counts = torch.stack([pair.to(device) for pair in pairs]).T.tolist()
        return names, sums, counts

    def means(self) -> dict[str, float]:
        """Mean of each; NaN if only NaN was added."""
        names, sums, counts = self.totals()
        return {n: s / c if c else math.nan for n, s, c in zip(names, sums, counts, strict=True)}

    def clear(self) -> None:
        """Reset."""
        self._sums.clear()
        self._counts.clear()


class Stopwatch:
    """Wall-clock time spent in named parts since the last `clear`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.start = time.monotonic()

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the duration of a block to a part."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - begin

    @property
    def elapsed(self) -> float:
        """Seconds since the last `clear`."""
        return time.monotonic() - self.start

    def clear(self) -> None:
        """Reset."""
        self.seconds.clear()
        self.start = time.monotonic()


class FirstSteps:
    """Estimates the duration of a run from its first steps.

    The very first steps compile, prefetch and fill caches, so they do not count; a validation or
    save in between does not change the median.
    """

    WARM_UP, MEASURED = 3, 7

    def __init__(self) -> None:
        self._ends: list[float] = []

    def passed(self, now: float) -> float | None:
        """Record the end of a step; after enough steps, returns their median duration once.

        Args:
            now: seconds on any clock.
        """
        self._ends.append(now)
        if len(self._ends) != self.WARM_UP + self.MEASURED:
            return None
        return median(b - a for a, b in pairwise(self._ends[self.WARM_UP - 1 :]))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03."""
    whole = int(max(0.0, seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
