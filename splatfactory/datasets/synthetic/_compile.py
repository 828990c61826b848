"""How the ray caster's inner loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

# `_nrt=False` leaves out the counting of references to arrays.
_RAY_OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def kernel(function: FunctionT) -> FunctionT:
    """Compile a function to machine code that runs without the interpreter lock.

    No `fastmath`: it lets the compiler reorder sums, and the same seed must draw the same picture
    on another machine.
    """
    return cast(FunctionT, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def inlined(function: FunctionT) -> FunctionT:
    """As `kernel` for what every ray calls: copied into its callers, arrays not counted.

    Counting the references to the arrays of a place took two fifths of a picture's time, and
    passing them as arguments as much again. Such functions cannot create arrays.
    """
    return cast(FunctionT, numba.njit(forceinline=True, **_RAY_OPTIONS)(function))


def per_ray(function: FunctionT) -> FunctionT:
    """As `inlined` for the outermost loops and for what is too large to be copied."""
    return cast(FunctionT, numba.njit(**_RAY_OPTIONS)(function))
