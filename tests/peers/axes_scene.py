"""A scene that reveals mirrored, rotated or flipped axes.

A red ball lies to the right (+x), a green one above (−y, as y points down), a blue one behind (+z);
below them a checkered floor, between them a yellow ring that is higher on one side.
"""

from __future__ import annotations

import numpy as np
import torch

from zipsplat import Gaussians
from zipsplat.sh_constants import SH_C0

RED, GREEN, BLUE = (0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.2, 0.9)
BALLS = {RED: (1.2, 0.0, 0.0), GREEN: (0.0, -1.2, 0.0), BLUE: (0.0, 0.0, 1.2)}


def axes_scene(num: int, degree: int = 1, seed: int = 0) -> Gaussians:
    """Exactly `num` Gaussians, a fifth in each part; harmonics of random colours on top."""
    rng = np.random.default_rng(seed)
    each = num // 5
    parts = [_ball(rng, each, center, color) for color, center in BALLS.items()]
    parts += [_floor(rng, each), _ring(rng, num - 4 * each)]
    means, colors = (np.concatenate(values) for values in zip(*parts, strict=True))
    rest = rng.normal(0, 0.08, (num, (degree + 1) ** 2 - 1, 3))
    harmonics = np.concatenate(((colors[:, None] - 0.5) / SH_C0, rest), axis=1)
    values = (
        means,
        np.exp(rng.normal(np.log(0.03), 0.4, (num, 3))),
        rng.normal(size=(num, 4)),
        rng.uniform(0.3, 0.99, num),
        harmonics,
    )
    return Gaussians.from_parameters(*(torch.tensor(v, dtype=torch.float32) for v in values))


def _ball(rng, num, center, color):
    directions = rng.normal(size=(num, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.array(center) + 0.35 * directions, np.tile(color, (num, 1))


def _floor(rng, num):
    x, z = rng.uniform(-1.6, 1.6, (2, num))
    shade = 0.3 + 0.5 * ((np.floor(2 * x) + np.floor(2 * z)) % 2)
    return np.stack((x, np.full(num, 0.8), z), axis=1), np.repeat(shade[:, None], 3, axis=1)


def _ring(rng, num):
    angle = rng.uniform(0, 2 * np.pi, num)
    x, z = 0.8 * np.cos(angle), 0.8 * np.sin(angle)
    means = np.stack((x, 0.5 * np.sin(angle) * np.cos(angle), z), axis=1)
    colors = np.stack((np.full(num, 0.9), 0.7 + 0.3 * np.sin(angle), np.full(num, 0.1)), axis=1)
    return means + rng.normal(0, 0.05, (num, 3)), colors
