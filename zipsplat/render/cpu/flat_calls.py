"""Calls of machine code with the arguments of kernels: nested tuples of arrays and numbers.

The code receives one address and reads its arguments there as 64-bit words, so nothing depends on
the calling convention of a system. An array takes two words, its address and its length; a number
takes one. They are in the order of the tuples. The code writes its results behind them.
"""

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

# Characters of the types of numbers in a form. Other types have none; numba handles them.
_NUMBERS: dict[type, str] = {int: "q", np.int64: "q", float: "d", np.float64: "d", bool: "?"}
_OTHER = "-"
_WORDS = str.maketrans({"(": None, ")": None, "?": "q"})
_NOTHING: Any = ctypes.c_char * 0  # finds addresses four times as fast as `array.ctypes`


class FlatFunction:
    """Machine code as a function of flat arguments.

    Args:
        address: address of the code.
        form: form of its arguments; see `flattened`.
        returns: form of its results: nothing, one number, or a tuple of numbers.
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
            ArithmeticError: if the code reports a fault.
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
    """The form and the words of some arguments.

    The form lists the types of all numbers and arrays, with brackets around tuples and a star
    before the dtype character of an array: "(*f*i)q". Arrays must be one-dimensional, contiguous
    and writable, as kernels expect them; others get a form that no kernel has.
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
    """The format of `struct` for the words of a form."""
    return "=" + re.sub(r"\*.", "qq", form).translate(_WORDS)
