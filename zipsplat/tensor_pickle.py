"""Unpickling of tensors and plain data, and of nothing else.

A pickle is a program; read naively it may call any function. Here it can reach only the short list
below: tensors, plain containers and NumPy scalars. Whatever else it names becomes an `Opaque`
object, which remembers that name and nothing more; the module it belongs to is not even imported.

Format: PEP 307 and PEP 3154 for pickles; the notes on serialization in PyTorch's
documentation for tensors.
"""

from __future__ import annotations

import builtins
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

_STORAGE_DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
}
_PLAIN = {"bool", "complex", "dict", "float", "frozenset", "int", "list", "set",
          "str", "tuple"}  # fmt: skip


class Opaque:
    """Stands for an object of a class that is not built; takes and forgets everything.

    Attributes:
        qualified_name: module and name of the class or function that the file asked for.
    """

    qualified_name = ""

    def __new__(cls, *_args: object, **_kwargs: object) -> Opaque:
        """Accept any construction."""
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        """Accept any construction."""

    def __call__(self, *_args: object, **_kwargs: object) -> Opaque:
        """Call nothing."""
        return self

    def __setstate__(self, state: object) -> None:
        """Forget the state."""

    def __setitem__(self, key: object, value: object) -> None:
        """Forget an entry."""

    def append(self, value: object) -> None:
        """Forget an element."""

    def extend(self, values: object) -> None:
        """Forget elements."""

    def add(self, value: object) -> None:
        """Forget an element."""

    def __repr__(self) -> str:
        return f"<{self.qualified_name}, not built>"


class _StorageType:
    """Stands for a typed storage class; knows its dtype only."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


class _Storage:
    """A storage that the pickle refers to."""

    def __init__(self, data: torch.UntypedStorage, dtype: torch.dtype, num_bytes: int) -> None:
        self.data = data
        self.dtype = dtype
        self.num_bytes = num_bytes


class _Callable:
    """A function that a pickle may call but not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class TensorUnpickler(pickle.Unpickler):
    """An unpickler that can name nothing but what is listed here.

    Args:
        stream: the pickle.
        storage: the bytes of the storage with a given key, at least so many.
    """

    def __init__(
        self, stream: IO[bytes], storage: Callable[[str, int], torch.UntypedStorage]
    ) -> None:
        super().__init__(stream)
        self._storage = storage
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What the pickle may use under a name."""
        if (module, name) in _ALLOWED:
            return _Callable(_ALLOWED[module, name])
        if module in ("torch", "torch.storage") and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module in ("builtins", "__builtin__") and name in _PLAIN:
            return _Callable(getattr(builtins, name))
        return type("Opaque", (Opaque,), {"qualified_name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage beside the pickle."""
        kind, storage_type, key, _, num_elements = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise ValueError(f"unknown kind of stored object {kind!r}")
        if key not in self._storages:
            num_bytes = int(num_elements) * storage_type.dtype.itemsize
            data = self._storage(str(key), num_bytes)
            self._storages[key] = _Storage(data, storage_type.dtype, num_bytes)
        return self._storages[key]


def _untyped_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    """`_rebuild_tensor` and `_rebuild_tensor_v2` of PyTorch: the dtype is the storage's."""
    return _tensor(storage, offset, size, stride, storage.dtype)


def _typed_tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _requires_grad: bool,
    _hooks: object,
    dtype: torch.dtype,
    *_: object,
) -> Tensor:
    """`_rebuild_tensor_v3` of PyTorch: the dtype comes with the tensor."""
    return _tensor(storage, offset, size, stride, dtype)


def _tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    dtype: torch.dtype,
) -> Tensor:
    """A view of a storage, if it lies inside."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor has a negative size, stride or offset")
    if 0 not in size and (last + 1) * dtype.itemsize > storage.num_bytes:
        raise ValueError(f"a tensor of {tuple(size)} does not fit into its storage")
    return torch.empty(0, dtype=dtype).set_(storage.data, offset, size, stride)


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


class _NumpyDtype:
    """The dtype of a NumPy scalar, of which only plain numbers are read."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _numpy_scalar(dtype: object, data: object = None) -> Any:
    """A NumPy scalar as a Python number; anything else is left unread."""
    if isinstance(dtype, _NumpyDtype) and isinstance(data, bytes):
        found = np.dtype(dtype.code)
        if found.kind in "biufc" and found.itemsize == len(data):
            found = found.newbyteorder(">") if dtype.order == ">" else found
            return np.frombuffer(data, found)[0].item()
    return Opaque()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How pickles of protocol 2 write bytes."""
    return text.encode("latin1") if encoding == "latin1" else b""


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _untyped_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _untyped_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _NumpyDtype,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
}
