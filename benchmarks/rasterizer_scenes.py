"""Scenes of the rasterizer's benchmarks.

- A, scattered: depths uniform in 2…10, standard deviations of each axis log-uniform in 2…4 pixels,
  opacities uniform in 0.1…1, harmonics of degree 3.
- B, on surfaces: three smooth layers, standard deviations log-uniform in 0.6…2.5 pixels.

In both, centres are uniform over an area 1.1 times as wide and high as the image, so that about
one Gaussian in nine is outside the view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zipsplat.render import Splats, Viewpoints

AREA = 1.1  # extent of the centres, in image sizes
KINDS = {"A": "scattered", "B": "on surfaces"}


@dataclass(frozen=True)
class Scene:
    """Gaussians and one camera."""

    name: str
    splats: Splats
    viewpoints: Viewpoints


def scene_a(num: int, width: int, height: int) -> Scene:
    """Gaussians scattered in space."""
    random = np.random.default_rng(0)
    depth = random.uniform(2, 10, num)
    sigma = np.exp(random.uniform(np.log(2), np.log(4), (num, 3)))
    opacity = random.uniform(0.1, 1, num)
    return _scene("A", random, depth, sigma, opacity, width, height)


def scene_b(num: int, width: int, height: int) -> Scene:
    """Three smooth surfaces, one behind the other."""
    random = np.random.default_rng(0)
    layer = random.integers(0, 3, num)
    depth = 3.0 + 2.0 * layer + 0.3 * np.sin(np.arange(num) * 0.01)
    sigma = np.exp(random.uniform(np.log(0.6), np.log(2.5), (num, 3)))
    opacity = random.uniform(0.1, 1, num)
    return _scene("B", random, depth, sigma, opacity, width, height)


def _scene(
    name: str,
    random: np.random.Generator,
    depth: np.ndarray,
    sigma: np.ndarray,
    opacity: np.ndarray,
    width: int,
    height: int,
) -> Scene:
    num, focal = len(depth), 0.9 * width
    x = random.uniform(-0.5, 0.5, num) * AREA * width / focal * depth
    y = random.uniform(-0.5, 0.5, num) * AREA * height / focal * depth
    splats = Splats(
        means=tensor(np.stack((x, y, depth), axis=1)),
        quats=tensor(random.normal(size=(num, 4))),
        scales=tensor(sigma * (depth / focal)[:, None]),
        opacities=tensor(opacity),
        sh_coeffs=tensor(0.2 * random.normal(size=(num, 16, 3))),
    )
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Scene(name, splats, Viewpoints(torch.eye(4)[None], K[None], width, height))


def tensor(values: np.ndarray) -> Tensor:
    """As float32."""
    return torch.from_numpy(values.astype(np.float32))


def title_of(scene: Scene) -> str:
    """Name of a scene in tables."""
    num, view = scene.splats.means.shape[-2], scene.viewpoints
    return f"{num:,} Gaussians {KINDS[scene.name]}, {view.width} × {view.height}"
