"""Just-in-time compilation of the kernels: once per machine, kept in the user's cache directory."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba as numba_module
from numba.core import caching as caching_module

from zipsplat.render.cpu.cache_folder import cache_directory, make_own_folder
from zipsplat.render.cpu.kernel_cache import KernelFiles
from zipsplat.render.cpu.sources import DEBUG, PACKAGE, sources_digest

numba: Any = numba_module  # its annotations differ between versions
caching: Any = caching_module
logger = logging.getLogger(__name__)
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
    if PACKAGE not in Path(function.__code__.co_filename).parents:
        other: _Function = dispatcher
        return other
    try:
        make_own_folder(_folder_of(function))
        dispatcher._cache = _KernelCache(function)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home directory
        _announce_compilation(f"nowhere, as it is not safe or not possible there ({error})")
    compiled: _Function = dispatcher
    return compiled


@functools.lru_cache(maxsize=1)
def _announce_compilation(directory: str) -> None:
    """Say, once per process, why the first image takes long."""
    logger.warning(
        "compiling the CPU renderer for this processor, which takes some seconds once; "
        "the result is stored in %s",
        directory,
    )


def _folder_of(function: Callable[..., Any]) -> Path:
    """Where the compiled forms of a kernel lie."""
    return cache_directory() / sources_digest(Path(function.__code__.co_filename))[:16]


class _KernelLocator(caching._CacheLocator):  # type: ignore[misc]
    """Tells numba where the compiled forms of one kernel lie and when they are out of date."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno
        self._digest = sources_digest(Path(function.__code__.co_filename))
        self._path = _folder_of(function)

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], _file: str) -> _KernelLocator:
        return cls(function)


class _KernelCacheFiles(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_KernelLocator]  # noqa: RUF012


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's function cache, for which no state of the disk is an error."""

    _impl_class = _KernelCacheFiles

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = KernelFiles(Path(self._cache_path), self._impl.filename_base)

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(signature, target_context)
        except Exception as error:  # a damaged file can fail in any way; it is written again
            logger.warning("replaced a damaged cache file in %s: %s", self.cache_path, error)
            with contextlib.suppress(OSError):
                self.flush()
            found = None
        if found is None:
            _announce_compilation(str(Path(self.cache_path).parent))
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            logger.warning("compiled kernels are not kept in %s: %s", self.cache_path, error)
