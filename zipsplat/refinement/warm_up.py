"""Compile the kernels of refinement in a second process while cameras are estimated."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import torch

from zipsplat.camera import Camera
from zipsplat.kernel_cache import cache_directory
from zipsplat.pose import Pose
from zipsplat.refinement.loop import refine
from zipsplat.refinement.settings import RefinementSettings
from zipsplat.render.cpu.compiler import sources_digest

_WIDTH, _HEIGHT = 48, 36
_FEW, _MANY = 4, 14
_MOST_OF_FEW = 12  # photos; up to here training renders depth, which needs its own kernels
_COMMAND = "from zipsplat.refinement.warm_up import compile_kernels; compile_kernels({})"


class KernelsAhead:
    """Context in which another process compiles the kernels of refinement, unless cached.

    A thread would compete for Python's interpreter lock. The process fills the cache on disk;
    without a disk cache nothing is started.

    Args:
        num_photos: approximate number of photos.
    """

    def __init__(self, num_photos: int) -> None:
        self._num_views = _MANY if num_photos > _MOST_OF_FEW else _FEW
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> KernelsAhead:
        if _can_be_cached() and not _marker(self._num_views).is_file():
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _COMMAND.format(self._num_views)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process, even if it has not finished."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether the process is still compiling."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Wait until the kernels are cached; if that failed, they are compiled at first use."""
        if self._process is not None:
            self._process.wait()


def compile_kernels(num_views: int) -> None:
    """Refine a tiny scene, which puts every kernel of refinement into the cache.

    Args:
        num_views: images of the scene; up to 12 need additional kernels.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(num_views, 3, _HEIGHT, _WIDTH, generator=generator)
    cameras = Camera.from_focal(torch.full((num_views,), 40.0), w=_WIDTH, h=_HEIGHT)
    positions = torch.zeros(num_views, 3)
    positions[:, 0] = torch.linspace(-0.5, 0.5, num_views)
    poses = Pose(torch.eye(3).expand(num_views, 3, 3), positions)
    settings = RefinementSettings(seconds=None, steps=3, max_gaussians=200, renderer="cpu")
    refine(None, images, cameras, poses, settings=settings)
    _marker(num_views).touch()


def _marker(num_views: int) -> Path:
    """The marker file for cached kernels of the present sources."""
    digest = sources_digest(Path(__file__).parent)[:16]
    return cache_directory() / f"{digest}.refinement-{num_views}"


def _can_be_cached() -> bool:
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home directory
        return False
    return True
