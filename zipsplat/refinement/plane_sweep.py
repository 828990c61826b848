"""Multi-view stereo by plane sweep and semi-global aggregation, for photos with known cameras.

Planes of constant depth are swept through the range of a view's sparse points (Collins, "A
Space-Sweep Approach to True Multi-Image Matching", 1996). At each, windows of 7 × 7 pixels are
compared with up to six other views (`stereo_sources`, `sweep_costs`); the costs are aggregated
along rows and columns (`semi_global`), and their minimum, interpolated between planes, is the
inverse depth. It is *consistent* where the photos correlate, another view finds the same surface
within 2 %, and the surrounding pixels agree. Elsewhere it is a guess that the aggregation
propagates from the surroundings, respecting edges of the photo. Means of the surrounding consistent
pixels are a worse guess: sky between a roof and the hills belongs to neither. With them, 200 steps
of refinement from a generated flight gave 34.5 instead of 36.2 dB, 300 steps from a real one 31.4
instead of 31.9.

P2, the noise added to variances and the required support were tuned on generated scenes. With four
photos of each of three scenes and true cameras, requiring support from half of the surrounding
pixels reduces the share of depths wrong by more than 5 % from 14 % to 8 %, and that of consistent
pixels from 68 % to 60 %; P2 = 2 instead of 1.2 brings another 1.2 % of all pixels within 5 % of the
truth, and so does less noise. Windows of 5 × 5 pixels are a fifth more accurate but consistent in
4 % fewer pixels.

`benchmarks/plane_sweep.py`, three generated scenes at 504 × 378, true cameras: with 4 photos 55 %
of the pixels are consistent, their median error is 0.5 to 1.0 %, and 5 to 11 % of them are wrong by
more than 5 %; with 12 photos 72 %, 0.5 to 0.9 %, 3 to 10 %. 0.16 to 0.22 CPU s a view on one thread
of a Zen 3 shared with other work. Of a real flight with 18 photos 44 % is consistent.

Limitations: untextured surfaces, mirrors, moving objects, and surfaces seen in a single photo have
no consistent depth; edges of objects are blurred by half a window. Memory is 3 volumes of one float
per pixel and plane, at most 75 MB at the usual size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.camera import Camera
from zipsplat.posed_images import PosedImages
from zipsplat.refinement import semi_global, sweep_costs
from zipsplat.refinement.hole_filling import fill_holes
from zipsplat.refinement.stereo_sources import (
    MIN_POINTS,
    camera_spread,
    choose_sources,
    points_in_front,
)
from zipsplat.render.cpu import get_num_threads, pool
from zipsplat.render.cpu.layout import FloatArray
from zipsplat.render.cpu.memory import empty
from zipsplat.render.cpu.simd import LANES

MAX_SIDE = 256
NUM_PLANES = 96
NEAR_FACTOR, FAR_FACTOR = 0.7, 2.0  # times the 1 % and the 99 % quantile of the points' depths
MIN_CORRELATION = 0.3
DEPTH_TOLERANCE = 0.02  # relative difference of inverse depths that counts as consistent
SUPPORT_RADIUS, SUPPORT_TOLERANCE = 4, 0.05  # pixels; relative difference of inverse depths
P2, EDGE = 2.0, 15.0  # penalty of a jump between planes in flat image regions; its decay at edges
_NEAR_SPREAD, _FAR_SPREAD = 0.3, 30.0  # depth range if there are too few points, in camera spreads
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class DepthMap:
    """Depth of one view.

    Args:
        depth: (H, W) float32, camera z in world units; everywhere positive and finite.
        is_consistent: (H, W) bool; elsewhere, and where the photo is masked, depth is only a guess
            from the surroundings.
        correlation: (H, W) float32 in [0, 1], of the photos' windows at this depth.
        camera: () intrinsics at this size.
    """

    depth: Tensor
    is_consistent: Tensor
    correlation: Tensor
    camera: Camera

    def inverse_target(self, height: int, width: int) -> Tensor:
        """Inverse depth resized to (height, width); 0 where it is inconsistent."""
        inverse = torch.where(self.is_consistent, 1 / self.depth, 0.0)[None, None]
        return functional.interpolate(inverse, (height, width), mode="nearest-exact")[0, 0]


def estimate_depth(
    posed: PosedImages, *, max_side: int = MAX_SIDE, num_planes: int = NUM_PLANES
) -> tuple[DepthMap, ...]:
    """Estimate depth maps of all views.

    Args:
        posed: at least two photos.
        max_side: longer side in pixels at which depth is estimated.
        num_planes: number of depth hypotheses, a multiple of 16.

    Returns:
        one depth map per view, at the size of the scaled images.

    Raises:
        ValueError: for a single view, photos that are too narrow, or a number of planes that is not
            a multiple of 16.
    """
    if len(posed) < 2:
        raise ValueError(f"depth needs at least 2 views, got {len(posed)}")
    if num_planes < LANES or num_planes % LANES:
        raise ValueError(f"num_planes must be a multiple of {LANES}, got {num_planes}")
    small = posed.resized(max_side)
    if min(min(image.shape[1:]) for image in small.images) < 2:
        raise ValueError(f"photos of {max_side} pixels must have at least 2 in width and height")
    gray = [np.ascontiguousarray(each.numpy()) for each in _gray_images(small)]
    sources = [choose_sources(small, view) for view in range(len(small))]
    found = [
        _sweep_view(small, gray, view, sources[view], inverse_depths(small, view, num_planes))
        for view in range(len(small))
    ]
    maps = []
    for view, (inverse, correlation) in enumerate(found):
        agrees = agreement(small, view, sources[view], [each[0] for each in found])
        agrees &= correlation > MIN_CORRELATION
        if small.masks is not None:
            agrees &= small.masks[view]
        is_consistent = has_support(inverse, agrees)
        maps.append(DepthMap(1 / inverse, is_consistent, correlation, small.cameras[view]))
    return tuple(maps)


def inverse_depths(posed: PosedImages, view: int, num_planes: int) -> Tensor:
    """Inverse depths (D,) of a view's planes, evenly spaced, from the nearest plane on.

    They span 0.7 times the 1 % quantile to twice the 99 % quantile of the depths of the view's
    sparse points. With fewer than 8 of them, 0.3 to 30 times the spread of the cameras.
    """
    z = points_in_front(posed, view)[:, 2]
    if len(z) >= MIN_POINTS:
        low, high = (float(torch.quantile(z, q)) for q in (0.01, 0.99))
        near, far = NEAR_FACTOR * low, FAR_FACTOR * high
    else:
        spread = camera_spread(posed)
        near, far = _NEAR_SPREAD * spread, _FAR_SPREAD * spread
    return torch.linspace(1 / near, 1 / far, num_planes, dtype=torch.float64).float()


def agreement(
    posed: PosedImages, view: int, others: Sequence[int], inverses: Sequence[Tensor]
) -> Tensor:
    """Mask (H, W) of pixels whose surface at least one other view finds, too.

    Args:
        posed: V views at the size of the depth.
        view: index of the view to check.
        others: indices of the views to compare with.
        inverses: V inverse depths (H, W).
    """
    inverse = inverses[view]
    H, W = inverse.shape
    camera, poses = posed.cameras[view], posed.poses
    pixels = pixel_corners(H, W) + 0.5
    world = poses[view].transform(camera.unproject(pixels, 1 / inverse.flatten()))
    agrees = torch.zeros(H * W, dtype=torch.bool)
    for other in others:
        there = poses[other].inv().transform(world)
        z = there[:, 2].clamp_min(1e-9)
        at = posed.cameras[other].project(torch.cat((there[:, :2], z[:, None]), dim=1))
        height, width = inverses[other].shape
        column, row = at.floor().long().unbind(-1)
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        found = inverses[other][row.clamp(0, height - 1), column.clamp(0, width - 1)]
        agrees |= inside & (there[:, 2] > 0) & ((found * z - 1).abs() < DEPTH_TOLERANCE)
    return agrees.view(H, W)


def has_support(inverse: Tensor, is_known: Tensor) -> Tensor:
    """Mask (H, W) of pixels with at least half of the surrounding pixels known at a similar depth.

    Wrong but consistent matches form small patches unlike their surroundings. Without this filter,
    twice as many known depths are wrong by more than 5 %.

    Args:
        inverse: (H, W) inverse depth.
        is_known: (H, W) bool.
    """
    H, W = inverse.shape
    R = SUPPORT_RADIUS
    around = functional.pad(torch.where(is_known, inverse, -1), (R, R, R, R), value=-1)
    low, high = inverse * (1 - SUPPORT_TOLERANCE), inverse * (1 + SUPPORT_TOLERANCE)
    count = torch.zeros(H, W, dtype=torch.int16)
    for y in range(2 * R + 1):
        for x in range(2 * R + 1):
            other = around[y : y + H, x : x + W]
            count += (other > low) & (other < high)
    return is_known & (2 * count >= _in_bounds(H, W, R))


def _in_bounds(height: int, width: int, radius: int) -> Tensor:
    """Number (H, W) of pixels of the square around each pixel that lie in the image."""
    down, across = (
        (index + radius).clamp_max(side - 1) - (index - radius).clamp_min(0) + 1
        for side, index in ((side, torch.arange(side)) for side in (height, width))
    )
    return down[:, None] * across


def pixel_corners(height: int, width: int) -> Tensor:
    """Coordinates (H · W, 2) of the top left corners of all pixels, row by row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(-1, 2).float()


def _sweep_view(
    posed: PosedImages,
    gray: Sequence[FloatArray],
    view: int,
    sources: Sequence[int],
    depths: Tensor,
) -> tuple[Tensor, Tensor]:
    """Inverse depth and correlation (H, W) of one view."""
    sweep = make_sweep(posed, gray, view, sources, depths)
    threads = get_num_threads()
    planes = empty(len(depths) * sweep.height * sweep.stride)

    def compare(first: int, last: int) -> None:
        sweep_costs.sweep_planes(first, last, sweep, sweep_costs.working_rows(sweep), planes)

    pool.run(compare, _ranges(len(depths), 8), threads)
    volume = make_volume(sweep, planes, gray[view])
    length = 2 * (volume.num_planes + 2 * semi_global.BORDER)
    pool.run(
        lambda first, last: semi_global.aggregate_rows(first, last, volume, empty(length)),
        _ranges(volume.height, 16),
        threads,
    )
    pool.run(
        lambda first, last: semi_global.aggregate_columns(first, last, volume, empty(length)),
        _ranges(volume.width, 16),
        threads,
    )
    places, correlations = (empty(volume.height * volume.pitch) for _ in range(2))
    semi_global.pick_planes(0, volume.height, volume, places, correlations)
    place, correlation = (
        torch.from_numpy(array.reshape(volume.height, -1)[:, : volume.width].copy())
        for array in (places, correlations)
    )
    step = (depths[-1] - depths[0]) / (len(depths) - 1)
    return depths[0] + step * place, correlation


def make_sweep(
    posed: PosedImages,
    gray: Sequence[FloatArray],
    view: int,
    sources: Sequence[int],
    depths: Tensor,
) -> sweep_costs.Sweep:
    """Arguments of the sweep kernel: rows with margins, window statistics, homographies."""
    height, width = gray[view].shape
    R, M = sweep_costs.RADIUS, sweep_costs.MARGIN
    pitch = -(-width // LANES) * LANES
    image = torch.from_numpy(gray[view])[None, None]
    around = functional.pad(image, (R, R, R, R), mode="replicate")
    mean = functional.avg_pool2d(around, 2 * R + 1, stride=1)
    variance = (functional.avg_pool2d(around.square(), 2 * R + 1, stride=1) - mean**2).clamp_min(0)
    deviation = (variance + sweep_costs.NOISE).rsqrt()
    margins = (M, pitch - width + M, 0, 0)
    reference, means, deviations = (
        functional.pad(each, margins, mode="replicate").flatten().numpy()
        for each in (image, mean, deviation)
    )
    layout, begin = [], 0
    for source in sources:
        layout += [begin, gray[source].shape[1], gray[source].shape[0]]
        begin += gray[source].size
    return sweep_costs.Sweep(
        width,
        height,
        pitch + 2 * M,
        reference,
        means,
        deviations,
        np.concatenate([gray[source].ravel() for source in sources]),
        np.array(layout, np.int32),
        np.concatenate([homography(posed, view, source) for source in sources]),
        depths.numpy(),
    )


def homography(posed: PosedImages, view: int, source: int) -> FloatArray:
    """The plane-induced homography from a view to a source, (12,): a 3 × 3 matrix and a vector.

    Pixel (u, v) at depth z maps to matrix · (u, v, 1) + vector / z, homogeneous.
    """
    K, poses = posed.cameras.K.double(), posed.poses.to(torch.float64)
    relative = poses[source].inv().compose(poses[view])
    matrix = K[source] @ relative.R @ torch.linalg.inv(K[view])
    vector = K[source] @ relative.t
    return torch.cat((matrix.flatten(), vector)).float().numpy()


def make_volume(
    sweep: sweep_costs.Sweep, planes: FloatArray, gray: FloatArray
) -> semi_global.Volume:
    """Arguments of the aggregation kernels: costs and jump penalties."""
    pitch = sweep.stride - 2 * sweep_costs.MARGIN
    num_planes = len(sweep.inverse_depths)
    penalties = []
    for axis in (1, 0):
        change = np.zeros((sweep.height, pitch), np.float32)
        difference = np.abs(np.diff(gray, axis=axis))
        change[sweep.height - difference.shape[0] :, : sweep.width][
            :, sweep.width - difference.shape[1] :
        ] = difference
        penalties.append((P2 * np.exp(-EDGE * change)).astype(np.float32).ravel())
    costs, sums = (empty(num_planes * sweep.height * pitch) for _ in range(2))
    return semi_global.Volume(
        sweep.width,
        pitch,
        sweep.height,
        num_planes,
        planes,
        sweep.stride,
        sweep_costs.MARGIN,
        costs,
        sums,
        *penalties,
    )


def _ranges(count: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def _gray_images(posed: PosedImages) -> list[Tensor]:
    """Brightness minus ½, (H, W) each; masked pixels are filled from their surroundings.

    Otherwise masked objects, especially their outlines, would match those in other photos.
    """
    images = [_gray(image) for image in posed.images]
    if posed.masks is None:
        return images
    return [fill_holes(image, mask) for image, mask in zip(images, posed.masks, strict=True)]


def _gray(image: Tensor) -> Tensor:
    """Brightness (H, W) minus ½, because small values keep the precision of variances."""
    return torch.einsum("chw,c->hw", image.float().cpu(), torch.tensor(_LUMA)) - 0.5
