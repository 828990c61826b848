"""Estimate the memory of a network's forward and backward pass without allocating it.

The passes run on fake tensors, which have shapes but no storage, while a mode counts live bytes
(https://docs.pytorch.org/docs/stable/torch.compiler_fake_tensor.html).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from splatfactory.schema import Precision

Forward = Callable[[nn.Module, Tensor], Tensor]
"""Maps network and images (B, V, 3, H, W) to the tensors that backward starts from."""


def activation_bytes(
    build: Callable[[], nn.Module],
    forward: Forward,
    shape: tuple[int, int, int, int, int],
    precision: Precision,
) -> int:
    """Peak bytes alive during the forward and backward pass.

    Weights, gradients and the images themselves do not count; bfloat16 copies of weights do.

    Args:
        build: builds the network, in training mode.
        forward: runs the network.
        shape: shape of the images: scenes, views, 3, height, width.
        precision: precision of the forward pass.
    """
    with FakeTensorMode():
        network, images = build(), torch.empty(shape)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_forget_gradient)
        memory = PeakMemory(network, images)
        with memory:
            is_mixed = precision is not Precision.float32
            with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
                result = forward(network, images)
            result.float().sum().backward()
        return memory.peak


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of tensors created while it is active, until they are freed.

    Args:
        network: its weights and existing gradients do not count.
        images: these do not count either.

    Attributes:
        alive: bytes alive now.
        peak: peak bytes alive.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        given = [images, *network.parameters(), *network.buffers(), *gradients]
        self._given = [tensor.untyped_storage() for tensor in given]
        self._known = {storage._cdata for storage in self._given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its outputs."""
        del types
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def _forget_gradient(parameter: Tensor) -> None:
    parameter.grad = None
