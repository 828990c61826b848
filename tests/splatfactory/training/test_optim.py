"""Parameter groups, averaged weights."""

import copy

import pytest
import torch
from torch import nn

from splatfactory.schema import OptimizerConfig
from splatfactory.training.optim import (
    AveragedWeights,
    build_optimizer,
    freeze_unmatched,
    gradient_norm,
    parameter_groups,
    set_learning_rate,
)


def model() -> nn.Module:
    net = nn.ModuleDict(
        {
            "backbone": nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)),
            "head": nn.Linear(3, 1),
            "norm": nn.LayerNorm(1),
        }
    )
    net["head"].bias.requires_grad_(False)
    return net


def test_groups_follow_the_first_matching_pattern_in_order_of_appearance():
    groups = parameter_groups(model(), {"head+other": 0.5, "backbone": 0.1}, OptimizerConfig())
    assert [group.lr_scale for group in groups] == [0.1, 0.5, 1.0]
    assert groups[1].names == ("head.weight",)
    assert sum(group.num_values for group in groups) == 6 + 3 + 6 + 3 + 2
    assert all(group.weight_decay == 0.05 for group in groups)


def test_decay_exclusions_spare_norms_and_biases():
    groups = parameter_groups(model(), {}, OptimizerConfig(decay_exclusions=True))
    spared = {name for group in groups if group.weight_decay == 0 for name in group.names}
    # The norm of a Sequential has a number for a name; only its bias can be recognised.
    assert spared == {"backbone.0.bias", "backbone.1.bias", "norm.weight", "norm.bias"}


def test_decay_exclusions_of_the_network():
    from splatfactory.config import Request, load
    from splatfactory.models import build_model

    network = build_model(load(Request("quickstart", ())).model, with_initial_weights=True).network
    groups = parameter_groups(network, {}, OptimizerConfig(decay_exclusions=True))
    decayed = {name for group in groups if group.weight_decay for name in group.names}
    one_dimensional = {name for name, p in network.named_parameters() if p.ndim == 1}
    tokens = {f"backbone.backbone.{name}" for name in ("cls_token", "camera_token", "pos_embed")}
    assert decayed == {n for n, _ in network.named_parameters()} - one_dimensional - tokens


def test_learning_rate_is_scaled_per_group():
    groups = parameter_groups(model(), {"backbone": 0.1}, OptimizerConfig())
    optimizer = build_optimizer(groups, 1.0, OptimizerConfig())
    set_learning_rate(optimizer, 2.0)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 2.0]
    with pytest.raises(ValueError, match="AdamW"):
        build_optimizer(groups, 1.0, OptimizerConfig(name="SGD"))


def test_freezing_by_name():
    net = model()
    freeze_unmatched(net, "^head")
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["head.weight"]
    with pytest.raises(ValueError, match="matches no"):
        freeze_unmatched(net, "nothing")


def test_gradient_norm_by_hand():
    net = model()
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    count = sum(parameter.numel() for parameter in net.parameters())
    torch.testing.assert_close(gradient_norm(net.parameters()), torch.tensor(2.0 * count**0.5))


def test_average_follows_the_weights():
    net = model()
    average = AveragedWeights(net, 0.9)
    before = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        net["head"].weight.add_(1.0)
        net["head"].bias.add_(1.0)
    average.update(net, step=10**6)
    state = average.state(net)
    torch.testing.assert_close(state["head.weight"], before["head.weight"] + 0.1)
    torch.testing.assert_close(state["head.bias"], before["head.bias"] + 1.0)  # frozen: as it is


def test_early_averages_follow_faster():
    net = nn.Linear(1, 1)
    average = AveragedWeights(net, 0.9999)
    before = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1.0)
    average.update(net, step=0)  # keeps (1 + 0) / (10 + 0) of the old
    torch.testing.assert_close(average.state(net)["weight"], before + 0.9)
    average.update(net, step=8)  # keeps 9 / 18
    torch.testing.assert_close(average.state(net)["weight"], before + 0.95)
