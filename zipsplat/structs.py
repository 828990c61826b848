"""Frozen dataclasses of tensors that behave like one batched tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

S = TypeVar("S", bound="BatchStruct")


class BatchStruct:
    """Base of frozen dataclasses whose fields have common leading dimensions.

    Fields are tensors of any dtype, other structs, or None if absent. A subclass declares in
    `event_dims` how many trailing dimensions of each field are its own; the leading ones are the
    batch shape, equal in all fields. Indexing, `torch.stack` and `torch.cat` count
    batch dimensions only.
    """

    event_dims: ClassVar[Mapping[str, int]]

    def _fields(self) -> dict[str, Any]:
        """The fields that are not None."""
        fields = {key: getattr(self, key) for key in self.event_dims}
        return {key: value for key, value in fields.items() if value is not None}

    def _batch_shape_of(self, key: str, value: Any) -> torch.Size:
        shape: torch.Size = value.shape[: value.ndim - self.event_dims[key]]
        return shape

    def _check_agreement(self, what: str, seen: Mapping[str, object]) -> None:
        if len(set(seen.values())) > 1:
            listing = ", ".join(f"{key}: {value}" for key, value in seen.items())
            raise ValueError(
                f"the fields of {type(self).__name__} must share one {what}, got {listing}"
            )

    def _first(self) -> tuple[str, Any]:
        return next(iter(self._fields().items()))

    @property
    def shape(self) -> torch.Size:
        """Batch shape."""
        return self._batch_shape_of(*self._first())

    @property
    def ndim(self) -> int:
        """Number of batch dimensions."""
        return len(self.shape)

    @property
    def device(self) -> torch.device:
        """Device of all fields."""
        device: torch.device = self._first()[1].device
        return device

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"an unbatched {type(self).__name__} has no length")
        return self.shape[0]

    def map(self: S, function: Callable[[Tensor], Tensor]) -> S:
        """Apply a function to every tensor, including those of nested structs.

        Args:
            function: keeps the trailing dimensions of each field.
        """
        return self.map_with_dims(lambda value, _: function(value))

    def to(self: S, *args: Any, **kwargs: Any) -> S:
        """Move or cast every field; arguments as for `torch.Tensor.to`."""
        return self.map(lambda value: value.to(*args, **kwargs))

    def cpu(self: S) -> S:
        """Copy to the CPU, unless it is there already."""
        return self.to("cpu")

    def cuda(self: S, device: int | str | torch.device | None = None) -> S:
        """Copy to a CUDA device, unless it is there already."""
        return self.map(lambda value: value.cuda(device))

    def detach(self: S) -> S:
        """The same values, detached from the autograd graph."""
        return self.map(Tensor.detach)

    def clone(self: S) -> S:
        """A copy with memory of its own."""
        return self.map(Tensor.clone)

    def __getitem__(self: S, index: Any) -> S:
        """Index the batch dimensions: integer, slice, mask, index tensor, `None`, `...`, tuples."""
        parts = index if isinstance(index, tuple) else (index,)
        if not any(part is Ellipsis for part in parts):
            parts = (*parts, Ellipsis)

        def pick(value: Tensor, dims: int) -> Tensor:
            full = (*parts, *[slice(None)] * dims)
            return value[full]

        return self.map_with_dims(pick)

    def map_with_dims(self: S, function: Callable[[Tensor, int], Tensor]) -> S:
        """As `map`; the function also receives the number of the field's own dimensions."""

        def change(value: Any, own: int) -> Any:
            if isinstance(value, BatchStruct):
                return value.map_with_dims(lambda inner, dims: function(inner, own + dims))
            return function(value, own)

        changed = {
            key: change(value, self.event_dims[key]) for key, value in self._fields().items()
        }
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Let `torch.stack`, `torch.cat` and `torch.concat` join lists of one class."""
        if func not in (torch.stack, torch.cat, torch.concat):
            return NotImplemented
        return _join(func, *args, **(kwargs or {}))


class TensorStruct(BatchStruct):
    """A `BatchStruct` of floating-point tensors of one dtype on one device, such as a pose.

    Raises:
        TypeError: if a field is not a floating-point tensor.
        ValueError: if dtypes, devices or batch shapes differ, or a field has too few dimensions.
    """

    def __post_init__(self) -> None:
        """Check that the fields are tensors that fit together."""
        name = type(self).__name__
        fields = self._tensors()
        for key, value in fields.items():
            if not isinstance(value, Tensor) or not value.is_floating_point():
                got = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"{name}.{key} must be a floating-point tensor, got {got}")
            if value.ndim < self.event_dims[key]:
                raise ValueError(
                    f"{name}.{key} must have at least {self.event_dims[key]} dimensions,"
                    f" got shape {tuple(value.shape)}"
                )
        self._check_agreement("dtype", {key: value.dtype for key, value in fields.items()})
        self._check_agreement("device", {key: value.device for key, value in fields.items()})
        shapes = {key: tuple(self._batch_shape_of(key, value)) for key, value in fields.items()}
        self._check_agreement("batch shape", shapes)

    def _tensors(self) -> dict[str, Tensor]:
        return {key: getattr(self, key) for key in self.event_dims}

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of all fields."""
        dtype: torch.dtype = self._first()[1].dtype
        return dtype


def _join(func: Callable[..., Tensor], tensors: Sequence[S], dim: int = 0) -> S:
    """Stack or concatenate structs along a batch dimension (negative counts from the last)."""
    kinds = {type(item) for item in tensors}
    first = tensors[0]
    if len(kinds) != 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"only structs of one class can be joined, got {names}")
    others = {f.name for f in dataclasses.fields(first)} - set(first.event_dims)  # type: ignore[arg-type]
    for key in others:
        first._check_agreement(key, {str(i): getattr(item, key) for i, item in enumerate(tensors)})
    limit = first.ndim + (1 if func is torch.stack else 0)
    if not -limit <= dim < limit:
        raise IndexError(f"dim must be in [{-limit}, {limit - 1}], got {dim}")
    fields = {
        key: func([getattr(item, key) for item in tensors], dim=dim % limit)
        for key in first._fields()
    }
    return dataclasses.replace(first, **fields)  # type: ignore[type-var]
