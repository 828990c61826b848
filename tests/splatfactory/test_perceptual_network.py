"""LPIPS against the reference's numbers for weights made by a formula."""

import math

import pytest
import torch
from torch import Tensor

from splatfactory.perceptual_network import (
    CONV_INDICES,
    LEVEL_ENDS,
    WIDTHS,
    PerceptualNetwork,
    load_perceptual_network,
)
from tests.splatfactory.golden import load

PHI = 0.6180339887498949


def formula_trunk() -> dict[str, Tensor]:
    state, width_in, k = {}, 3, 0
    for index, width in zip(CONV_INDICES, WIDTHS, strict=True):
        for part, shape in (("weight", (width, width_in, 3, 3)), ("bias", (width,))):
            i = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
            wave = 2 * torch.frac(i * PHI + 0.1 * k) - 1
            gain = math.sqrt(6 / (9 * width_in)) if part == "weight" else 0.05
            state[f"features.{index}.{part}"] = (wave * gain).float().view(shape)
            k += 1
        width_in = width
    return state


def formula_heads() -> dict[str, Tensor]:
    heads = {}
    for j, conv in enumerate(LEVEL_ENDS):
        i = torch.arange(1, WIDTHS[conv] + 1, dtype=torch.float64)
        heads[f"lin{j}.model.1.weight"] = torch.frac(i * PHI + 0.37 * j).float().view(1, -1, 1, 1)
    return heads


@pytest.fixture(scope="module")
def network() -> PerceptualNetwork:
    return PerceptualNetwork(formula_trunk(), formula_heads())


def test_values_and_gradient_equal_the_reference(network: PerceptualNetwork):
    data = load("lpips_detweights")
    gt, pred = data["gt"], data["pred"].clone().requires_grad_()
    torch.testing.assert_close(
        network.get_buffer("conv0_weight").flatten()[:8], data["conv0_first8"]
    )
    torch.testing.assert_close(network.get_buffer("head0").flatten()[:8], data["lin0_first8"])
    unclipped = network(gt, pred.detach())
    torch.testing.assert_close(unclipped, data["lpips_eval_unclipped"], atol=1e-4, rtol=1e-4)
    loss = network(gt.clamp(0, 1), pred.clamp(0, 1))
    torch.testing.assert_close(loss.detach(), data["lpips_loss_clipped"], atol=1e-4, rtol=1e-4)
    loss.sum().backward()
    error = (pred.grad - data["grad_loss"]).abs().max()
    assert error <= 1e-4 * data["grad_loss"].abs().max()


def test_training_mode_changes_nothing(network: PerceptualNetwork):
    data = load("lpips_detweights")
    before = network.eval()(data["gt"], data["pred"])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.train()(data["gt"], data["pred"]), before)
    assert not list(network.parameters())
    assert not network.state_dict()


def test_features_of_a_fixed_image_can_be_reused(network: PerceptualNetwork):
    data = load("lpips_detweights")
    reused = network.distance(network.features(data["gt"]), network.features(data["pred"]))
    assert torch.equal(reused, network(data["gt"], data["pred"]))
    assert network(data["gt"], data["gt"]).tolist() == [0.0, 0.0]


def test_files_load_and_wrong_ones_are_refused(tmp_path):
    trunk, heads = tmp_path / "vgg.pth", tmp_path / "heads.pth"
    torch.save({**formula_trunk(), "classifier.0.weight": torch.zeros(1)}, trunk)
    torch.save(formula_heads(), heads)
    assert load_perceptual_network(trunk, heads).get_buffer("head4").shape == (1, 512, 1, 1)
    with pytest.raises(ValueError, match=r"features\.0\.weight"):
        load_perceptual_network(heads, heads)


def test_wrong_images_are_refused(network: PerceptualNetwork):
    with pytest.raises(ValueError, match="equal shape"):
        network(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 33))
    with pytest.raises(ValueError, match="16"):
        network(torch.zeros(1, 3, 8, 32), torch.zeros(1, 3, 8, 32))
