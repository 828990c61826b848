"""Unpickling restricted to tensors and plain data.

A pickle is a program; read naively, it may call any function. Here it can use only tensors, plain
containers and NumPy scalars. Everything else it names becomes an `Opaque` object, which stores only
that name; its module is not imported.

A few bytes of a pickle can also cost gigabytes or years, by copying or nesting shared objects. So
the program is scanned before it runs, copies are counted, and keys are never nested: the time to
hash a tuple that contains another one twice doubles per level.

Format: PEP 307 and PEP 3154 for pickles; the notes on serialization in PyTorch's
documentation for tensors.
"""

from __future__ import annotations

import builtins
import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import IO, Any, ClassVar

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
MAX_PROGRAM_BYTES = 64 << 20
_MAX_OPERATIONS = 1_000_000  # the largest released network needs about 50,000
_MAX_COPIED = 8_000_000  # elements and characters passed to calls in total
_MAX_CLASSES = 10_000
_MAX_DIMENSIONS = 64
_MAX_DTYPE_LETTERS = 8  # enough for "float64"; longer codes may be nested record dtypes


class Opaque:
    """Stand-in for an object of a foreign class; discards all its contents.

    Attributes:
        qualified_name: module and name of the class or function in the file.
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
        """Discard the state."""

    def __setitem__(self, key: object, value: object) -> None:
        """Discard an entry."""

    def append(self, value: object) -> None:
        """Discard an element."""

    def extend(self, values: object) -> None:
        """Discard elements."""

    def add(self, value: object) -> None:
        """Discard an element."""

    def __repr__(self) -> str:
        return f"<{self.qualified_name}, not built>"


class _StorageType:
    """Stand-in for a typed storage class; stores only its dtype."""

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

    __slots__ = ("_function", "_spend")

    def __init__(self, function: Callable[..., Any], spend: Callable[[object], None]) -> None:
        self._function = function
        self._spend = spend

    def __call__(self, *args: Any) -> Any:
        for value in args:
            self._spend(value)
        return self._function(*args)


def next_program(stream: IO[bytes]) -> bytes:
    """Scan the next pickle of a stream without running it; the stream is left at its end.

    Raises:
        ValueError: if it is damaged, too long, or has too many operations.
    """
    begin = stream.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > _MAX_OPERATIONS or stream.tell() - begin > MAX_PROGRAM_BYTES:
            raise ValueError(f"its pickle takes more than {_MAX_OPERATIONS} steps")
        if opcode.name.endswith("PUT") and int(argument or 0) > count:
            raise ValueError("its pickle memoizes more objects than it has")
    end = stream.tell()
    stream.seek(begin)
    return stream.read(end - begin)


# The Python implementation, because the one in C does not let us reject keys.
_Unpickler: Any = pickle._Unpickler


class TensorUnpickler(_Unpickler):  # type: ignore[misc]
    """An unpickler limited to the functions listed here.

    Args:
        program: the pickle, from `next_program`.
        storage: returns the bytes of the storage with a given key, at least `num_bytes`.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, program: bytes, storage: Callable[[str, int], torch.UntypedStorage]) -> None:
        super().__init__(io.BytesIO(program))
        self._storage = storage
        self._storages: dict[str | int, _Storage] = {}
        self._classes: dict[str, type[Opaque]] = {}
        self._copied = 0

    def find_class(self, module: str, name: str) -> Any:
        """Resolve a name in the pickle."""
        if (module, name) in _ALLOWED:
            return _Callable(_ALLOWED[module, name], self._spend)
        if module in ("torch", "torch.storage") and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if module in ("builtins", "__builtin__") and name in _PLAIN:
            return _Callable(_PLAIN[name], self._spend)
        return self._class(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """Resolve a storage beside the pickle."""
        kind, storage_type, key, _, num_elements, *view = pid
        if not (isinstance(kind, str) and kind == "storage") or any(view):
            raise ValueError("a stored object is not a tensor storage")
        if not isinstance(storage_type, _StorageType) or not isinstance(key, (str, int)):
            raise ValueError("a storage has no type or no key")
        if key not in self._storages:
            num_bytes = int(num_elements) * storage_type.dtype.itemsize
            data = self._storage(str(key), num_bytes)
            self._storages[key] = _Storage(data, storage_type.dtype, num_bytes)
        return self._storages[key]

    def _class(self, name: str) -> type[Opaque]:
        if name not in self._classes:
            if len(self._classes) >= _MAX_CLASSES:
                raise ValueError(f"it names more than {_MAX_CLASSES} classes")
            self._classes[name] = type("Opaque", (Opaque,), {"qualified_name": name})
        return self._classes[name]

    def _spend(self, value: object) -> None:
        """Count the elements that a call may copy."""
        self._copied += len(value) if isinstance(value, Sized) else 1
        if self._copied > _MAX_COPIED:
            raise ValueError("its pickle copies its parts too often")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [(key, value)])

    def _set_items(self) -> None:
        items = self.pop_mark()
        _put(self.stack[-1], list(zip(items[::2], items[1::2], strict=True)))

    def _dict(self) -> None:
        items = self.pop_mark()  # first, because it changes the target of `append`
        self.append(_dict_of(zip(items[::2], items[1::2], strict=True)))

    def _add_items(self) -> None:
        items = self.pop_mark()
        if isinstance(self.stack[-1], set):
            self.stack[-1].update(_set_of(items))
        elif not isinstance(self.stack[-1], Opaque):
            raise ValueError("elements are added to an object that is not a set")

    def _frozen_set(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(_set_of(items)))

    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict
    dispatch[pickle.ADDITEMS[0]] = _add_items
    dispatch[pickle.FROZENSET[0]] = _frozen_set


def _put(container: Any, items: list[tuple[Any, Any]]) -> None:
    """Set entries of a dictionary; an opaque object discards them."""
    if isinstance(container, dict):
        container.update(_dict_of(items))
    elif not isinstance(container, Opaque):
        raise ValueError("entries are set in an object that is not a dictionary")


def _is_flat(key: object) -> bool:
    """Whether a key is not nested, so that hashing it is fast."""
    if isinstance(key, tuple):
        return not any(isinstance(part, (tuple, frozenset)) for part in key)
    return not isinstance(key, frozenset)


def _hashable(key: Any) -> Any:
    if not _is_flat(key):
        raise ValueError("a key is nested")
    return key


def _dict_of(items: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    pairs = items.items() if isinstance(items, dict) else items
    return {_hashable(key): value for key, value in pairs}


def _ordered_dict_of(items: Iterable[tuple[Any, Any]] = ()) -> OrderedDict[Any, Any]:
    return OrderedDict(_dict_of(items))


def _set_of(items: Iterable[Any] = ()) -> set[Any]:
    return {_hashable(item) for item in items}


def _frozen_set_of(items: Iterable[Any] = ()) -> frozenset[Any]:
    return frozenset(_set_of(items))


def _list_of(items: object = ()) -> list[Any]:
    return list(_container(items))


def _tuple_of(items: object = ()) -> tuple[Any, ...]:
    return tuple(_container(items))


def _container(items: object) -> Iterable[Any]:
    """Check that an object may be iterated over; a tensor may have very many elements."""
    if not isinstance(items, (list, tuple, set, frozenset, dict)):
        raise ValueError(f"a sequence is built from {type(items).__name__}")
    return items


def _text_of(value: object = "") -> str:
    """`str` of a scalar; of nested containers it could be arbitrarily long."""
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"a string is built from {type(value).__name__}")
    return str(value)


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
    """`_rebuild_tensor_v3` of PyTorch: the tensor has its own dtype."""
    return _tensor(storage, offset, size, stride, dtype)


def _tensor(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    dtype: torch.dtype,
) -> Tensor:
    """A view of a storage; it must lie inside and not overlap itself."""
    numbers = (offset, *size, *stride)
    if len(size) > _MAX_DIMENSIONS or not all(isinstance(number, int) for number in numbers):
        raise ValueError("a tensor's size, stride or offset is not an integer")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(numbers) < 0:
        raise ValueError("a tensor has a negative size, stride or offset")
    num_bytes = math.prod(size) * dtype.itemsize
    if num_bytes and max((last + 1) * dtype.itemsize, num_bytes) > storage.num_bytes:
        raise ValueError(f"a tensor of {tuple(size)} does not fit into its storage")
    empty = torch.empty(0, dtype=dtype, device=storage.data.device)
    return empty.set_(storage.data, offset, size, stride)


def _parameter(data: Tensor, *_: object) -> Tensor:
    return data


class _NumpyDtype:
    """The dtype of a NumPy scalar; only plain numbers are supported."""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code if isinstance(code, str) and len(code) <= _MAX_DTYPE_LETTERS else "V"
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _numpy_scalar(dtype: object, data: object = None) -> Any:
    """Convert a NumPy scalar to a Python number; anything else is ignored."""
    if isinstance(dtype, _NumpyDtype) and isinstance(data, bytes):
        found = np.dtype(dtype.code)
        if found.kind in "biufc" and found.itemsize == len(data):
            found = found.newbyteorder(">") if dtype.order == ">" else found
            return np.frombuffer(data, found)[0].item()
    return Opaque()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as pickles of protocol 2 write them."""
    return text.encode("latin1") if encoding == "latin1" else b""


_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered_dict_of,
    ("torch", "Size"): _tuple_of,
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
_PLAIN: Mapping[str, Any] = {
    **{name: getattr(builtins, name) for name in ("bool", "complex", "float", "int")},
    "dict": _dict_of,
    "frozenset": _frozen_set_of,
    "list": _list_of,
    "set": _set_of,
    "str": _text_of,
    "tuple": _tuple_of,
}
