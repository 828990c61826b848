"""Process group: collectives for one or many processes.

`torchrun` starts and restarts the processes; torch's `DistributedDataParallel` averages gradients.
A single process opens no port and joins no group. Agreement on stopping and on the number of scenes
goes through gloo on the CPU, so it never waits for a GPU.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """The process group, seen from this process.

    Attributes:
        rank: rank of this process; rank 0 writes files.
        size: number of processes.
        local_rank: rank on this machine.
        device: device of this process.
    """

    rank: int
    size: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def sum(self, values: list[float]) -> list[float]:
        """Sum each number over all processes."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, values: list[float]) -> list[float]:
        """Maximum of each number over all processes."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def _reduce(self, values: list[float], op: Any) -> list[float]:
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, op=op)
        result: list[float] = tensor.tolist()
        return result

    def gather(self, value: Any) -> list[Any]:
        """Gather one object per process, in rank order, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def wrap(self, model: nn.Module, find_unused_parameters: bool) -> nn.Module:
        """Wrap the model for gradient averaging; a single process gets it unchanged."""
        if self.size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            model,
            device_ids=devices,
            broadcast_buffers=False,  # the model has no running statistics
            find_unused_parameters=find_unused_parameters,
            gradient_as_bucket_view=True,
        )


@contextmanager
def join(timeout_minutes: float, device: str | None = None) -> Iterator[World]:
    """Join the process group that `torchrun` describes; leave it at the end.

    Args:
        timeout_minutes: how long to wait for an unresponsive process.
        device: "cpu" or "cuda"; None uses a GPU if available.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    place = torch.device(kind, local_rank) if kind == "cuda" else torch.device(kind)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if size > 1:
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        timeout = timedelta(minutes=timeout_minutes)
        store, _, _ = next(rendezvous("env://", timeout=timeout))
        fresh = PrefixStore(agree_on_prefix(store, rank, size, timeout), store)
        dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=timeout)
    try:
        yield World(rank, size, local_rank, place)
    finally:
        if size > 1:
            dist.destroy_process_group()


def agree_on_prefix(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """Agree with the other processes on a fresh key prefix.

    `torchrun` shares its own store with the workers, and the same one after a restart: it
    then still holds addresses of dead workers, and joining the group hangs
    (https://github.com/pytorch/pytorch/issues/135712). Restart counts cannot tell the attempts
    apart, since the hosts of one job count differently. So each process picks a random name; rank 0
    announces its own, the others reply under it with theirs, and the replies are published. An
    announced name without this process's reply belongs to an earlier attempt.

    Args:
        store: store shared by all processes, possibly with keys of earlier attempts.
        rank: rank of this process.
        size: number of processes.
        timeout: how long to wait for the others.

    Raises:
        RuntimeError: if they do not reply in time.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set("leader", own)
        answers = [f"{own}/{other}" for other in range(1, size)]
        store.wait(answers, timeout)
        store.set(f"{own}/members", ",".join(store.get(key).decode() for key in answers))
        return own
    end = time.monotonic() + timeout.total_seconds()
    store.wait(["leader"], timeout)
    while time.monotonic() < end:
        leader: str = store.get("leader").decode()
        store.set(f"{leader}/{rank}", own)
        members = f"{leader}/members"
        if store.check([members]) and own in store.get(members).decode().split(","):
            return leader
        time.sleep(0.05)
    raise RuntimeError(f"process {rank} of {size} got no reply from process 0 within {timeout}")


def without_sync(model: nn.Module, is_last: bool) -> Any:
    """Skip gradient averaging until the last of several accumulated batches."""
    if isinstance(model, DistributedDataParallel) and not is_last:
        return model.no_sync()
    return nullcontext()


def mean_over_scenes(values: Tensor, num_scenes: float, world_size: int) -> Tensor:
    """This process's contribution to the mean over all scenes of a step.

    Gradient averaging divides by the number of processes, however many scenes each holds.

    Args:
        values: (B,) values of this process.
        num_scenes: scenes of the step, over all processes and accumulated batches.
        world_size: number of processes.
    """
    return values.sum() * (world_size / num_scenes)
