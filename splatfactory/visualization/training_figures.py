"""Figures of the first scene of a batch: inputs, renders and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from splatfactory.datasets.samples import Batch, Views
from splatfactory.metrics import psnr
from splatfactory.protocols import Prediction, Supervision
from splatfactory.visualization.histograms import histogram
from zipsplat.camera import Camera
from zipsplat.figures import color_depth, contact_sheet, to_pixels
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.viz import scene_center_radius

Pixels = npt.NDArray[np.uint8]

ERROR_GAIN = 3.0
ORBIT_SIZE = 256
ORBIT = {"front": (0.0, 0.0), "oblique": (45.0, 30.0), "side": (90.0, 0.0), "top": (0.0, 90.0)}
"""Azimuth and elevation in degrees."""
MAX_COLUMNS = 12


@torch.no_grad()
def training_figures(
    batch: Batch, prediction: Prediction, supervision: Supervision, renderer: str = "auto"
) -> Mapping[str, Tensor]:
    """Figures by name, each (3, H, W) in [0, 1]."""
    scene = prediction.gaussians[0].detach().to(torch.float32)
    views = Views.cat([batch.context[0], batch.target[0]])
    num_context = min(batch.context.shape[1], MAX_COLUMNS - batch.target.shape[1])
    keep = [*range(max(1, num_context)), *range(batch.context.shape[1], len(views))]
    views = views[torch.tensor(keep, device=views.device)]
    labels = [
        f"{'context' if place < batch.context.shape[1] else 'target'} {int(index)}"
        for place, index in zip(keep, views.indices.tolist(), strict=True)
    ]
    rendered, info = scene.render(views.cameras, views.poses, mode="RGB+D", renderer=renderer)
    color, depth = rendered[:, :3], rendered[:, 3]
    by_token = scene.color_by_group(prediction.token_group)
    tokens = by_token.render(views.cameras, views.poses, renderer=renderer)[0]
    return {
        "context_and_target": _tensor(_comparison(views, color, depth, labels)),
        "depth": _tensor(_depths(views, depth, info["alphas"][:, 0], labels)),
        "cluster": _tensor(_clusters(views, color, tokens, labels)),
        "gaussians": _tensor(_orbit(scene, renderer)),
        "gaussian_stats": _tensor(_statistics(scene, supervision.activated[0])),
    }


def _comparison(views: Views, color: Tensor, depth: Tensor, labels: Sequence[str]) -> Pixels:
    true = views.rgb
    scores = psnr(true, color).tolist()
    near, far = _range(depth)
    error = ERROR_GAIN * (true - color).abs()
    cells = [*to_pixels(true), *to_pixels(color), *to_pixels(color_depth(depth, near, far))]
    cells += [*to_pixels(error)]
    texts = [*labels, *(f"PSNR {score:.2f}" for score in scores)]
    texts += ["depth"] * len(labels) + [f"{ERROR_GAIN:g} x error"] * len(labels)
    return contact_sheet(cells, texts, columns=len(labels))


def _depths(views: Views, depth: Tensor, alpha: Tensor, labels: Sequence[str]) -> Pixels:
    given = views.depths
    known = (given > 0).to(given.dtype)
    near, far = _range(given if bool((given > 0).any()) else depth)
    cells = [
        *to_pixels(color_depth(given, near, far, alpha=known)),
        *to_pixels(color_depth(depth / alpha.clamp_min(1e-6), near, far, alpha=alpha)),
    ]
    texts = [f"given, {label}" for label in labels] + ["rendered"] * len(labels)
    return contact_sheet(cells, texts, columns=len(labels))


def _clusters(views: Views, color: Tensor, tokens: Tensor, labels: Sequence[str]) -> Pixels:
    cells = [*to_pixels(views.rgb), *to_pixels(color), *to_pixels(tokens)]
    texts = [*labels, *["rendered"] * len(labels), *["by token"] * len(labels)]
    return contact_sheet(cells, texts, columns=len(labels))


def _orbit(scene: Gaussians, renderer: str) -> Pixels:
    center, radius = scene_center_radius(scene)
    azimuths, elevations = zip(*ORBIT.values(), strict=True)
    poses = Pose.orbit(center, max(radius, 1e-3), azimuths, torch.tensor(elevations).to(center))
    camera = Camera.from_fov(torch.pi / 2, w=ORBIT_SIZE, h=ORBIT_SIZE)
    rendered = scene.render(camera, poses, renderer=renderer)[0]
    return contact_sheet([*to_pixels(rendered)], list(ORBIT), columns=len(ORBIT))


def _statistics(scene: Gaussians, activated: Tensor) -> Pixels:
    scales = scene.scales.amax(dim=-1).clamp_min(1e-6).log10()
    cells = [
        histogram(scene.opacities[activated], scene.opacities[~activated], 0.0, 1.0),
        histogram(scales[activated], scales[~activated], -6.0, 1.2),
    ]
    return contact_sheet(cells, ["opacity", "log10 of the largest scale"], columns=2)


def _range(depth: Tensor) -> tuple[float, float]:
    """Smallest known depth, and the 95 % quantile."""
    known = depth[depth > 0].flatten().float()
    if not len(known):
        return 0.0, 1.0
    far = float(known[:: max(1, len(known) // 10**6)].quantile(0.95))
    near = min(float(known.min()), 0.999 * far)
    return near, max(far, near + 1e-6)


def _tensor(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
