"""The written-down weights render the first image."""

from __future__ import annotations

import pytest
import torch

from tests.zipsplat.tiny_network import TINY
from zipsplat import Camera, Gaussians, Pose
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.untrained import init_untrained, untrained_network


def images() -> torch.Tensor:
    """Two views of 112 pixels: red above, green below left, blue below right; and all white."""
    first = torch.zeros(3, 112, 112)
    first[0, :56] = 0.9
    first[1, 56:, :56] = 0.8
    first[2, 56:, 56:] = 0.7
    return torch.stack((first, torch.ones(3, 112, 112)))[None]


@pytest.fixture(scope="module")
def network() -> ZipSplatNetwork:
    return init_untrained(ZipSplatNetwork(ZipSplatConfig.variant("vits"))).eval()


def visible(scene: Gaussians) -> Gaussians:
    return scene[scene.opacities > 0.5]


@torch.no_grad()
def test_first_image_in_front_of_the_camera(network: ZipSplatNetwork) -> None:
    scene = visible(network(images())[0])
    scene.check()
    assert scene.num_gaussians == 64 * 32  # the other view is not shown
    assert scene.means[:, 2].min() > 0.7
    assert scene.means[:, 2].max() < 1.4
    camera = Camera.from_fov(2 * torch.atan(torch.tensor(0.52)), w=112, h=112)
    pixels = camera.project(scene.means)
    colors = scene.rgb
    for (x, y), color in (
        ((56, 28), (0.9, 0, 0)),
        ((28, 84), (0, 0.8, 0)),
        ((84, 84), (0, 0, 0.7)),
    ):
        near = (pixels - torch.tensor([x, y])).norm(dim=-1) < 15
        assert near.sum() > 20
        torch.testing.assert_close(
            colors[near].median(0).values, torch.tensor(color), atol=0.02, rtol=0
        )


@torch.no_grad()
def test_rendering_shows_the_colours(network: ZipSplatNetwork) -> None:
    camera = Camera.from_fov(1.1, w=32, h=32)
    rgb, _ = visible(network(images())[0]).render(camera, Pose.identity(), renderer="reference")
    image = rgb.reshape(3, 32, 32)
    assert image[:, 6, 16].argmax() == 0
    assert image[:, 26, 6].argmax() == 1
    assert image[:, 26, 26].argmax() == 2


@torch.no_grad()
def test_compression_keeps_part_of_it(network: ZipSplatNetwork) -> None:
    scene = visible(network(images(), compression=0.5)[0])
    assert 0 < scene.num_gaussians < 64 * 32
    assert scene.means[:, 0].max() - scene.means[:, 0].min() > 0.8


@torch.no_grad()
def test_any_architecture() -> None:
    first = init_untrained(ZipSplatNetwork(TINY)).eval()
    again = init_untrained(ZipSplatNetwork(TINY)).eval()
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    scene = visible(first(images())[0])
    assert scene.num_gaussians == 64 * 4


def test_the_small_one_is_the_same_everywhere() -> None:
    first = untrained_network()
    torch.manual_seed(5)
    second = untrained_network()
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert not first.training
    scene = visible(first(images())[0])
    assert scene.num_gaussians == 64 * 32
    assert scene.rgb.amax(dim=0).min() > 0.6
