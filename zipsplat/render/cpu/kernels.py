"""A kernel: machine code from bitcode if it fits the arguments, else from numba."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from zipsplat.render.cpu.bitcode import load_kernel
from zipsplat.render.cpu.flat_calls import FlatFunction, flattened


class Kernel:
    """A function that is compiled at its first call.

    Args:
        dispatcher: result of `numba.njit`.
        file: where the function is defined.
    """

    def __init__(self, dispatcher: Any, file: Path) -> None:
        self.dispatcher, self.file = dispatcher, file
        self.py_func = dispatcher.py_func

    @property
    def name(self) -> str:
        """Name of the function and the values of its closure: "blend-3-False"."""
        cells = self.py_func.__closure__ or ()
        return "-".join([self.py_func.__name__, *(str(cell.cell_contents) for cell in cells)])

    @functools.cached_property
    def _flat(self) -> FlatFunction | None:
        return load_kernel(self.name, self.file)

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel."""
        if self._flat is not None:
            form, words = flattened(arguments)
            if form == self._flat.form:
                return self._flat(words)
        return self.dispatcher(*arguments)
