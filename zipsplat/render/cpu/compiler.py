"""Just-in-time compilation of the kernels: once per machine, kept in the user's cache directory."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba as numba_module

from zipsplat.kernel_cache import keep_compiled

numba: Any = numba_module  # its annotations differ between versions
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
_HERE = Path(__file__).parent
_PACKAGE = _HERE.parents[1]
_CONSTANTS = (_PACKAGE / "render" / "_rules.py", _PACKAGE / "harmonics.py")  # compiled in
_Function = TypeVar("_Function", bound=Callable[..., Any])


def inline(function: _Function) -> _Function:
    """Make a function part of every kernel that calls it; it costs no call."""
    compiled: _Function = numba.njit(forceinline=True, **_OPTIONS)(function)
    return compiled


def kernel(function: _Function) -> _Function:
    """Compile a function at its first call, or take the compiled one from the cache.

    Kernels get all memory from their caller: without numba's allocator there are no reference
    counts, which took much of the time of some. They release the interpreter lock and run on the
    caller's thread alone: numba's own threads do not survive a fork, and stop the process when two
    threads start parallel loops at once.

    Only kernels of this package are cached: other programs could not read those of a script. What
    a kernel calls must lie in this folder or in its own, or the cache would not see it change; so
    must its constants, or be listed in `_CONSTANTS`.
    """
    dispatcher = numba.njit(**_OPTIONS)(function)
    if _PACKAGE not in Path(function.__code__.co_filename).parents:
        other: _Function = dispatcher
        return other
    digest = sources_digest(Path(function.__code__.co_filename).parent)
    keep_compiled(dispatcher, digest, "the CPU renderer")
    compiled: _Function = dispatcher
    return compiled


@functools.lru_cache(maxsize=8)
def sources_digest(folder: Path = _HERE) -> str:
    """Digest of all sources that a kernel is made of: here, in its own folder, the constants."""
    digest = hashlib.sha256()
    for path in sorted({*_CONSTANTS, *_HERE.rglob("*.py"), *folder.glob("*.py")}):
        digest.update(path.read_bytes())
    return digest.hexdigest()
