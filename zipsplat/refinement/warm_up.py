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
_MOST_OF_FEW = 12  # photos that train with depth, for which there are kernels of their own
_COMMAND = "from zipsplat.refinement.warm_up import compile_kernels; compile_kernels({})"


class KernelsAhead:
    """While entered, another process compiles the kernels of refinement, unless they are cached.

    Python's interpreter lock would let a thread compile only while nothing else runs. The process
    fills the cache on the disk; where there is no cache, nothing is started.

    Args:
        num_photos: about how many there will be.
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
        """End the process, also if it is not done."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether there is something to wait for."""
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Wait until the kernels are there; if that failed, they are compiled when needed."""
        if self._process is not None:
            self._process.wait()


def compile_kernels(num_views: int) -> None:
    """Refine a tiny scene, so that every kernel that refinement needs is in the cache.

    Args:
        num_views: images of the scene; up to 12 need kernels of their own.
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
    """Says that the kernels of these sources are in the cache."""
    digest = sources_digest(Path(__file__).parent)[:16]
    return cache_directory() / f"{digest}.refinement-{num_views}"


def _can_be_cached() -> bool:
    try:
        cache_directory().mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home directory
        return False
    return True
