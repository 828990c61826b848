"""Kernels are compiled by other processes while a command reads its files."""

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
    """Have other processes compile what renders images, if that will happen here on the CPU.

    Begin before anything imports PyTorch: they start at once.
    """
    return image_kernels() if is_image_on_cpu(device, renderer) else nullcontext()


def await_kernels(kernels: KernelsAhead | None, console: Console) -> None:
    """Wait until the kernels are compiled; shows a stage only if they are not yet."""
    if kernels is None:
        return
    is_running = kernels.is_running
    with console.stage("compiling for this processor, once") if is_running else nullcontext():
        kernels.wait()
