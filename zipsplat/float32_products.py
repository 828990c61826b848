"""Float32 matrix products on a CPU by the faster of PyTorch's two libraries.

PyTorch's builds for CPUs hold MKL, which does products by default, and oneDNN. MKL takes a generic
path on processors of other makers than Intel, which on a Zen 5 reaches 40 % of what oneDNN reaches.
`torch.backends.mkldnn.matmul.fp32_precision = "bf16"` hands products to oneDNN and permits it to
round their inputs to bfloat16. It does so only where that is faster (with AMX); elsewhere its
products are as exact as MKL's. So both are measured at first use, their errors too, on two products
of the network's shape; there is no list of processors.

Source: PyTorch's notes "Numerical accuracy", and the documentation of `torch.backends.mkldnn`.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_WIDTH = 192
"""Networks of smaller width lose by oneDNN's overhead per product."""
LEAST_GAIN = 1.25
"""oneDNN is used from this many times MKL's speed on; other work disturbs timings."""
MOST_ERROR = 4e-6
"""Relative error up to which a product counts as float32; bfloat16 has 2e-3, TF32 3e-4."""
SWITCH = "ZIPSPLAT_FLOAT32"
EXACT = "exact"

_ONEDNN = "bf16"
_UNDECIDED = ("none", "tf32")  # as PyTorch starts, and as training sets it for CUDA
_ROUNDS = 3
_LEAST_ROWS, _MOST_ROWS, _FLOP = 96, 1024, 1e9
_lock = threading.Lock()
_holders: list[str] = []  # the setting that each forward pass inside `fastest` found, first to last


class _Precision(Protocol):
    fp32_precision: str


@contextmanager
def fastest(width: int, device: torch.device) -> Iterator[None]:
    """Within it, float32 products on the CPU take the faster path; afterwards all is as before.

    Nothing changes for networks below `LEAST_WIDTH`, on other devices, with a PyTorch that has no
    such setting, where somebody has chosen a precision (`torch.set_float32_matmul_precision`
    "highest" or "medium"), or with `ZIPSPLAT_FLOAT32=exact` in the environment.

    Args:
        width: D of the network, which tells the shape of its products.
        device: where it computes.
    """
    setting = _setting()
    wants = (
        setting is not None
        and device.type == "cpu"
        and width >= LEAST_WIDTH
        and os.environ.get(SWITCH) != EXACT
        and (bool(_holders) or setting.fp32_precision in _UNDECIDED)
        and onednn_is_better(width)
    )
    if setting is None or not wants:
        yield
        return
    _enter(setting)
    try:
        yield
    finally:
        _leave(setting)


def width_of(network: object) -> int:
    """The width that most linear layers of a network have, as all blocks do; 0 without any."""
    layers = network.modules() if isinstance(network, nn.Module) else ()
    widths = [min(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)]
    return Counter(widths).most_common(1)[0][0] if widths else 0


def is_active() -> bool:
    """Whether float32 products go through oneDNN now."""
    setting = _setting()
    return setting is not None and setting.fp32_precision == _ONEDNN


@functools.cache
def onednn_is_better(width: int) -> bool:
    """Whether oneDNN is faster than MKL here, and as exact, for products of this width.

    Measured once per process and width, in 0.05 to 0.2 s.
    """
    setting = _setting()
    if setting is None:
        return False
    with _lock:
        before = setting.fp32_precision
        try:
            return decide(width, functools.partial(setattr, setting, "fp32_precision"))
        finally:
            setting.fp32_precision = before


def decide(
    width: int,
    use: Callable[[str], object],
    product: Callable[[Tensor, Tensor], Tensor] = functional.linear,
    clock: Callable[[], float] = time.thread_time,
) -> bool:
    """Measure both paths in turns and compare them.

    Args:
        width: D; the product is (rows, D) by (D, 3 D), as that of queries, keys and values.
        use: sets the path, "ieee" or "bf16".
        product: of (rows, D) and the transpose of (3 D, D).
        clock: in seconds.

    Returns:
        Whether the second path is faster by `LEAST_GAIN`, with errors up to `MOST_ERROR`.
    """
    tokens, weight = operands(width)
    seconds: dict[str, list[float]] = {"ieee": [], _ONEDNN: []}
    results: dict[str, Tensor] = {}
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        for _ in range(1 + _ROUNDS):  # the first one warms up
            for path, times in seconds.items():
                use(path)
                start = clock()
                results[path] = product(tokens, weight)
                times.append(clock() - start)
    if min(seconds["ieee"][1:]) < LEAST_GAIN * min(seconds[_ONEDNN][1:]):
        return False
    return _relative_error(results[_ONEDNN], tokens, weight) <= MOST_ERROR


def operands(width: int) -> tuple[Tensor, Tensor]:
    """Tokens (rows, D) and a weight (3 D, D) of about `_FLOP`, always the same."""
    rows = int(min(_MOST_ROWS, max(_LEAST_ROWS, _FLOP / (6 * width**2))))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, width, generator=generator)
    return tokens, torch.randn(3 * width, width, generator=generator)


def _relative_error(found: Tensor, tokens: Tensor, weight: Tensor) -> float:
    """Of the first rows, against float64."""
    exact = tokens[:_LEAST_ROWS].double() @ weight.double().T
    return float((found[:_LEAST_ROWS] - exact).norm() / exact.norm())


def _setting() -> _Precision | None:
    """Where PyTorch keeps the setting; None in versions without it, or without oneDNN."""
    backend: Any = torch.backends.mkldnn
    if not backend.is_available():
        return None
    found: _Precision | None = getattr(backend, "matmul", None)
    return found if hasattr(found, "fp32_precision") else None


def _enter(setting: _Precision) -> None:
    with _lock:
        _holders.append(setting.fp32_precision)
        setting.fp32_precision = _ONEDNN


def _leave(setting: _Precision) -> None:
    """Restore what the first of the passes that run at once has found, when the last one ends."""
    with _lock:
        first = _holders[0]
        _holders.pop()
        if not _holders:
            setting.fp32_precision = first
