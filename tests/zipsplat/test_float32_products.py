"""The choice between two float32 products, with measurements that the tests make up."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zipsplat.tiny_network import tiny_network
from zipsplat import ZipSplat, float32_products
from zipsplat.devices import choose_dtype
from zipsplat.float32_products import EXACT, SWITCH, decide, fastest, is_active, width_of
from zipsplat.model.layers import SHORT_SEQUENCE, SelfAttention

CPU = torch.device("cpu")
SETTING = torch.backends.mkldnn.matmul
MEASURED = (float32_products.onednn_is_better, float32_products.bfloat16_is_faster)
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


def forget() -> None:
    for measured in MEASURED:
        measured.cache_clear()


@pytest.fixture(autouse=True)
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As for a user: nothing is measured yet, nothing is forced; and all is as before after it."""
    monkeypatch.delenv(SWITCH)
    forget()
    before = SETTING.fp32_precision
    yield
    assert SETTING.fp32_precision == before
    forget()


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


def test_what_training_has_set_for_cuda_comes_back(faster: list[int]) -> None:
    before = SETTING.fp32_precision
    SETTING.fp32_precision = "tf32"
    with fastest(384, CPU):
        assert is_active()
    after = SETTING.fp32_precision
    SETTING.fp32_precision = before
    assert after == "tf32"
    assert faster == [384]


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


class Asked(nn.Module):
    """Keeps what the setting was while a network encodes and decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(is_active())
        return x


def test_the_predictors_use_it(faster: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32_products, "LEAST_WIDTH", 32)
    network, asked = tiny_network(), Asked()
    network.color_embed = nn.Sequential(network.color_embed, asked)
    network.gaussian_head.register_forward_pre_hook(lambda *_: asked.seen.append(is_active()))
    model = ZipSplat.from_network(network, device="cpu", dtype="float32", image_size=28)
    model(torch.rand(2, 3, 28, 28))
    assert asked.seen == [True, True]
    assert set(faster) == {model.width} == {32}


@pytest.mark.parametrize("num_tokens", [100, 1100])
def test_attention_of_many_tokens_in_bfloat16_goes_through_float32(
    faster: list[int], num_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    attention = functional.scaled_dot_product_attention

    def watched(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append(q.dtype)
        assert q.dtype == k.dtype == v.dtype
        return attention(q, k, v)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    torch.manual_seed(0)
    layer = SelfAttention(32, 2, qk_norm=True).to(torch.bfloat16)
    tokens = torch.randn(1, num_tokens, 32, dtype=torch.bfloat16)
    with torch.no_grad():
        plain = layer(tokens)
        with fastest(384, CPU):
            fast = layer(tokens)
    is_long = num_tokens > SHORT_SEQUENCE
    assert seen == [torch.bfloat16, torch.float32 if is_long else torch.bfloat16]
    assert fast.dtype == torch.bfloat16
    assert (fast.float() - plain.float()).norm() <= 0.01 * plain.float().norm()


@pytest.mark.parametrize(("has", "width", "gain", "dtype"), [
    (True, 768, 1.3, torch.bfloat16), (True, 1536, 1.3, torch.bfloat16),
    (True, 1536, 1.2, torch.float32), (True, 1536, 0.5, torch.float32),
    (True, 384, 9.0, torch.float32), (False, 1536, 9.0, torch.float32),
])  # fmt: skip
@pytest.mark.parametrize("instructions", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_large_networks_use_bfloat16_where_the_cpu_gains_by_it(
    has: bool,
    width: int,
    gain: float,
    dtype: torch.dtype,
    instructions: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measured(works: Sequence[Callable[[], object]]) -> list[float]:
        seconds = {torch.float32: gain, torch.bfloat16: 1.0}
        return [seconds[cast(Tensor, work()).dtype] for work in works]

    monkeypatch.setattr(float32_products, "onednn_is_better", lambda _width: False)
    monkeypatch.setattr(float32_products, "least_seconds", measured)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: has and name == instructions)
    assert choose_dtype("auto", CPU, width) == dtype
    assert choose_dtype("float32", CPU, width) == torch.float32


def test_the_least_of_alternate_times_counts_without_the_first() -> None:
    now, ran = [0.0], ""
    left = {"a": [0.1, 5, 3, 4], "b": [0.2, 2, 9, 8]}

    def work(name: str) -> None:
        nonlocal ran
        ran += name
        now[0] += left[name].pop(0)

    works = [functools.partial(work, name) for name in left]
    assert float32_products.least_seconds(works, lambda: now[0]) == pytest.approx([3, 2])
    assert ran == "abababab"


def test_bfloat16_is_compared_with_the_faster_float32(
    faster: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    active: list[bool] = []

    def measured(_works: Sequence[Callable[[], object]]) -> list[float]:
        active.append(is_active())
        return [2.0, 1.0]

    monkeypatch.setattr(float32_products, "least_seconds", measured)
    assert float32_products.bfloat16_is_faster(768)
    assert float32_products.bfloat16_is_faster(768)
    assert (faster, active) == ([768], [True])
