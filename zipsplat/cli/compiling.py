"""Compile kernels in other processes while a command reads its files."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from zipsplat.render.cpu.ahead import image_kernels, is_image_on_cpu

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from zipsplat.cli.console import Console
    from zipsplat.render.cpu.ahead import KernelsAhead


def compiling_images(
    device: str, renderer: str = "auto"
) -> AbstractContextManager[KernelsAhead | None]:
    """Compile the image kernels in other processes, if images will be rendered on the CPU.

    Enter it before anything imports PyTorch, so that the processes start at once.
    """
    return image_kernels() if is_image_on_cpu(device, renderer) else nullcontext()


def await_kernels(kernels: KernelsAhead | None, console: Console) -> None:
    """Wait until the kernels are compiled; shows a stage only if they are not yet."""
    if kernels is None:
        return
    is_running = kernels.is_running
    with console.stage("compiling for this processor, once") if is_running else nullcontext():
        kernels.wait()
