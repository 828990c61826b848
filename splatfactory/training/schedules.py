"""What changes with the step: learning rate and view count.

Both are functions of the number of the update, so nothing need be stored to resume them.
"""

from __future__ import annotations

import math


def warmup_cosine(step: int, num_steps: int, warmup_steps: int) -> float:
    """Factor of the learning rate: linear from 1/W to 1 over W steps, then half a cosine to 0.

    Args:
        step: Number of the update, 0 is the first.
        num_steps: All updates, N.
        warmup_steps: W; 0 starts at the full rate.
    """
    if step < warmup_steps:
        return (1 + (warmup_steps - 1) * step / warmup_steps) / warmup_steps
    rest = max(1, num_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup_steps) / rest)))


def default_warmup(num_steps: int) -> int:
    """Five per cent of the steps."""
    return int(num_steps * 0.05)


def max_views(step: int, num_steps: int, fraction: float | None, fewest: int, most: int) -> int:
    """Largest number of context views: grows linearly over the first part of training.

    Args:
        step: Number of the update.
        num_steps: All updates.
        fraction: Share of the steps after which `most` is reached; None: from the start.
        fewest: Views at the start.
        most: Views at the end.
    """
    span = int(num_steps * fraction) if fraction else 0
    if span == 0:
        return most
    return round(fewest + (most - fewest) * min(step, span) / span)
