"""Muon for matrices and AdamW for the rest, against the two of PyTorch."""

import copy
import io
import shutil

import pytest
import torch
from torch import nn

from splatfactory.config import Request, load
from splatfactory.models import build_model
from splatfactory.schema import OptimizerConfig
from splatfactory.training import muon as muon_module
from splatfactory.training.muon import orthogonalized
from splatfactory.training.optim import build_optimizer, parameter_groups, set_learning_rate
from tests.splatfactory.test_train import (
    OUTPUTS,
    assert_equal_weights,
    final_weights,
    forget_after,
)

CONFIG = OptimizerConfig(name="Muon", muon_lr_factor=2.0)
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch >= 2.9")


def model() -> nn.Module:
    """A hidden layer, one that is frozen, one that never gets a gradient, and a last layer."""
    torch.manual_seed(0)
    net = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(6, 6) for _ in range(3))})
    net["blocks"][1].requires_grad_(False)
    net["last"] = nn.Linear(6, 4)
    return net


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    return build_optimizer(parameter_groups(net, {"last": 0.5}, CONFIG), 1e-2, CONFIG)


def give_gradients(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name in ("blocks.0.weight", "blocks.0.bias", "last.weight", "last.bias"):
        parameter = net.get_parameter(name)
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        give_gradients(net, seed)
        set_learning_rate(optimizer, 1e-2 / (1 + seed))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def equal(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@needs_muon
def test_matrices_follow_pytorchs_muon_in_its_precision_and_the_rest_adamw(monkeypatch):
    monkeypatch.setattr(muon_module, "_precision", lambda _matrix: torch.bfloat16)
    net = model()
    expected, start = copy.deepcopy(net), copy.deepcopy(net)
    train(net, optimizer_of(net), range(3))
    muon = torch.optim.Muon(
        [expected["blocks"][0].weight],
        weight_decay=CONFIG.weight_decay,
        momentum=0.95,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    others = [expected["blocks"][0].bias, *expected["last"].parameters()]
    adamw = torch.optim.AdamW(
        [{"params": [parameter]} for parameter in others],
        weight_decay=CONFIG.weight_decay,
        betas=(0.9, 0.95),
        eps=CONFIG.eps,
    )
    for seed in range(3):
        give_gradients(expected, seed)
        lr = 1e-2 / (1 + seed)
        muon.param_groups[0]["lr"] = 2.0 * lr
        for group, scale in zip(adamw.param_groups, (1.0, 0.5, 0.5), strict=True):
            group["lr"] = scale * lr
        muon.step()
        adamw.step()
    assert equal(net, expected)
    for still in (1, 2):
        assert equal(net["blocks"][still], start["blocks"][still])


@pytest.mark.parametrize("shape", [(6, 6), (5, 40), (40, 5)])
def test_updates_are_orthogonal_in_full_precision_on_a_cpu(shape):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator)
    found = orthogonalized(matrix)
    assert found.dtype == torch.float32
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    singular = left.mT @ found.double() @ right.mT  # diagonal, if the singular vectors are kept
    values = singular.diagonal()
    assert ((values > 0.65) & (values < 1.25)).all()
    assert (singular - torch.diag(values)).abs().max() < 1e-4
    assert torch.equal(orthogonalized(torch.zeros(shape)), torch.zeros(shape))


def test_a_saved_state_goes_on_bit_for_bit():
    net = model()
    optimizer = optimizer_of(net)
    train(net, optimizer, range(2))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = copy.deepcopy(net)
    restored = optimizer_of(resumed)
    restored.load_state_dict(torch.load(file, weights_only=True))
    train(net, optimizer, range(2, 4))
    train(resumed, restored, range(2, 4))
    assert equal(net, resumed)
    assert "momentum_buffer" in restored.state[resumed["blocks"][0].weight]
    assert "exp_avg" in restored.state[resumed["last"].weight]


@pytest.mark.parametrize("kept", ["blocks.0.weight", "last"])
def test_one_kind_of_parameters_alone(kept: str):
    net = model()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(kept))
    start = copy.deepcopy(net)
    train(net, optimizer_of(net), range(1))
    moved = {
        name
        for name, parameter in net.named_parameters()
        if not torch.equal(parameter, start.get_parameter(name))
    }
    assert moved == {n for n, _ in net.named_parameters() if n.startswith(kept)}


def test_a_closure_is_evaluated_with_gradients():
    net = model()

    def closure() -> float:
        loss = net["blocks"][0](torch.ones(6)).square().sum()
        loss.backward()
        return loss.item()

    before = net["blocks"][0].weight.clone()
    optimizer = optimizer_of(net)
    with torch.no_grad():
        assert optimizer.step(closure) > 0
    assert not torch.equal(before, net["blocks"][0].weight)


def test_the_matrices_of_the_network():
    network = build_model(load(Request("quickstart", ())).model, with_initial_weights=True).network
    groups = parameter_groups(network, {}, CONFIG)
    matrices = {name for group in groups if group.is_matrix for name in group.names}
    flat = {name for name, parameter in network.named_parameters() if parameter.ndim == 2}
    spared = {name for name in flat if name.startswith("backbone.cam_enc.")}
    assert matrices == flat - spared - {"gaussian_head.gaussian_head.1.weight"}
    assert {group.lr_scale for group in groups if group.is_matrix} == {2.0}
    assert {group.lr_scale for group in groups if not group.is_matrix} == {1.0}


def test_other_optimizers_keep_their_groups():
    groups = parameter_groups(model(), {"last": 0.5}, OptimizerConfig(muon_lr_factor=2.0))
    assert [group.lr_scale for group in groups] == [1.0, 0.5]
    assert not any(group.is_matrix for group in groups)


def test_a_resumed_run_equals_one_never_stopped(run_training):
    extra = ["train.optimizer.name=Muon", "train.num_steps=2", "train.save_every_iter=1"]
    assert run_training("whole", *extra) == 0
    shutil.copytree(OUTPUTS / "whole", OUTPUTS / "parts")
    forget_after("parts", 1)
    assert run_training("parts", "--restore", conf=None) == 0
    assert_equal_weights("whole", "parts")
    assert run_training("adamw", "train.num_steps=2") == 0
    first, second = final_weights("whole"), final_weights("adamw")
    assert not all(torch.equal(first[name], second[name]) for name in first)
