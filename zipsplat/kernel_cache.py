"""Compiled kernels on disk: one file each, of the user's own, with a checksum.

A compiled kernel is machine code, and the pickle around it is a program: whoever can write such a
file can run anything. So files are read only from folders that the user owns and nobody else can
write to; a kernel whose file has changed is compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import logging
import pickle
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba as numba_module
from numba.core import caching as caching_module
from numba.core import serialize as serialize_module

from zipsplat.kernel_folder import (
    cache_directory,
    make_own_folder,
    read_checked,
    write_checked,
)

caching: Any = caching_module
serialize: Any = serialize_module  # its annotations differ between versions
logger = logging.getLogger(__name__)


def keep_compiled(dispatcher: Any, digest: str, name: str) -> None:
    """Cache the machine code of a compiled function on disk.

    Without a folder that is safe and writable, each process compiles it.

    Args:
        dispatcher: result of `numba.njit`.
        digest: of all sources of its machine code; numba itself would check the function's own file
            only, and keep running old code after a change in another.
        name: of what is compiled, for messages: "the CPU renderer".
    """
    try:
        folder = make_own_folder(cache_directory() / digest[:16])
        dispatcher._cache = _KernelCache(dispatcher.py_func, folder, name)
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home directory
        _announce_compilation(name, f"nowhere, as it is not safe or not possible there ({error})")


class KernelFiles:
    """The compiled forms of one function, by signature and processor.

    Args:
        folder: owned by the user; see `kernel_folder.make_own_folder`.
        base: beginning of their names.
    """

    def __init__(self, folder: Path, base: str) -> None:
        self.folder, self.base = folder, base

    def flush(self) -> None:
        """Remove them."""
        for path in self.folder.glob(glob.escape(self.base) + ".*.nbc"):
            path.unlink(missing_ok=True)

    def load(self, key: object) -> Any:
        """What was saved under a key, or None if there is nothing or the file has changed since."""
        path = self._path(key)
        try:
            payload = read_checked(path)
        except OSError:
            return None
        if payload is None:
            logger.warning("replaced a damaged cache file in %s: %s", self.folder, path.name)
            return None
        found, data = pickle.loads(payload)
        return data if found == key else None

    def save(self, key: object, data: object) -> None:
        """Save a compiled form.

        Raises:
            OSError: if it cannot be written.
        """
        write_checked(self._path(key), serialize.dumps((key, data)))

    def _path(self, key: object) -> Path:
        name = hashlib.sha256(f"{_versions()} {key!r}".encode()).hexdigest()[:16]
        return self.folder / f"{self.base}.{name}.nbc"


@functools.cache
def _versions() -> str:
    return f"{numba_module.__version__} {platform.python_version()}"


@functools.lru_cache(maxsize=8)
def _announce_compilation(name: str, place: str) -> None:
    """Log, once per process, why the first use takes long."""
    logger.warning(
        "compiling %s for this processor, which takes some seconds once; "
        "the result is stored in %s",
        name,
        place,
    )


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Tells numba which folder holds the compiled forms of a function."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._line = folder, 0

    def from_function(self, function: Callable[..., Any], _file: str) -> _Locator:
        self._line = function.__code__.co_firstlineno
        return self

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return str(self._line)


class _CacheImplementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, folder: Path, function: Callable[..., Any]) -> None:
        self._locator_classes = [_Locator(folder)]
        super().__init__(function)


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's function cache, except that nothing on the disk makes it fail."""

    def __init__(self, function: Callable[..., Any], folder: Path, name: str) -> None:
        self._impl_class = functools.partial(_CacheImplementation, folder)
        super().__init__(function)
        self._cache_file = KernelFiles(folder, self._impl.filename_base)
        self._what = name

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(signature, target_context)
        except Exception as error:  # a damaged file can fail in any way; it is written again
            logger.warning("replaced a damaged cache file in %s: %s", self.cache_path, error)
            with contextlib.suppress(OSError):
                self.flush()
            found = None
        if found is None:
            _announce_compilation(self._what, str(cache_directory()))
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            logger.warning("compiled kernels are not kept in %s: %s", self.cache_path, error)
