"""How well cameras explain the verified matches between photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zipsplat.camera_estimation.capture import Capture, FloatArray, Lens
from zipsplat.camera_estimation.colmap import camera_of

_TOLERANCE_PX = 2.0


@dataclass(frozen=True)
class PairMatches:
    """Matched features of two photos.

    Attributes:
        views: indices of the two photos.
        pixels: (2, N, 2) their position in each photo.
    """

    views: tuple[int, int]
    pixels: FloatArray


def support(pairs: Sequence[PairMatches], views: Sequence[int], capture: Capture) -> float:
    """Share of the matches that the cameras explain, in [0, 1].

    A match counts 1 − (e / 2 px)², at least 0, where e is its Sampson distance to the epipolar
    geometry (Hartley and Zisserman, Multiple View Geometry, section 11.4.3; the truncated
    quadratic is that of MSAC, Torr and Zisserman, 2000). Matches of unregistered photos count 0.

    Args:
        pairs: matches between photos.
        views: indices of the registered photos.
        capture: the registered photos.
    """
    place = {view: number for number, view in enumerate(views)}
    total = sum(pair.pixels.shape[1] for pair in pairs)
    explained = 0.0
    for pair in pairs:
        if pair.views[0] in place and pair.views[1] in place:
            first, second = (capture.photos[place[view]] for view in pair.views)
            relative = np.linalg.inv(second.world_from_camera) @ first.world_from_camera
            rays = _rays(first.lens, pair.pixels[0]), _rays(second.lens, pair.pixels[1])
            squared = sampson(relative, *rays) * first.lens.packed[0] * second.lens.packed[0]
            explained += float(np.maximum(0, 1 - squared / _TOLERANCE_PX**2).sum())
    return explained / total if total else 0.0


def sampson(second_from_first: FloatArray, first: FloatArray, second: FloatArray) -> FloatArray:
    """Squared Sampson distances (N,) of rays (N, 3) with z = 1, in units of the focal length."""
    x, y, z = second_from_first[:3, 3]
    E = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ second_from_first[:3, :3]
    lines, back = first @ E.T, second @ E
    slopes = (lines[:, :2] ** 2).sum(axis=1) + (back[:, :2] ** 2).sum(axis=1)
    return np.asarray((second * lines).sum(axis=1) ** 2 / np.maximum(slopes, 1e-30))


def _rays(lens: Lens, pixels: FloatArray) -> FloatArray:
    if lens.is_distorted:
        flat = np.asarray(camera_of(lens).cam_from_img(pixels))
    else:
        fx, fy, cx, cy = lens.packed
        flat = (pixels - (cx, cy)) / (fx, fy)
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
