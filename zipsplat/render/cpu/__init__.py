"""The tiled rasterizer for CPUs: colour, depth, opacity and all gradients; no C++ compiler needed.

Everything is computed in float32, whatever the dtype of the scene; results have the scene's dtype.
Gradients reach means, quaternions, scales, opacities, harmonics, poses and backgrounds, not the
intrinsics. A Gaussian with a parameter that is not finite, or whose projection or colour overflows
float32, is left out of that view and gets zero gradient from it.

The kernels are compiled at their first use, once per machine; see `warm_up`. Threads: see
`set_num_threads`. `docs/rasterizer.md` explains how it works.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zipsplat.render.cpu.num_threads import (
        get_num_threads,
        set_num_threads,
        torch_on_one_thread,
    )
    from zipsplat.render.cpu.renderer import PLUGIN, CpuRenderer, warm_up

__all__ = [
    "PLUGIN",
    "CpuRenderer",
    "get_num_threads",
    "set_num_threads",
    "torch_on_one_thread",
    "warm_up",
]

_LAZY = {
    "PLUGIN": "renderer",
    "CpuRenderer": "renderer",
    "warm_up": "renderer",
    "get_num_threads": "num_threads",
    "set_num_threads": "num_threads",
    "torch_on_one_thread": "num_threads",
}


def __getattr__(name: str) -> object:
    """Import public names at first use: processes that only compile kernels do without PyTorch."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
