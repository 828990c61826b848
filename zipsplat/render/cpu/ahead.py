"""Kernels compiled by other processes while this one does something else.

Python's interpreter lock would let a thread compile only while nothing else runs. Neither this
module nor the processes that compile import PyTorch, so they can start before it is loaded.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from zipsplat.kernel_folder import cache_directory
from zipsplat.processors import num_processors
from zipsplat.render.cpu.sources import sources_digest

# Compiling makes many objects and few cycles: without the collector it takes 0.9 of the time.
_COMMAND = "import gc; gc.disable(); from {0} import {1}; {1}({2})"


class KernelsAhead:
    """While entered, other processes compile some kernels, unless they are cached.

    The processes fill the cache on the disk; where there is no cache, none is started.

    Args:
        name: of these kernels, for a file which says that they are cached.
        sources: files that import all of them.
        calls: what compiles them, a process for each: module, function and argument.
    """

    def __init__(
        self, name: str, sources: Sequence[Path], calls: Sequence[tuple[str, ...]]
    ) -> None:
        self.marker = _marker(name, sources)
        self._commands = [_COMMAND.format(*call, "") for call in calls]
        if num_processors() == 1:  # several would only share it, and each has to load numba
            self._commands = ["; ".join(self._commands)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> KernelsAhead:
        if _can_be_cached() and not self.marker.is_file():
            with contextlib.suppress(OSError):
                for command in self._commands:
                    self._processes.append(
                        subprocess.Popen(
                            [sys.executable, "-c", command],
                            stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL,
                        )
                    )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes, also those that are not done."""
        if any(process.poll() is None for process in self._processes):
            for process in self._processes:
                process.kill()
        self.wait()

    @property
    def is_running(self) -> bool:
        """Whether there is something to wait for."""
        return any(process.poll() is None for process in self._processes)

    def wait(self) -> None:
        """Wait until the kernels are there; those that failed are compiled when needed."""
        succeeded = [process.wait() == 0 for process in self._processes]
        if succeeded and all(succeeded) and len(succeeded) == len(self._commands):
            with contextlib.suppress(OSError):
                self.marker.touch()


def image_kernels() -> KernelsAhead:
    """The kernels of a colour image without gradients; two processes of about equal work."""
    stages = "zipsplat.render.cpu.compile_stages"
    sources = [Path(__file__).with_name("compile_stages.py")]
    return KernelsAhead(
        "image", sources, [(stages, "project_and_sort"), (stages, "list_and_blend")]
    )


def is_image_on_cpu(device: str | None, renderer: str = "auto") -> bool:
    """Whether images are likely to be rendered here, judged without loading PyTorch.

    Args:
        device: as chosen by the user; None or "auto" if it was not.
        renderer: likewise.
    """
    if importlib.util.find_spec("numba") is None or renderer not in ("auto", "cpu"):
        return False
    on_gpu = device in (None, "auto") and importlib.util.find_spec("gsplat") is not None
    return not on_gpu and device in (None, "auto", "cpu")


def _marker(name: str, sources: Sequence[Path]) -> Path:
    """Says that the kernels of these sources are in the cache."""
    versions = f"{platform.python_version()}-{importlib.metadata.version('numba')}"
    return cache_directory() / f"{sources_digest(*sources)[:16]}-{versions}.{name}"


def _can_be_cached() -> bool:
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home directory
        return False
    return True
