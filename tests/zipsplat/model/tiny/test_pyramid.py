"""The convolutional pyramid beside the patch embedding."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.zipsplat.tiny_network import TINY
from zipsplat.model.architecture import BackboneConfig, ZipSplatConfig
from zipsplat.model.checkpoint_layout import network_from_tensors
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.tiny.pyramid import Pyramid

SIDE = 14


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def with_stem(stem_dim: int) -> ZipSplatConfig:
    return dataclasses.replace(TINY, backbone=dataclasses.replace(TINY.backbone, stem_dim=stem_dim))


def test_one_feature_per_patch_in_the_order_of_the_patches() -> None:
    """A change of a patch moves its own feature most."""
    pyramid = Pyramid(8, 12, SIDE).double()
    images = torch.rand(2, 3, 3, 5 * SIDE, 7 * SIDE, dtype=torch.float64)
    before = pyramid.tokens(pyramid(images))
    assert before.shape == (2, 3, 35, 12)
    row, column = 3, 4
    images[1, 2, :, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] += 0.5
    change = (pyramid.tokens(pyramid(images)) - before).norm(dim=-1)
    assert int(change[1, 2].argmax()) == row * 7 + column
    change[1, 2] = 0
    assert change.max() == 0  # views do not see each other


def test_the_stem_is_read_back_from_tensors() -> None:
    network = ZipSplatNetwork(with_stem(8)).eval()
    conf = network.config.to_conf()
    again = network_from_tensors(network.state_dict(), conf)
    assert again.config == network.config
    images = torch.rand(1, 2, 3, 2 * SIDE, 3 * SIDE)
    with torch.no_grad():
        assert torch.equal(again(images).means, network(images).means)


def test_without_a_stem_no_tensor_is_added() -> None:
    names = ZipSplatNetwork(with_stem(0)).state_dict()
    assert not any("stem" in name for name in names)


@pytest.mark.parametrize("width", [-8, 4, 12])
def test_widths_that_cannot_be_normalised_are_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 8, got {width}"):
        BackboneConfig(
            dim=16, depth=1, num_heads=1, out_layers=(0,),
            alt_start=1, qknorm_start=1, rope_start=1, stem_dim=width,
        )  # fmt: skip


def test_the_matcher_is_read_back_from_tensors() -> None:
    backbone = dataclasses.replace(TINY.backbone, stem_dim=8, has_matcher=True)
    network = ZipSplatNetwork(dataclasses.replace(TINY, backbone=backbone)).eval()
    again = network_from_tensors(network.state_dict(), network.config.to_conf())
    assert again.config == network.config
    with pytest.raises(ValueError, match="needs the features of a pyramid"):
        dataclasses.replace(TINY.backbone, has_matcher=True)
