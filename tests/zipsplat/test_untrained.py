"""The made-up network is the same everywhere and makes scenes of sensible ranges."""

import torch

from zipsplat.model.network import ZipSplatNetwork
from zipsplat.untrained import TINY, untrained_network


def test_weights_follow_from_their_names_alone():
    first = untrained_network().state_dict()
    torch.manual_seed(5)
    second = untrained_network().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = untrained_network(seed=1).state_dict()
    assert not torch.equal(first["color_embed.proj.weight"], other["color_embed.proj.weight"])
    wanted = ZipSplatNetwork(TINY).state_dict()
    assert {name: value.shape for name, value in first.items()} == {
        name: value.shape for name, value in wanted.items()
    }


def test_scenes_are_finite_and_depend_on_the_pictures():
    network = untrained_network()
    images = torch.rand(2, 2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    scenes = network(images)
    scenes.check()
    assert scenes.shape == (2, 2 * 4 * 32)
    assert not torch.equal(scenes.means[0], scenes.means[1])
    assert scenes.means.abs().median() < 3
    assert scenes.scales.median() < 0.2
