"""Choice of the device and the precision to compute in."""

from __future__ import annotations

import logging

import torch

from zipsplat import float32_products

DEVICES = ("cpu", "cuda", "mps")
BFLOAT16_WIDTH = 768
"""On CPUs, only networks of this width or more may be faster in bfloat16: vitb and larger."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

logger = logging.getLogger(__name__)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device to compute on; "auto" prefers CUDA, then MPS, then the CPU.

    Raises:
        ValueError: if this machine has no such device.
    """
    if device != "auto":
        return _checked_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        logger.warning("using Apple's MPS, which is untested; device='cpu' is the safe choice")
        return torch.device("mps")
    return torch.device("cpu")


def _checked_device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise ValueError(
            f"a device is auto, {', '.join(DEVICES)} or one by its number as cuda:1, got {name!r}"
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            has = f"PyTorch sees {count} CUDA devices" if count else "PyTorch sees no CUDA device"
            raise ValueError(
                f"{name!s} cannot be used here: {has}; `zipsplat doctor` says why, 'cpu' works"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"{name!s} cannot be used here: it needs macOS on Apple silicon")
    return device


def choose_dtype(
    dtype: str | torch.dtype, device: torch.device, width: int = BFLOAT16_WIDTH
) -> torch.dtype:
    """The precision to compute in.

    Args:
        dtype: "float32", "bfloat16", or "auto": bfloat16 on CUDA devices that have it, and for
            networks of `BFLOAT16_WIDTH` or more on CPUs that have it (AVX512-BF16 or AMX) and are
            faster with it; else float32.
        device: to compute on.
        width: D of the network.

    Raises:
        ValueError: for any other dtype.
    """
    if dtype == "auto":
        return torch.bfloat16 if _gains_by_bfloat16(device, width) else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise ValueError(f"dtype must be 'auto', {' or '.join(map(repr, DTYPES))}, got {dtype!r}")
    return chosen


def _gains_by_bfloat16(device: torch.device, width: int) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device)[0] >= 8)
    if device.type != "cpu" or width < BFLOAT16_WIDTH:
        return False
    return _cpu_has_bfloat16() and float32_products.bfloat16_is_faster(width)


def _cpu_has_bfloat16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
