"""From a 3D Gaussian to its ellipse in an image, in plain PyTorch.

The steps follow gsplat 1.5 (Ye et al., "gsplat: An Open-Source Library for Gaussian Splatting",
2024) and EWA splatting (Zwicker et al., 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.harmonics import evaluate
from zipsplat.render import RenderSettings, Splats, Viewpoints
from zipsplat.render._rules import ALPHA_MIN, EXTENT_MAX, FRUSTUM_MARGIN
from zipsplat.rotations import matrix_from_quat
from zipsplat.sh_constants import COLOR_OFFSET, num_coeffs


@dataclass(frozen=True)
class Projected:
    """N Gaussians as V cameras see them.

    Args:
        means: (V, N, 2) centres in pixels.
        covariances: (V, N, 3) entries xx, xy, yy of the 2D covariance, pixels².
        conics: (V, N, 3) entries xx, xy, yy of its inverse.
        opacities: (V, N), less than those of the scene if the settings are antialiased.
        depths: (V, N) camera z, world units.
        radii: (V, N, 2) half sizes of the bounding box in pixels, whole numbers.
        visible: (V, N) whether the Gaussian can touch the image.
    """

    means: Tensor
    covariances: Tensor
    conics: Tensor
    opacities: Tensor
    depths: Tensor
    radii: Tensor
    visible: Tensor


def project(splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Projected:
    """Project every Gaussian into every view; differentiable in means, conics and depths."""
    rotation = viewpoints.world_from_camera[:, :3, :3].mT
    centres = viewpoints.world_from_camera[:, :3, 3]
    points = torch.einsum("vij,vnj->vni", rotation, splats.means - centres.unsqueeze(1))
    depths = points[..., 2]
    in_range = (depths >= settings.near_plane) & (depths <= settings.far_plane)
    points = torch.where(in_range.unsqueeze(-1), points, points.new_tensor([0.0, 0.0, 1.0]))

    axes = matrix_from_quat(splats.quats) * splats.scales.unsqueeze(-2)
    jacobian = _perspective_jacobian(points, viewpoints)
    axes_2d = jacobian @ (rotation.unsqueeze(1) @ axes)
    covariance = axes_2d @ axes_2d.mT
    xx = covariance[..., 0, 0] + settings.eps2d
    xy = covariance[..., 0, 1]
    yy = covariance[..., 1, 1] + settings.eps2d
    determinant = xx * yy - xy * xy
    in_range = in_range & (determinant > 0)
    safe = torch.where(determinant > 0, determinant, torch.ones_like(determinant))
    conics = torch.stack((yy / safe, -xy / safe, xx / safe), dim=-1)

    focal = viewpoints.K[:, None, (0, 1), (0, 1)]
    principal = viewpoints.K[:, None, (0, 1), (2, 2)]
    means = focal * points[..., :2] / points[..., 2:] + principal
    covariances = torch.stack((xx, xy, yy), dim=-1)
    opacities = splats.opacities.expand_as(depths)
    if settings.antialiased:
        opacities = opacities * _compensation(axes_2d, safe)
    radii = _radii(covariances, opacities)
    visible = in_range & _touches_image(means, radii, opacities, viewpoints, settings)
    visible = visible & _can_be_rendered(splats, settings.sh_degree)
    return Projected(means, covariances, conics, opacities, depths, radii, visible)


def _compensation(axes_2d: Tensor, determinant: Tensor) -> Tensor:
    """√(det Σ / det (Σ + eps2d·I)), (V, N); det A·Aᵀ is the squared cross product of A's rows."""
    normal = torch.linalg.cross(axes_2d[..., 0, :], axes_2d[..., 1, :])
    ratio = normal.square().sum(dim=-1) / determinant
    root: Tensor = torch.where(ratio > 0, ratio, torch.ones_like(ratio)).sqrt()
    return torch.where(ratio > 0, root, torch.zeros_like(root))


def _perspective_jacobian(points: Tensor, viewpoints: Viewpoints) -> Tensor:
    """Derivative (V, N, 2, 3) of the pixel with respect to the point (V, N, 3) in camera space.

    It is taken at a point clamped to near the frustum, where the linearization still makes sense.
    """
    K = viewpoints.K
    fx, fy, cx, cy = (K[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    x, y, z = points.unbind(-1)
    x = z * _clamped_slope(x / z, fx, cx, viewpoints.width)
    y = z * _clamped_slope(y / z, fy, cy, viewpoints.height)
    zero = torch.zeros_like(z)
    row_x = torch.stack((fx / z, zero, -fx * x / (z * z)), dim=-1)
    row_y = torch.stack((zero, fy / z, -fy * y / (z * z)), dim=-1)
    return torch.stack((row_x, row_y), dim=-2)


def _clamped_slope(slope: Tensor, focal: Tensor, principal: Tensor, extent: int) -> Tensor:
    margin = FRUSTUM_MARGIN * 0.5 * extent / focal
    low = -(principal / focal + margin)
    high = (extent - principal) / focal + margin
    return torch.minimum(torch.maximum(slope, low), high)


def _radii(covariances: Tensor, opacities: Tensor) -> Tensor:
    """Half sizes of the box outside of which alpha is below 1/255, rounded up."""
    level = 2 * torch.log(opacities.clamp_min(ALPHA_MIN) * 255)
    extent = level.clamp_min(0).sqrt().clamp_max(EXTENT_MAX)
    return torch.ceil(extent.unsqueeze(-1) * covariances[..., (0, 2)].clamp_min(0).sqrt())


def _touches_image(
    means: Tensor,
    radii: Tensor,
    opacities: Tensor,
    viewpoints: Viewpoints,
    settings: RenderSettings,
) -> Tensor:
    size = means.new_tensor([viewpoints.width, viewpoints.height])
    overlaps = ((means + radii > 0) & (means - radii < size)).all(dim=-1)
    large = (radii > settings.radius_clip).any(dim=-1)
    # The float32 value of 1/255 is the threshold, whatever the dtype of the inputs.
    opaque = opacities >= torch.tensor(ALPHA_MIN, dtype=torch.float32).to(opacities)
    return overlaps & large & opaque


def _can_be_rendered(splats: Splats, degree: int | None) -> Tensor:
    """Whether all used numbers of a Gaussian are finite and its quaternion is not zero, (N,).

    The others are culled, in every mode.
    """
    parts = (splats.means, splats.quats, splats.scales, splats.opacities[:, None])
    is_whole = torch.cat(parts, dim=-1).isfinite().all(dim=-1) & (splats.quats != 0).any(dim=-1)
    return is_whole & finite_colors(splats.sh_coeffs, degree)


def finite_colors(sh_coeffs: Tensor, degree: int | None) -> Tensor:
    """Whether the harmonics of a Gaussian that are used are finite, (N,).

    Args:
        sh_coeffs: (N, K, 3).
        degree: of the harmonics that are used; None for all.
    """
    used = sh_coeffs if degree is None else sh_coeffs[:, : num_coeffs(degree)]
    return used.isfinite().flatten(1).all(dim=-1)


def shade(splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Tensor:
    """Colours (V, N, 3) of the Gaussians in the direction of each camera, not below zero."""
    degree = settings.sh_degree
    sh_coeffs = splats.sh_coeffs
    if degree is not None:
        sh_coeffs = sh_coeffs[:, : num_coeffs(degree)]
    centres = viewpoints.world_from_camera[:, None, :3, 3]
    directions = functional.normalize(splats.means - centres, dim=-1)
    return (evaluate(sh_coeffs, directions) + COLOR_OFFSET).clamp_min(0)


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Positions (H·W, 2) of the pixels, row by row, x before y."""
    y = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
    x = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
    return torch.cartesian_prod(y, x).reshape(-1, 2).flip(-1)
