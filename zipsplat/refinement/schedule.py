"""The budget of a refinement, and its schedule."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from zipsplat.refinement import growth

HALF_SIZE_SHARE = 0.15  # at first the pictures have half the size
DEPTH_SHARE = 0.5  # so long, stereo depth is a target
CAMERA_SHARE = 0.5  # poses and focal length wait until the scene is sharp
_JUDGE_STEPS, _JUDGE_STEPS_PER_VIEW = 50, 15  # a view costs a third of a step: judging 2 to 3 %


@dataclass
class Budget:
    """Seconds on a clock, or a number of steps; one of both.

    Args:
        seconds: to spend.
        steps: to take.
        clock: in seconds. Wall time is what a user waits for.
    """

    seconds: float | None
    steps: int | None
    clock: Callable[[], float] = time.perf_counter
    _began: float = field(init=False, default=0.0)

    def start(self) -> None:
        """From now on the time counts."""
        self._began = self.clock()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._began

    def share(self, step: int) -> float:
        """How much of the budget is spent after so many steps, in [0, 1]."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.spent / self.seconds)

    def seconds_left(self, step: int) -> float:
        """An estimate, infinite before the first step of a number of steps."""
        if self.seconds is not None:
            return max(0.0, self.seconds - self.spent)
        assert self.steps is not None
        return self.spent / step * (self.steps - step) if step else float("inf")


def is_growth_due(step: int, share: float) -> bool:
    """Whether Gaussians are split after this step, counted from 1."""
    is_turn = step >= growth.FIRST_STEP and step % growth.INTERVAL == 0
    return is_turn and share < growth.LAST_SHARE


def is_judging_due(step: int, num_views: int) -> bool:
    """Whether the scene is judged after this step, counted from 1.

    The answer depends on steps alone, so that equal numbers of steps give equal results.
    """
    return step % max(_JUDGE_STEPS, _JUDGE_STEPS_PER_VIEW * num_views) == 0
