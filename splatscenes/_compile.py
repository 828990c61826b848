"""How the ray caster's inner loops are compiled, and when the compiled form is out of date."""

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

# No `fastmath`: it lets the compiler reorder sums, and the same seed must draw the same picture on
# another machine. `_nrt=False` leaves out the counting of references to arrays.
_OPTIONS = {"nogil": True, "error_model": "numpy"}
_RAY_OPTIONS = {**_OPTIONS, "_nrt": False}


def kernel(function: FunctionT) -> FunctionT:
    """Compile a function to machine code that runs without the interpreter lock."""
    return cast(FunctionT, _kept(numba.njit(**_OPTIONS)(function)))


def inlined(function: FunctionT) -> FunctionT:
    """As `per_ray` for what is small or has few callers: copied into them.

    Counting the references to the arrays of a place took two fifths of a picture's time, and
    passing them as arguments as much again.
    """
    return cast(FunctionT, numba.njit(forceinline=True, **_RAY_OPTIONS)(function))


def per_ray(function: FunctionT) -> FunctionT:
    """As `kernel` for what every ray runs through; such functions cannot create arrays."""
    return cast(FunctionT, _kept(numba.njit(**_RAY_OPTIONS)(function)))


def _kept(dispatcher: Any) -> Any:
    """Keep the compiled form on disk until any source file changes."""
    keep_compiled(dispatcher, sources_digest(_file_of(dispatcher)), "the scene generator")
    return dispatcher


def _file_of(dispatcher: Any) -> Path:
    return Path(dispatcher.py_func.__code__.co_filename)


@lru_cache(maxsize=8)
def sources_digest(file: Path, folder: Path = Path(__file__).parent) -> str:
    """Digest of all that a kernel is made of: its own file and all source files here."""
    return sha256_of(*sorted({file, *folder.rglob("*.py")}))
