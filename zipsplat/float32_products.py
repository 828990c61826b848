"""Float32 matrix products on a CPU by the faster of PyTorch's two libraries.

PyTorch's CPU builds contain MKL, the default for matrix products, and oneDNN. On processors that
are not Intel's, MKL takes a generic path; on a Zen 5 it reaches 40 % of oneDNN's speed.
`torch.backends.mkldnn.matmul.fp32_precision = "bf16"` hands products to oneDNN and permits it to
round their inputs to bfloat16. It rounds only where that is faster (with AMX); elsewhere its
products are as exact as MKL's. So at first use, speed and error of both are measured on products of
the network's shape, instead of keeping a list of processors.

Source: PyTorch's notes "Numerical accuracy", and the documentation of `torch.backends.mkldnn`.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_WIDTH = 192
"""Smaller networks lose more by oneDNN's overhead per product than they gain."""
LEAST_GAIN = 1.25
"""Least speed of one path relative to another; the margin is for disturbed timings."""
MOST_ERROR = 4e-6
"""Largest relative error of a product that counts as float32; bfloat16 has 2e-3, TF32 3e-4."""
SWITCH = "ZIPSPLAT_FLOAT32"
EXACT = "exact"

_ONEDNN = "bf16"
_UNDECIDED = ("none", "tf32")  # PyTorch's default, and what training sets for CUDA
_ROUNDS = 3
_LEAST_ROWS, _MOST_ROWS, _FLOP = 96, 1024, 1e9
_lock = threading.Lock()
_holders: list[str] = []  # the setting found by each forward pass inside `fastest`, in order


class _Precision(Protocol):
    fp32_precision: str


@contextmanager
def fastest(width: int, device: torch.device) -> Iterator[None]:
    """A context in which float32 products on the CPU take the faster path.

    It has no effect for networks below `LEAST_WIDTH`, on other devices, with a PyTorch that lacks
    the setting, if the user has chosen a precision (`torch.set_float32_matmul_precision` "highest"
    or "medium"), or with `ZIPSPLAT_FLOAT32=exact` in the environment.

    Args:
        width: D of the network, which determines the shape of its products.
        device: that it runs on.
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
    """The most frequent width of a network's linear layers, that of its blocks; 0 without any."""
    layers = network.modules() if isinstance(network, nn.Module) else ()
    widths = [min(m.in_features, m.out_features) for m in layers if isinstance(m, nn.Linear)]
    return Counter(widths).most_common(1)[0][0] if widths else 0


def is_active() -> bool:
    """Whether float32 products currently go through oneDNN."""
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


@functools.cache
def bfloat16_is_faster(width: int) -> bool:
    """Whether products of this width are faster in bfloat16 than in float32, by the faster path.

    Some processors have the instructions and are slower with them: an Emerald Rapids without AMX
    reaches 0.55 times the speed of float32. Measured once per process and width, in 0.1 to 0.3 s.
    """
    operands_float32 = operands(width)
    pairs = [operands_float32, tuple(operand.bfloat16() for operand in operands_float32)]
    with fastest(width, torch.device("cpu")):
        float32, bfloat16 = least_seconds(
            [functools.partial(functional.linear, *pair) for pair in pairs]
        )
    return float32 >= LEAST_GAIN * bfloat16


def least_seconds(
    works: Sequence[Callable[[], object]], clock: Callable[[], float] = time.thread_time
) -> list[float]:
    """Least time of each, measured alternately."""
    seconds: list[list[float]] = [[] for _ in works]
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        for _ in range(1 + _ROUNDS):  # the first one warms up
            for work, times in zip(works, seconds, strict=True):
                start = clock()
                work()
                times.append(clock() - start)
    return [min(times[1:]) for times in seconds]


def decide(
    width: int,
    use: Callable[[str], object],
    product: Callable[[Tensor, Tensor], Tensor] = functional.linear,
    clock: Callable[[], float] = time.thread_time,
) -> bool:
    """Measure both paths alternately and compare them.

    Args:
        width: D; the product is (rows, D) by (D, 3 D), like the projection to queries, keys and
            values.
        use: selects the path, "ieee" or "bf16".
        product: of (rows, D) and the transpose of (3 D, D).
        clock: returns seconds.

    Returns:
        Whether the second path is faster by `LEAST_GAIN`, with errors up to `MOST_ERROR`.
    """
    tokens, weight = operands(width)
    results: dict[str, Tensor] = {}

    def multiply(path: str) -> None:
        use(path)
        results[path] = product(tokens, weight)

    works = [functools.partial(multiply, path) for path in ("ieee", _ONEDNN)]
    exact, onednn = least_seconds(works, clock)
    if exact < LEAST_GAIN * onednn:
        return False
    return _relative_error(results[_ONEDNN], tokens, weight) <= MOST_ERROR


def operands(width: int) -> tuple[Tensor, Tensor]:
    """Fixed tokens (rows, D) and weight (3 D, D), whose product takes about `_FLOP`."""
    rows = int(min(_MOST_ROWS, max(_LEAST_ROWS, _FLOP / (6 * width**2))))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, width, generator=generator)
    return tokens, torch.randn(3 * width, width, generator=generator)


def _relative_error(found: Tensor, tokens: Tensor, weight: Tensor) -> float:
    """Relative error of the product's first rows, against float64."""
    exact = tokens[:_LEAST_ROWS].double() @ weight.double().T
    return float((found[:_LEAST_ROWS] - exact).norm() / exact.norm())


def _setting() -> _Precision | None:
    """The object that holds PyTorch's setting; None in versions without it, or without oneDNN."""
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
    """When the last of the concurrent passes ends, restore the setting that the first one found."""
    with _lock:
        first = _holders[0]
        _holders.pop()
        if not _holders:
            setting.fp32_precision = first
