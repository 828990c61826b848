"""Schedules of the learning rate and of the number of views.

Both are pure functions of the step, so resuming needs no state.
"""

from __future__ import annotations

import math


def warmup_cosine(step: int, num_steps: int, warmup_steps: int) -> float:
    """Learning-rate factor: linear from 1/W to 1 over W steps, then half a cosine to 0.

    Args:
        step: step, starting at 0.
        num_steps: total number of steps, N.
        warmup_steps: number of warm-up steps, W; 0 starts at the full rate.
    """
    if step < warmup_steps:
        return (1 + (warmup_steps - 1) * step / warmup_steps) / warmup_steps
    rest = max(1, num_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / rest)))


def default_warmup(num_steps: int) -> int:
    """5 % of the steps."""
    return int(num_steps * 0.05)


def max_views(step: int, num_steps: int, fraction: float | None, fewest: int, most: int) -> int:
    """Maximum number of context views: grows linearly over the first part of training.

    Args:
        step: step, starting at 0.
        num_steps: total number of steps.
        fraction: fraction of the steps after which `most` is reached; None uses `most` from the
            start.
        fewest: views at the start.
        most: views at the end.
    """
    span = int(num_steps * fraction) if fraction else 0
    if span == 0:
        return most
    return round(fewest + (most - fewest) * min(step, span) / span)
