"""Compilation of the ray caster's inner loops, and invalidation of the compiled code."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba as numba_module

from zipsplat.digests import sha256_of
from zipsplat.kernel_cache import keep_compiled

numba: Any = numba_module  # its annotations differ between versions
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

# No `fastmath`: it lets the compiler reorder sums, and the same seed must render the same image on
# every machine. `_nrt=False` disables reference counting of arrays.
_OPTIONS = {"nogil": True, "error_model": "numpy"}
_RAY_OPTIONS = {**_OPTIONS, "_nrt": False}


def kernel(function: FunctionT) -> FunctionT:
    """Compile a function to machine code that runs without the GIL."""
    return cast(FunctionT, _kept(numba.njit(**_OPTIONS)(function)))


def inlined(function: FunctionT) -> FunctionT:
    """Like `per_ray`, for functions that are small or have few callers: inlined into them.

    Reference counting of a world's arrays took two fifths of the render time, and
    passing them as arguments as much again.
    """
    return cast(FunctionT, numba.njit(forceinline=True, **_RAY_OPTIONS)(function))


def per_ray(function: FunctionT) -> FunctionT:
    """Like `kernel`, for functions called per ray; they cannot allocate arrays."""
    return cast(FunctionT, _kept(numba.njit(**_RAY_OPTIONS)(function)))


def _kept(dispatcher: Any) -> Any:
    """Cache the compiled code on disk until any source file changes."""
    keep_compiled(dispatcher, sources_digest(_file_of(dispatcher)), "the scene generator")
    return dispatcher


def _file_of(dispatcher: Any) -> Path:
    return Path(dispatcher.py_func.__code__.co_filename)


@lru_cache(maxsize=8)
def sources_digest(file: Path, folder: Path = Path(__file__).parent) -> str:
    """Digest of everything a kernel depends on: its own file and all source files here."""
    return sha256_of(*sorted({file, *folder.rglob("*.py")}))
