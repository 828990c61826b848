"""Memory of the CPU rasterizer that is used again: it never shows, and is never used twice."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from zipsplat.render import RenderMode, RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import PLUGIN, memory, set_num_threads
from zipsplat.render.cpu.memory import PIECES, Pieces
from zipsplat.render.cpu.simd import aligned_empty

POISON = 0xFF  # float32 NaN, int32 -1, a set flag


@pytest.fixture(autouse=True)
def _everything_is_used_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """However small an array is; and two threads."""
    monkeypatch.setattr(memory, "_SMALLEST", 1)
    set_num_threads(2)
    PIECES.forget()
    yield
    set_num_threads(None)
    PIECES.forget()


def scene(seed: int, num: int = 5000) -> tuple[Splats, Viewpoints, list[Tensor]]:
    """Gaussians of which a block in the middle is behind the cameras; two views; the leaves."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.rand(num, 3, generator=generator) * 4 - torch.tensor([2.0, 2.0, -3.0])
    means[num // 3 : num // 2, 2] *= -1
    parts = [
        means,
        torch.randn(num, 4, generator=generator),
        0.02 + 0.06 * torch.rand(num, 3, generator=generator),
        torch.rand(num, generator=generator),
        torch.randn(num, 9, 3, generator=generator),
    ]
    leaves = [part.requires_grad_() for part in parts]
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 0, 3] = 0.3
    K = torch.tensor([[60.0, 0, 35], [0, 60, 25], [0, 0, 1]]).repeat(2, 1, 1)
    return Splats(*leaves), Viewpoints(pose, K, 70, 50), leaves


def everything(seed: int, mode: RenderMode = RenderMode.RGB_D) -> list[Tensor]:
    """Images, masks and gradients; harmonics beyond the degree have none."""
    splats, viewpoints, leaves = scene(seed)
    rendered = PLUGIN.render(splats, viewpoints, RenderSettings(mode=mode, sh_degree=1, masks=True))
    shown = [getattr(rendered, f.name) for f in fields(rendered)]
    images = [p for p in shown[:3] if p is not None]
    loss = torch.stack([(p * p).sum() for p in images]).sum()
    gradients = torch.autograd.grad(loss, leaves, materialize_grads=True)
    return [t.detach() for t in (*images, *shown[3:], *gradients)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def poison() -> int:
    """Spoil all memory that is not in use; how many bytes that was."""
    gc.collect()
    for piece in PIECES.kept:
        piece.fill(POISON)
    return sum(map(len, PIECES.kept))


@pytest.mark.parametrize("mode", [RenderMode.RGB, RenderMode.D, RenderMode.RGB_D])
def test_what_memory_held_never_shows(mode: RenderMode) -> None:
    wanted = [everything(seed, mode) for seed in range(2)]
    assert not any(t.isnan().any() for t in wanted[0])
    for seed in (0, 1, 0):
        assert poison() > 1e6
        taken = len(PIECES.kept)
        assert same(everything(seed, mode), wanted[seed])
        assert len(PIECES.kept) <= taken + 12  # others are not made each time


def test_results_are_the_callers() -> None:
    """Nothing that somebody still holds is written to by later calls."""
    first = everything(0)
    copies = [t.clone() for t in first]
    addresses = {t.data_ptr() for t in first}
    for seed in (1, 2):
        assert not addresses & {p.ctypes.data for p in PIECES.kept}
        poison()
        assert not addresses & {t.data_ptr() for t in everything(seed) if t.numel()}
    assert same(first, copies)
    del first
    gc.collect()
    assert addresses & {p.ctypes.data for p in PIECES.kept}


def test_a_part_keeps_the_whole() -> None:
    corner = memory.empty(1000).reshape(10, 100)[3:5, 7:9]
    address = corner.ctypes.data
    gc.collect()
    assert not PIECES.kept
    corner[:] = 1
    del corner
    assert [0 < address - p.ctypes.data < p.nbytes for p in PIECES.kept] == [True]
    again = torch.from_numpy(memory.empty(990))
    assert not PIECES.kept
    half = again[500:]
    del again
    assert not PIECES.kept
    del half
    assert len(PIECES.kept) == 1


def test_graphs_in_any_order() -> None:
    """Two images before the first gradients; gradients twice; and of gradients there are none."""
    wanted = [everything(seed) for seed in range(2)]

    def loss_of(seed: int) -> tuple[Tensor, list[Tensor]]:
        splats, viewpoints, leaves = scene(seed)
        settings = RenderSettings(mode=RenderMode.RGB_D, sh_degree=1)
        rendered = PLUGIN.render(splats, viewpoints, settings)
        poison()
        images = [p for p in (rendered.alpha, rendered.color, rendered.depth) if p is not None]
        return torch.stack([(p * p).sum() for p in images]).sum(), leaves

    (loss0, leaves0), (loss1, leaves1) = loss_of(0), loss_of(1)
    once = torch.autograd.grad(loss0, leaves0, retain_graph=True)
    poison()
    other = torch.autograd.grad(loss1, leaves1, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        other[0].sum().backward()
    poison()
    twice = torch.autograd.grad(loss0, leaves0)
    assert same(list(once), wanted[0][-5:])
    assert same(list(twice), wanted[0][-5:])
    assert same([g.detach() for g in other], wanted[1][-5:])
    del loss0, loss1, once, twice, other
    assert poison() > 1e6


def test_at_most_so_much_is_kept() -> None:
    pieces = Pieces(1000)
    for size in (400, 1001, 300, 200):
        pieces.give_back(np.empty(size, np.uint8))
    assert [len(p) for p in pieces.kept] == [400, 300, 200]
    pieces.give_back(np.empty(350, np.uint8))
    assert [len(p) for p in pieces.kept] == [300, 200, 350]
    assert len(pieces.take(290)) == 300  # the smallest that is large enough
    assert [len(p) for p in pieces.kept] == [200, 350]
    assert len(pieces.take(150)) < 200  # a fresh one: those kept are much too large, or too small
    assert len(pieces.take(351)) >= 351
    assert [len(p) for p in pieces.kept] == [200, 350]


def test_views_without_gradients_share_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(num: int, kind: type) -> np.ndarray:
        made.append(num)
        return aligned_empty(num, kind)

    monkeypatch.setattr(memory, "aligned_empty", counted)
    set_num_threads(1)  # another thread may hold the last view's arrays for a moment
    splats, viewpoints, _ = scene(0)
    pose, K = viewpoints.world_from_camera[:1], viewpoints.K[:1]

    def fresh_bytes(num_views: int) -> int:
        gc.collect()
        PIECES.forget()
        made.clear()
        views = Viewpoints(pose.repeat(num_views, 1, 1), K.repeat(num_views, 1, 1), 70, 50)
        with torch.no_grad():
            PLUGIN.render(splats, views, RenderSettings())
        return sum(made)

    one, eight = fresh_bytes(1), fresh_bytes(8)
    assert eight < 2 * one


def test_sizes_and_places() -> None:
    for size in (1, 15, 16, 17, 1000, 65_537, 1_000_003):
        for dtype in (np.uint8, np.int32, np.float64):
            array = memory.empty(size, dtype)
            assert (len(array), array.dtype) == (size, dtype)
            assert array.ctypes.data % 64 == 0
            array.fill(1)
            del array
            assert (memory.zeros(size, dtype) == 0).all()
    assert len(memory.empty(0)) == 0


def test_giving_back_never_waits() -> None:
    """As the last reference to an array can vanish while its thread holds the lock."""
    array = memory.empty(1000)
    with PIECES._lock:
        del array
    assert not PIECES.kept


def test_no_piece_is_used_twice_at_a_time() -> None:
    failures: list[int] = []

    def use(number: int) -> None:
        random = np.random.default_rng(number)
        held: list[np.ndarray] = []
        for _ in range(400):
            array = memory.empty(int(random.integers(1, 3000)), np.int32)
            array.fill(number)
            held.append(array)
            if len(held) > 6 and not (held.pop(int(random.integers(6))) == number).all():
                failures.append(number)
        failures.extend(number for array in held if not (array == number).all())

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert PIECES.kept


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(
    torch.get_num_threads() > 1,
    reason="PyTorch's OpenMP threads do not survive forks; set OMP_NUM_THREADS=1",
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_begins_with_nothing() -> None:
    """Even if the lock was held when it was born; and what it got from its parent it may drop."""
    held = memory.empty(1000)
    wanted = everything(0)
    assert PIECES.kept
    with PIECES._lock:
        child = os.fork()
        if child == 0:
            fine = not PIECES.kept
            del held
            fine = fine and len(PIECES.kept) == 1 and same(everything(0), wanted)
            os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(held) == 1000
