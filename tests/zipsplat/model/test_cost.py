"""Work is counted as PyTorch counts it; time and memory follow from it and from a measured rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat.model import cost
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.cost import BASE_BYTES, SHARE, Work, expect, measured_rate, work_of
from zipsplat.model.network import ZipSplatNetwork


@pytest.mark.parametrize(
    ("config", "views", "kept"),
    [(TINY, 2, 24), (TINY, 3, 5), (ZipSplatConfig.variant("vits"), 2, 12)],
)
def test_flop_are_those_of_the_counter(config: ZipSplatConfig, views: int, kept: int) -> None:
    network = tiny_network() if config is TINY else ZipSplatNetwork(config).eval()
    images = torch.rand(1, views, 3, 42, 56)
    # Fused attention is not counted, so it is written out for the count.
    with (
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        features = network.encode(images)
        network.decode_selected(features, torch.arange(kept)[None])
    compression = 1.0 if kept == 12 * views else (kept + 0.5) / (12 * views)
    found = work_of(config, views, (42, 56), compression)
    without_kmeans = found.flop - (compression < 1) * 12.0 * 12 * views * kept * config.backbone.dim
    assert without_kmeans == pytest.approx(counter.get_total_flops(), rel=1e-6)
    assert found.parameters == sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize(("views", "teraflop"), [(6, 5.754), (24, 28.63)])
def test_the_released_network(views: int, teraflop: float) -> None:
    found = work_of(ZipSplatConfig.variant("vitg"), views, (252, 252))
    assert found.flop == pytest.approx(teraflop * 1e12, rel=1e-3)
    assert found.parameters == pytest.approx(1.448e9, rel=1e-3)


def test_time_and_memory_follow_from_work_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(flop=6e12, parameters=1_000_000_000, activations=5e7)
    monkeypatch.setattr(cost, "work_of", lambda *_: work)
    monkeypatch.setattr(cost, "measured_rate", lambda *_: 1e11)
    single = expect(TINY, 6, (252, 252), torch.float32)
    half = expect(TINY, 6, (252, 252), torch.bfloat16)
    assert single.seconds == pytest.approx(60 / SHARE)
    assert single.memory_bytes == pytest.approx(4.2e9 + BASE_BYTES)
    assert half.memory_bytes == pytest.approx(2.1e9 + BASE_BYTES)


def test_more_views_take_more_than_in_proportion() -> None:
    config = ZipSplatConfig.variant("vitb")
    few, many = (work_of(config, views, (252, 252)) for views in (4, 16))
    assert 4 * few.flop < many.flop < 16 * few.flop
    assert many.activations == 4 * few.activations
    assert work_of(config, 4, (252, 252), 0.25).flop < few.flop


def test_the_best_of_some_products_is_the_rate() -> None:
    # Pairs of readings, before and after each product; the first one warms up.
    readings: Any = iter([0, 9, 10, 14, 20, 22, 30, 33, 40, 45])
    rate = measured_rate(TINY, torch.float32, lambda: float(next(readings)))
    assert rate == 2 * 1024 * 32 * 96 / 2
