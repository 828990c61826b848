"""Just-in-time compilation of the kernels: once per machine, kept in the user's cache directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba as numba_module

from zipsplat.kernel_cache import keep_compiled
from zipsplat.render.cpu.kernels import Kernel
from zipsplat.render.cpu.sources import DEBUG, PACKAGE, sources_digest

numba: Any = numba_module  # its annotations differ between versions
# `_nrt`: without numba's allocator there are no reference counts. `no_cfunc_wrapper`: nothing calls
# kernels from C, and making those wrappers took time.
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "_nrt": False,
    "no_cfunc_wrapper": True,
    "boundscheck": DEBUG,
}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def inline(function: _Function) -> _Function:
    """Make a function part of every kernel that calls it; it costs no call.

    Only compiled code can call it: a wrapper for Python would hold a second copy of its code, and
    a quarter of the compiling time went into those.
    """
    compiled: _Function = numba.njit(forceinline=True, no_cpython_wrapper=True, **_OPTIONS)(
        function
    )
    return compiled


def kernel(function: _Function) -> _Function:
    """Compile a function at its first call, or take the compiled one from the cache.

    Kernels get all memory from their caller: without numba's allocator there are no reference
    counts, which took much of the time of some. They release the interpreter lock and run on the
    caller's thread alone: numba's own threads do not survive a fork, and stop the process when two
    threads start parallel loops at once.

    Only kernels of this package are cached: other programs could not read those of a script. A
    cached kernel is valid as long as no file changes that its own imports; see `sources`.
    """
    dispatcher = numba.njit(**_OPTIONS)(function)
    file = Path(function.__code__.co_filename)
    if PACKAGE not in file.parents:
        compiled: _Function = dispatcher
        return compiled
    keep_compiled(dispatcher, sources_digest(file), "the CPU renderer")
    ours: Any = Kernel(dispatcher, file)
    return ours  # type: ignore[no-any-return]
