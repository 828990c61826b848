"""How the ray caster's inner loops are compiled, and when the compiled form is out of date."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba as numba_module

numba: Any = numba_module  # its annotations differ between versions
logger = logging.getLogger(__name__)
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


@lru_cache(maxsize=1)
def sources_digest(folder: Path = Path(__file__).parent) -> str:
    """Digest of all source files here: a kernel is made of more files than the one it lies in."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kept(dispatcher: Any) -> Any:
    """Keep the compiled form on disk until any source file changes.

    numba itself looks at the file of the function only, and would go on running old code after a
    change in a file that it calls into.
    """
    try:
        dispatcher.enable_caching()
    except RuntimeError:  # numba's answer when no cache directory can be written
        logger.warning("compiled code of the scene generator is not kept: no writable directory")
        return dispatcher
    files = dispatcher._cache._cache_file
    files._source_stamp = f"{files._source_stamp} {sources_digest()}"
    return dispatcher
