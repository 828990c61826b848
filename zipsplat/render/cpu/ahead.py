"""Kernels compiled by other processes while this one does something else.

A thread could not compile at the same time: it would hold Python's interpreter lock. Neither this
module nor its processes import PyTorch, so they can start before it is loaded.
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

# Compiling makes many objects and few cycles: without the garbage collector it takes a tenth less.
_COMMAND = "import gc; gc.disable(); from {0} import {1}; {1}({2})"


class KernelsAhead:
    """Inside the context, other processes compile kernels that are not cached yet.

    The processes fill the cache on the disk; without a cache folder, none starts.

    Args:
        name: of this set of kernels, for the file that marks it as cached.
        sources: files that, together, import all of these kernels.
        calls: module, function and argument to call, each in a process of its own.
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
        """End the processes, even unfinished ones."""
        if any(process.poll() is None for process in self._processes):
            for process in self._processes:
                process.kill()
        self.wait()

    @property
    def is_running(self) -> bool:
        """Whether a process still compiles."""
        return any(process.poll() is None for process in self._processes)

    def wait(self) -> None:
        """Wait for the processes; a kernel that failed is compiled at its first use instead."""
        succeeded = [process.wait() == 0 for process in self._processes]
        if succeeded and all(succeeded) and len(succeeded) == len(self._commands):
            with contextlib.suppress(OSError):
                self.marker.touch()


def image_kernels() -> KernelsAhead:
    """The kernels of a colour image without gradients, in two processes of about equal work."""
    stages = "zipsplat.render.cpu.compile_stages"
    sources = [Path(__file__).with_name("compile_stages.py")]
    return KernelsAhead(
        "image", sources, [(stages, "project_and_sort"), (stages, "list_and_blend")]
    )


def is_image_on_cpu(device: str | None, renderer: str = "auto") -> bool:
    """Whether images are likely to be rendered here, judged without loading PyTorch.

    Args:
        device: as chosen by the user; None or "auto" if not chosen.
        renderer: likewise.
    """
    if importlib.util.find_spec("numba") is None or renderer not in ("auto", "cpu"):
        return False
    on_gpu = device in (None, "auto") and importlib.util.find_spec("gsplat") is not None
    return not on_gpu and device in (None, "auto", "cpu")


def _marker(name: str, sources: Sequence[Path]) -> Path:
    """The file that marks the kernels of these sources as cached."""
    versions = f"{platform.python_version()}-{importlib.metadata.version('numba')}"
    return cache_directory() / f"{sources_digest(*sources)[:16]}-{versions}.{name}"


def _can_be_cached() -> bool:
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home directory
        return False
    return True
