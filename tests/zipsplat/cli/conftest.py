"""A checkpoint, photos and a scene for the commands."""

import numpy as np
import pytest
import torch
from PIL import Image

from zipsplat import Gaussians, weights
from zipsplat.harmonics import dc_from_rgb
from zipsplat.model.untrained import untrained_network


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A checkpoint of made-up weights."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = untrained_network()
    weights.save(path, network.state_dict(), network.config.to_conf())
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in (1, 2, 10):
        pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"img{index}.png")
    return folder


@pytest.fixture
def scene(tmp_path):
    """A file with a red, a green and a blue ball, one of them faint."""
    colors = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.9]])
    means = torch.tensor([[1.0, 0, 3], [0, -1, 3], [0, 0, 4]])
    opacities = torch.tensor([0.9, 0.9, 0.04])
    sh = torch.cat([dc_from_rgb(colors)[:, None], torch.zeros(3, 3, 3)], 1)
    g = Gaussians(means, torch.full((3, 3), 0.2), torch.eye(4)[[0, 0, 0]], opacities, sh)
    path = tmp_path / "balls.ply"
    g.save(path)
    return path
