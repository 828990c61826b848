"""Where and in which precision to compute."""

from __future__ import annotations

import logging

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

logger = logging.getLogger(__name__)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device to compute on; "auto" prefers CUDA, then MPS, then the CPU."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        logger.warning("using Apple's MPS, which is untested; device='cpu' is the safe choice")
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The precision to compute in; "auto" is bfloat16 on CUDA devices that have it."""
    if dtype == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if has_bfloat16 else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise ValueError(f"dtype must be 'auto', {' or '.join(map(repr, DTYPES))}, got {dtype!r}")
    return chosen
