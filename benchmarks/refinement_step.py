"""Time of one optimization step of a scene on a CPU, by stage, beside one forward render.

    python benchmarks/refinement_step.py                # three sizes, one and two threads
    python benchmarks/refinement_step.py --quick        # the smallest size

A step activates the parameters (exponential of scales, sigmoid of opacities), renders one view,
takes 0.8 · L1 + 0.2 · (1 − SSIM) and its gradient, goes back to the parameters, and updates them
with Adam. Everything is measured in turns in one process. Times are CPU time of the process, the
smallest of several runs; with two threads also by the clock, which means something on idle cores
only. The scene: a wall of Gaussians that covers the image, log-uniform sizes, harmonics of degree
1, chosen so that one Gaussian touches about 3.6 tiles.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zipsplat.photometric import PhotometricLoss
from zipsplat.render import RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import PLUGIN, set_num_threads

SIZES = [(424, 237, 30_000), (480, 360, 40_000), (640, 358, 60_000)]
RATES = {"means": 1e-5, "quats": 1e-4, "log_scales": 1e-4, "logits": 1e-4, "sh": 1e-4}
HITS = 3.6  # tiles per Gaussian


@dataclass
class Problem:
    """A scene, a camera and a true image."""

    parameters: dict[str, Tensor]
    viewpoints: Viewpoints
    truth: Tensor


def problem(width: int, height: int, num: int) -> Problem:
    """Gaussians at depths of 1 to 5, with standard deviations around 1.5 pixels."""
    random = np.random.default_rng(0)
    focal = 0.8 * width
    depth = random.uniform(1, 5, num)
    x = random.uniform(-0.5, 0.5, num) * width / focal * depth
    y = random.uniform(-0.5, 0.5, num) * height / focal * depth
    pixels = np.exp(random.uniform(np.log(0.6), np.log(4.2), (num, 3)))
    arrays = {
        "means": np.stack((x, y, depth), axis=1),
        "quats": random.normal(size=(num, 4)),
        "log_scales": np.log(pixels * (depth / focal)[:, None]),
        "logits": random.normal(size=num),
        "sh": 0.3 * random.normal(size=(num, 4, 3)),
    }
    parameters = {
        name: torch.from_numpy(values.astype(np.float32)).requires_grad_()
        for name, values in arrays.items()
    }
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    viewpoints = Viewpoints(torch.eye(4)[None], K[None], width, height)
    with torch.no_grad():
        truth = PLUGIN.render(activated(parameters), viewpoints, RenderSettings()).color
    assert truth is not None
    noise = torch.from_numpy(random.normal(size=truth.shape[1:]).astype(np.float32))
    return Problem(parameters, viewpoints, (truth[0] + 0.1 * noise).clamp(0, 1))


def activated(parameters: dict[str, Tensor]) -> Splats:
    """The scene that parameters stand for."""
    return Splats(
        means=parameters["means"],
        quats=parameters["quats"],
        scales=parameters["log_scales"].exp(),
        opacities=parameters["logits"].sigmoid(),
        sh_coeffs=parameters["sh"],
    )
