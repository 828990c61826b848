"""The choice between two float32 products, with measurements that the tests make up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from zipsplat import float32_products
from zipsplat.float32_products import EXACT, SWITCH, decide, fastest, is_active, width_of

CPU = torch.device("cpu")
SETTING = torch.backends.mkldnn.matmul
MEASURED = float32_products.onednn_is_better
pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


class Machine:
    """A processor of which one knows how long each product takes, and how wrong it is."""

    def __init__(
        self, exact_s: float, fast_s: float, rounded_to: torch.dtype | None = None
    ) -> None:
        self.seconds = {"ieee": exact_s, "bf16": fast_s}
        self.rounded_to, self.path, self.now = rounded_to, "", 0.0

    def use(self, path: str) -> None:
        self.path = path

    def product(self, tokens: Tensor, weight: Tensor) -> Tensor:
        self.now += self.seconds[self.path]
        if self.path == "bf16" and self.rounded_to is not None:
            tokens, weight = (part.to(self.rounded_to).float() for part in (tokens, weight))
        return functional.linear(tokens, weight)

    def decides(self, width: int = 192) -> bool:
        return decide(width, self.use, self.product, lambda: self.now)


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As for a user: nothing is measured yet, nothing is forced; and all is as before after it."""
    monkeypatch.delenv(SWITCH)
    MEASURED.cache_clear()
    before = SETTING.fp32_precision
    yield
    assert SETTING.fp32_precision == before
    MEASURED.cache_clear()


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Measuring finds oneDNN better; lists the widths that it was asked for."""
    asked: list[int] = []

    def found(width: int) -> bool:
        asked.append(width)
        return True

    monkeypatch.setattr(float32_products, "onednn_is_better", found)
    return asked


def test_the_faster_exact_product_wins() -> None:
    assert Machine(exact_s=1.8, fast_s=1).decides()
    assert not Machine(exact_s=1, fast_s=1).decides()
    assert not Machine(exact_s=1.2, fast_s=1).decides()
    assert not Machine(exact_s=1, fast_s=2).decides()


def test_a_product_of_rounded_numbers_is_never_taken() -> None:
    assert not Machine(exact_s=9, fast_s=1, rounded_to=torch.bfloat16).decides()
    assert not Machine(exact_s=9, fast_s=1, rounded_to=torch.float16).decides()


@pytest.mark.parametrize("width", [192, 384, 1536])
def test_both_products_are_exact_here_or_told_apart(width: int) -> None:
    machine = Machine(exact_s=2, fast_s=1)
    before = SETTING.fp32_precision

    def use(path: str) -> None:
        machine.use(path)
        SETTING.fp32_precision = path

    found = decide(width, use, machine.product, lambda: machine.now)
    SETTING.fp32_precision = before
    assert found != torch.cpu._is_amx_tile_supported()


def test_measuring_restores_the_setting_and_happens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def decided(width: int, use: Callable[[str], object]) -> bool:
        use("bf16")
        calls.append(width)
        return True

    monkeypatch.setattr(float32_products, "decide", decided)
    assert float32_products.onednn_is_better(384)
    assert float32_products.onednn_is_better(384)
    assert calls == [384]
    assert not is_active()


def test_the_setting_lasts_as_long_as_the_work(faster: list[int]) -> None:
    assert not is_active()
    with fastest(384, CPU):
        assert is_active()
        with fastest(384, CPU):
            assert is_active()
        assert is_active()
    assert not is_active()
    with pytest.raises(RuntimeError, match="stop"), fastest(384, CPU):
        raise RuntimeError("stop")
    assert not is_active()
    assert faster == [384] * 3


def test_passes_that_overlap_restore_at_the_last_end(faster: list[int]) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with fastest(384, CPU):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with fastest(384, CPU):
        thread.start()
        assert inside.wait(60)
    assert is_active()
    leave.set()
    thread.join()
    assert not is_active()


@pytest.mark.parametrize(
    ("width", "device"), [(128, "cpu"), (191, "cpu"), (384, "cuda"), (384, "meta")]
)
def test_small_networks_and_other_devices_stay(faster: list[int], width: int, device: str) -> None:
    with fastest(width, torch.device(device)):
        assert not is_active()
    assert faster == []


def test_it_can_be_switched_off(faster: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, EXACT)
    with fastest(384, CPU):
        assert not is_active()
    monkeypatch.delenv(SWITCH)
    before = SETTING.fp32_precision
    SETTING.fp32_precision = "ieee"  # as set_float32_matmul_precision("highest") leaves it
    with fastest(384, CPU):
        assert not is_active()
    SETTING.fp32_precision = before
    assert faster == []


def test_old_pytorch_is_left_alone(faster: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(type(torch.backends.mkldnn), "matmul")
        with fastest(384, CPU):
            assert not is_active()
        assert faster == []


def test_a_slower_path_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32_products, "decide", lambda *_: False)
    with fastest(384, CPU):
        assert not is_active()


def test_the_width_is_that_of_the_blocks() -> None:
    block = nn.Sequential(nn.Linear(32, 96), nn.Linear(32, 32), nn.Linear(32, 128))
    assert width_of(nn.Sequential(block, nn.Linear(64, 64), nn.Linear(3, 7))) == 32
    assert width_of(nn.Identity()) == 0
    assert width_of(None) == 0
