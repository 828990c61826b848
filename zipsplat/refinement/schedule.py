"""The budget of a refinement, and its schedule."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from zipsplat.refinement import growth

HALF_SIZE_SHARE = 0.15  # at first, images have half the size
DEPTH_SHARE = 0.5  # until then, stereo depth is a target
CAMERA_SHARE = 0.5  # poses and focal length start to move when the scene is sharp
# Rendering a view costs a third of a step, so evaluation takes 2 to 3 %.
_EVALUATION_STEPS, _EVALUATION_STEPS_PER_VIEW = 50, 15


@dataclass
class Budget:
    """A budget of either seconds or steps.

    Args:
        seconds: wall time to spend.
        steps: steps to take.
        clock: returns seconds; wall time, because that is what a user waits for.
    """

    seconds: float | None
    steps: int | None
    clock: Callable[[], float] = time.perf_counter
    _began: float = field(init=False, default=0.0)

    def start(self) -> None:
        """Start the clock."""
        self._began = self.clock()

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._began

    def share(self, step: int) -> float:
        """Share of the budget that is spent after `step` steps, in [0, 1]."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        assert self.seconds is not None
        return min(1.0, self.spent / self.seconds)

    def seconds_left(self, step: int) -> float:
        """Estimated time left; infinite before the first step if the budget is in steps."""
        if self.seconds is not None:
            return max(0.0, self.seconds - self.spent)
        assert self.steps is not None
        return self.spent / step * (self.steps - step) if step else float("inf")


def is_growth_due(step: int, share: float) -> bool:
    """Whether Gaussians are split after this step, counted from 1."""
    is_turn = step >= growth.FIRST_STEP and step % growth.INTERVAL == 0
    return is_turn and share < growth.LAST_SHARE


def is_evaluation_due(step: int, num_views: int) -> bool:
    """Whether the scene is evaluated after this step, counted from 1.

    Depends only on steps, so that equal numbers of steps give equal results.
    """
    return step % max(_EVALUATION_STEPS, _EVALUATION_STEPS_PER_VIEW * num_views) == 0
