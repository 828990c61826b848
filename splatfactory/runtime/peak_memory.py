"""Peak memory of a process."""

from __future__ import annotations

import resource
import sys

import torch


def memory_gib(device: torch.device) -> float:
    """Peak memory so far, in GiB: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
