"""How many processors this process may use."""

from __future__ import annotations

import os


def num_processors() -> int:
    """Those that the system lets it run on, which containers and `taskset` may restrict."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
