"""Just-in-time compilation of the kernels: once per machine, kept in the user's cache directory."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba as numba_module
from numba.core import caching as caching_module

numba: Any = numba_module  # its annotations differ between versions
caching: Any = caching_module
logger = logging.getLogger(__name__)
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
CACHE_VARIABLE = "ZIPSPLAT_KERNEL_CACHE"
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
    try:
        dispatcher._cache = _KernelCache(function)
    except RuntimeError:  # numba's answer when the cache directory cannot be written
        _announce_compilation("nowhere, as the cache directory cannot be written: it is not kept")
    compiled: _Function = dispatcher
    return compiled


def cache_directory() -> Path:
    """Where compiled kernels are kept: `$ZIPSPLAT_KERNEL_CACHE`, or the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local")
    elif sys.platform == "darwin":
        root = Path("~/Library/Caches")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return root.expanduser() / "zipsplat" / "kernels"


@functools.lru_cache(maxsize=8)
def sources_digest(folder: Path = _HERE) -> str:
    """Digest of all sources that a kernel is made of: here, in its own folder, the constants."""
    digest = hashlib.sha256()
    for path in sorted({*_CONSTANTS, *_HERE.glob("*.py"), *folder.glob("*.py")}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.lru_cache(maxsize=1)
def _announce_compilation(directory: str) -> None:
    """Say, once per process, why the first image takes long."""
    logger.warning(
        "compiling the CPU renderer for this processor, which takes some seconds once; "
        "the result is stored in %s",
        directory,
    )


class _KernelLocator(caching._CacheLocator):  # type: ignore[misc]
    """Tells numba where the compiled forms of one kernel lie and when they are out of date."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno
        self._digest = sources_digest(Path(function.__code__.co_filename).parent)
        self._path = cache_directory() / self._digest[:16]

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        return self._digest

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable[..., Any], _file: str) -> _KernelLocator | None:
        locator = cls(function)
        try:
            locator.ensure_cache_path()
        except (OSError, RuntimeError):  # RuntimeError: a user without a home directory
            return None
        return locator


class _KernelCacheFiles(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_KernelLocator]  # noqa: RUF012


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's function cache, for which no state of the disk is an error."""

    _impl_class = _KernelCacheFiles

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(signature, target_context)
        except Exception as error:  # a damaged file can fail in any way; it is written again
            logger.warning("replaced a damaged cache file in %s: %s", self.cache_path, error)
            with contextlib.suppress(OSError):
                self.flush()
            found = None
        if found is None:
            _announce_compilation(str(self.cache_path))
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            logger.warning("compiled kernels are not kept in %s: %s", self.cache_path, error)
