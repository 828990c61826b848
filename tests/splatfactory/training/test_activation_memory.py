"""Memory on paper is memory in fact, and recomputing takes less of it for the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from splatfactory import train
from splatfactory.config import Config, Request, load
from splatfactory.dry_run import activations
from splatfactory.models import build_model
from splatfactory.training.activation_memory import PeakMemory
from zipsplat.model.compression import select_stride
from zipsplat.model.network import ZipSplatNetwork

RECOMPUTING = ("model.use_checkpoint=true", "model.backbone.use_checkpoint=true")
SIZE, SCENES, VIEWS = 84, 4, 3
LARGER = (f"data.batch_size={SCENES * VIEWS}", f"data.preprocessing.resize={SIZE}")


def passes(network: nn.Module, images: torch.Tensor) -> None:
    """Forward, and backward from the sum of everything that comes out."""
    if isinstance(network, ZipSplatNetwork):
        made = network(images, None, 1.0, select_stride)
    else:
        made = network(images)
    parts = (made.means, made.scales, made.quats, made.opacities, made.sh_coeffs)
    torch.cat([part.flatten().float() for part in parts]).sum().backward()


def measured(config: Config) -> tuple[int, list[torch.Tensor]]:
    """Peak bytes of real passes, the gradients not counted, and the gradients."""
    torch.manual_seed(0)
    network = build_model(config.model, with_initial_weights=True).network.train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    images = torch.rand(SCENES, VIEWS, 3, SIZE, SIZE)
    with PeakMemory(network, images) as memory:
        passes(network, images)
    assert memory.alive < 0.05 * memory.peak
    return memory.peak, [parameter.grad for parameter in trained]


@pytest.mark.parametrize("model", ["zipsplat", "pixel_aligned"])
def test_what_is_predicted_is_what_is_taken(workplace, model: str):
    config = load(Request("conf.yaml", (f"model={model}", *LARGER)))
    assert activations(config, 1) == pytest.approx(measured(config)[0], rel=0.02)


def test_recomputing_takes_less_memory_for_the_same_gradients(workplace):
    plain, recomputing = (
        load(Request("conf.yaml", (*LARGER, *more))) for more in ((), RECOMPUTING)
    )
    (much, expected), (less, gradients) = measured(plain), measured(recomputing)
    assert less < 0.6 * much
    assert len(gradients) == len(expected) > 10
    for found, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert activations(recomputing, 1) < 0.6 * activations(plain, 1)


def test_mixed_precision_takes_less(workplace):
    full, mixed = (
        load(Request("conf.yaml", (*LARGER, f"train.mixed_precision={name}")))
        for name in ("float32", "bfloat16")
    )
    assert activations(mixed, 1) < activations(full, 1)


def test_the_dry_run_says_what_recomputing_saves(workplace, capsys):
    for more in ((), RECOMPUTING):
        assert train.main(["x", "--conf", "conf.yaml", "--dry-run", "2", *more]) == 0
        text = capsys.readouterr().out
        assert "activations of the network, 1 × 3 views of 28 × 28 pixels" in text
        assert ("    with model.use_checkpoint=true" in text) == (not more)


def test_a_network_that_needs_values_is_said_to_be_unknown(workplace, capsys, monkeypatch):
    monkeypatch.setattr("splatfactory.dry_run.select_stride", lambda tokens, _num: tokens.numpy())
    assert train.main(["x", "--conf", "conf.yaml", "--dry-run", "1"]) == 0
    text = capsys.readouterr().out
    assert "3 views of 28 × 28 pixels: unknown (" in text
    assert "batches per epoch" in text
