"""Initial Gaussians from stereo depth, sparse points and, for few photos, a feed-forward scene.

Pixels with consistent depth (`plane_sweep`) are sampled, more densely where the photos have detail,
and become isotropic Gaussians as large as half the distance to the next. Elsewhere faint ones are
placed: at sparse points of structure from motion, and at the depth that stereo guesses there. With
few photos a feed-forward scene covers what only one of them shows.

What has no Gaussian at the start stays black, or is covered by distant ones that must stretch. For
a drawn flight with 18 photos, 200 steps of refinement gave 31.7 dB without Gaussians in the holes,
36.2 with them, 36.9 with true depth there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from zipsplat import harmonics
from zipsplat.gaussians import Gaussians
from zipsplat.masks import resized
from zipsplat.posed_images import PosedImages
from zipsplat.refinement.plane_sweep import DepthMap, estimate_depth, pixel_corners
from zipsplat.sh_constants import num_coeffs

SH_DEGREE = 1
FEW_PHOTOS = 8  # below it, a feed-forward scene helps
DETAIL_SHARE = 0.7  # of the probability of a pixel; the rest is uniform
MIN_RADIUS, MAX_RADIUS = 0.5, 12.0  # pixels of the photos
# With 18 frames of a drone video at 424 px, 700 steps end at 33.0 dB with 0.4 of the radius within
# one photo, 32.5 dB with all of it, 32.9 with a quarter; with 4 photos all of it is best.
SINGLE_PHOTOS = 4
OPACITY, FAINT = 0.5, 0.1  # on surfaces; elsewhere
# Of the Gaussians, where the photos do not agree. With 18 frames of a drone video 0.4 gives 0.2 dB
# more than 0.2; with four photos, whose guesses are worse and where the feed-forward scene fills
# holes, 0.4 dB less.
HOLE_SHARE, FEW_HOLE_SHARE = 0.4, 0.2
NUM_NEIGHBORS = 3
MAX_POINT_QUANTILE = 0.95  # larger sparse points are cut to it
_CHUNK = 1024  # points whose distances to all others are in memory at once


def initial_gaussians(
    posed: PosedImages,
    num_gaussians: int,
    *,
    depth: Sequence[DepthMap] | None = None,
    feed_forward: Gaussians | None = None,
    seed: int = 0,
) -> Gaussians:
    """Gaussians to start a refinement from.

    Args:
        posed: photos with cameras, at the size of the refinement.
        num_gaussians: how many are drawn; there can be fewer if the photos agree on little.
        depth: maps of the views as `estimate_depth` gives them; estimated if not given.
        feed_forward: (M,) a scene in the same frame, which is added for fewer than 8 photos.
        seed: of the choice of pixels.

    Returns:
        (N,) float32, with harmonics of degree 1, on the CPU.

    Raises:
        ValueError: if there is a single photo, no Gaussians are wanted, or none can be placed
            because the photos agree nowhere.
    """
    if num_gaussians < 1:
        raise ValueError(f"num_gaussians must be at least 1, got {num_gaussians}")
    maps = estimate_depth(posed) if depth is None else depth
    generator = torch.Generator().manual_seed(seed)
    hole_share = FEW_HOLE_SHARE if len(posed) < FEW_PHOTOS else HOLE_SHARE
    holes = draw_surfaces(posed, maps, int(hole_share * num_gaussians), generator, in_holes=True)
    parts = [draw_surfaces(posed, maps, num_gaussians - len(holes), generator), holes]
    lonely = points_without_depth(posed, maps)
    if len(lonely):
        parts.append(point_gaussians(posed, lonely[: num_gaussians // 2]))
    if feed_forward is not None and len(posed) < FEW_PHOTOS:
        parts.append(feed_forward.detach().to(parts[0].means).with_sh_degree(SH_DEGREE))
    scene: Gaussians = torch.cat(parts)  # type: ignore[arg-type,assignment]
    if not scene.num_gaussians:
        raise ValueError("the photos agree nowhere and have no sparse points; are the poses right?")
    return scene


def draw_surfaces(
    posed: PosedImages,
    maps: Sequence[DepthMap],
    num_gaussians: int,
    generator: torch.Generator,
    *,
    in_holes: bool = False,
) -> Gaussians:
    """Gaussians at pixels with consistent depth, denser where the photos have detail.

    Args:
        posed: V photos.
        maps: V depth maps.
        num_gaussians: at most so many.
        generator: of the choice.
        in_holes: faint ones instead, at pixels whose depth is only guessed.
    """
    wanted = [_holes(depth) if in_holes else depth.is_consistent for depth in maps]
    if posed.masks is not None:
        wanted = [
            each & resized(mask, *each.shape)
            for each, mask in zip(wanted, posed.masks, strict=True)
        ]
    weights = [
        _pixel_weights(image, mask) for image, mask in zip(posed.images, wanted, strict=True)
    ]
    opacity = FAINT if in_holes else OPACITY
    flat = torch.cat([weight.flatten() for weight in weights])
    count = min(num_gaussians, int((flat > 0).sum()))
    chosen = _draw(flat, count, generator)
    density = flat[chosen] * (count / flat.sum().clamp_min(1e-12))
    places = torch.rand(count, 2, generator=generator)
    parts = []
    begin = 0
    for view, weight in enumerate(weights):
        mine = (chosen >= begin) & (chosen < begin + weight.numel())
        corners = pixel_corners(*weight.shape)[chosen[mine] - begin]
        pixels = corners + places[mine]
        parts.append(_unproject(posed, view, maps[view], pixels, density[mine], opacity))
        begin += weight.numel()
    scene: Gaussians = torch.cat(parts)  # type: ignore[arg-type,assignment]
    return scene


def point_gaussians(posed: PosedImages, chosen: Tensor) -> Gaussians:
    """Faint round Gaussians at some sparse points, as large as the distance to the nearest ones.

    Args:
        posed: photos with sparse points.
        chosen: (N,) indices of points.
    """
    assert posed.points is not None
    means = torch.from_numpy(posed.points.positions)
    colors = torch.from_numpy(posed.points.colors)[chosen]
    distance = neighbor_distances(means, means[chosen])
    distance = distance.clamp_max(float(distance.quantile(MAX_POINT_QUANTILE)))
    return _round_gaussians(means[chosen], distance, FAINT, colors)


def neighbor_distances(points: Tensor, queries: Tensor) -> Tensor:
    """Root mean square distance (Q,) of queries to their three nearest points, not themselves.

    Args:
        points: (P, 3).
        queries: (Q, 3), each among the points.
    """
    num = min(NUM_NEIGHBORS + 1, len(points))
    found = [
        torch.cdist(part, points, compute_mode="donot_use_mm_for_euclid_dist")
        .topk(num, largest=False)
        .values[:, 1:]
        for part in queries.split(_CHUNK)
    ]
    distances = torch.cat(found) if found else queries.new_zeros(0, num - 1)
    return distances.square().mean(dim=1).sqrt() if num > 1 else queries.new_ones(len(queries))


def points_without_depth(posed: PosedImages, maps: Sequence[DepthMap]) -> Tensor:
    """Indices of the sparse points at whose pixels no view has consistent depth."""
    points = posed.points
    if points is None or not len(points):
        return torch.zeros(0, dtype=torch.long)
    has_depth = torch.zeros(len(points), dtype=torch.bool)
    counts = torch.from_numpy(points.offsets).diff()
    point_of_row = torch.arange(len(points)).repeat_interleave(counts)
    views, pixels = torch.from_numpy(points.views), torch.from_numpy(points.pixels)
    for view, depth in enumerate(maps):
        rows = (views == view).nonzero().squeeze(1)
        scale = depth.camera.size / posed.cameras.size[view]
        known = _at(depth.is_consistent[None], pixels[rows] * scale)[:, 0]
        has_depth[point_of_row[rows[known]]] = True
    return (~has_depth).nonzero().squeeze(1)


def _holes(depth: DepthMap) -> Tensor:
    """Where depth is only guessed, (H, W) bool; nowhere if nothing was known."""
    return ~depth.is_consistent & depth.is_consistent.any()


def _pixel_weights(image: Tensor, wanted: Tensor) -> Tensor:
    """Probability of each wanted pixel (H, W) up to a factor; 1 in all if all are wanted."""
    H, W = wanted.shape
    small = functional.interpolate(image[None].float().cpu(), (H, W), mode="area").mean(1, True)
    around = functional.pad(small, (1, 1, 1, 1), mode="replicate")
    means = functional.avg_pool2d(around, 3, stride=1)
    laplacian = functional.pad((small - means).abs(), (1, 1, 1, 1), mode="replicate")
    detail = functional.avg_pool2d(laplacian, 3, stride=1)[0, 0]
    detail = detail / detail.sum().clamp_min(1e-12)
    share = DETAIL_SHARE * detail + (1 - DETAIL_SHARE) / (H * W)
    return share * wanted


def _draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices of `count` different items, likelier where the weight is larger, in rising order.

    The largest of u^(1/weight) with uniform u are a weighted sample without replacement
    (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
    """
    uniform = torch.rand(len(weights), generator=generator, dtype=torch.float64).clamp_min(1e-300)
    keys = torch.where(weights > 0, uniform.log() / weights, -torch.inf)
    return keys.topk(count).indices.sort().values


def _unproject(
    posed: PosedImages,
    view: int,
    depth: DepthMap,
    pixels: Tensor,
    density: Tensor,
    opacity: float,
) -> Gaussians:
    """Gaussians at pixel coordinates (N, 2) of a depth map; `density` is their number per pixel.

    Their radius is half their distance. Where many photos show one surface, the Gaussians of the
    others lie between them: as if of V photos more than 4, V / 4 showed the same.
    """
    z = _at(depth.depth[None], pixels)[:, 0]
    means = posed.poses[view].to(torch.float32).transform(depth.camera.unproject(pixels, z))
    zoom = posed.cameras.size[view, 0] / depth.camera.size[0]
    density = density * max(1.0, len(posed) / SINGLE_PHOTOS)
    radius = (0.5 * zoom * density.clamp_min(1e-12).rsqrt()).clamp(MIN_RADIUS, MAX_RADIUS)
    scale = posed.cameras.size[view] / depth.camera.size
    colors = _at(posed.images[view].float().cpu(), pixels * scale)
    return _round_gaussians(means, radius * z / posed.cameras.f[view, 0], opacity, colors)


def _at(image: Tensor, pixels: Tensor) -> Tensor:
    """Values (N, C) of the pixels of an image (C, H, W) that coordinates (N, 2) lie in."""
    column, row = pixels.floor().long().unbind(-1)
    return image[:, row.clamp(0, image.shape[1] - 1), column.clamp(0, image.shape[2] - 1)].T


def _round_gaussians(means: Tensor, radii: Tensor, opacity: float, colors: Tensor) -> Gaussians:
    N = len(means)
    sh_coeffs = torch.zeros(N, num_coeffs(SH_DEGREE), 3)
    sh_coeffs[:, 0] = harmonics.dc_from_rgb(colors)
    return Gaussians(
        means,
        radii[:, None].repeat(1, 3),
        torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(N, 1),
        torch.full((N,), opacity),
        sh_coeffs,
    )
