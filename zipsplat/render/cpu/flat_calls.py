"""Calls of machine code with the arguments of kernels: tuples of arrays and numbers.

The code receives the address of 64-bit words and reads its arguments there, so nothing depends on
how a system passes arguments: two words for an array, its address and its length, and one for a
number, in the order in which they stand in the tuples. It writes its results behind them.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

# How kinds of numbers are written in a form; others have none and are left to numba.
_NUMBERS: dict[type, str] = {int: "q", np.int64: "q", float: "d", np.float64: "d", bool: "?"}
_OTHER = "-"
_WORDS = str.maketrans({"(": None, ")": None, "?": "q"})
_NOTHING: Any = ctypes.c_char * 0  # finds addresses four times as fast as `array.ctypes`


class FlatFunction:
    """Machine code as a function of flat arguments.

    Args:
        address: of the code.
        form: of the arguments that it takes; see `flattened`.
        returns: the same of its results: "", one number, or a tuple of numbers.
    """

    def __init__(self, address: int, form: str, returns: str) -> None:
        self.form = form
        self._run: Callable[..., int] = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(address)
        self._words = struct.Struct(_word_formats(form))
        self._results = struct.Struct(_word_formats(returns))
        self._returns = returns

    def __call__(self, words: list[Any]) -> Any:
        """Run the code.

        Raises:
            ArithmeticError: if it reports a fault.
        """
        packed = self._words.pack(*words) + bytes(self._results.size)
        memory = ctypes.create_string_buffer(packed, len(packed))
        if self._run(memory) != 0:
            raise ArithmeticError("a compiled kernel reported a fault; please report this")
        if not self._returns:
            return None
        results = self._results.unpack_from(memory, self._words.size)
        if self._returns.startswith("("):
            return results
        return bool(results[0]) if self._returns == "?" else results[0]


def flattened(arguments: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """The form of some arguments, and their words.

    The form lists the kinds of all numbers and arrays, with brackets around tuples and a star
    before arrays, whose kinds are NumPy's characters: "(*f*i)q". Arrays must be flat, contiguous
    and writable, as kernels expect them.
    """
    kinds: list[str] = []
    words: list[Any] = []
    _append(arguments, kinds, words)
    return "".join(kinds[1:-1]), words


def _append(values: tuple[Any, ...], kinds: list[str], words: list[Any]) -> None:
    kinds.append("(")
    for value in values:
        kind = type(value)
        if kind is np.ndarray and value.ndim == 1 and value.flags.carray:
            kinds.append("*" + value.dtype.char)
            words += (ctypes.addressof(_NOTHING.from_buffer(value)), len(value))
        elif issubclass(kind, tuple):
            _append(value, kinds, words)
        else:
            kinds.append(_NUMBERS.get(kind, _OTHER))
            words.append(value)
    kinds.append(")")


def _word_formats(form: str) -> str:
    """What `struct` calls the words of a form."""
    return "=" + re.sub(r"\*.", "qq", form).translate(_WORDS)
