"""A seeded scene like those of pixel-aligned networks: one Gaussian per pixel of a few views.

Six cameras stand close together in a box-shaped room with three balls; each pixel's ray ends in a
Gaussian the size of the pixel's footprint. Views overlap, so Gaussians often hide others. As in
the released model's outputs, the median distance from the first camera is one.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from zipsplat import Gaussians, Pose
from zipsplat.harmonics import dc_from_rgb
from zipsplat.rotations import quat_from_matrix
from zipsplat.sh_constants import num_coeffs

UNIT = 0.26  # scene units per metre; makes the median distance about 1
LOW, HIGH = UNIT * torch.tensor([-3.0, -1.5, -2.0]), UNIT * torch.tensor([3.0, 1.5, 6.0])
BALLS = (((0.8, 0.6, 3.0), 0.9), ((-1.2, 0.9, 2.2), 0.6), ((0.0, -0.7, 4.5), 0.5))  # metres
NUM_VIEWS, FOV_DEG = 6, 70.0


def camera_poses() -> Pose:
    """Six poses on a small arc, facing the room."""
    middle = UNIT * torch.tensor([0.0, 0.0, 3.0])
    azimuths = torch.linspace(-25, 25, NUM_VIEWS)
    return Pose.orbit(middle, 3.5 * UNIT, azimuths, torch.full((NUM_VIEWS,), 5.0))


def room_scene(num: int = 100_000, seed: int = 0) -> Gaussians:
    """Exactly `num` Gaussians of SH degree 1, in the order of views and pixels."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(num, *shape, generator=generator)

    side = math.ceil(math.sqrt(num / NUM_VIEWS))
    poses = camera_poses()
    half = math.tan(math.radians(FOV_DEG) / 2)
    grid = ((torch.arange(side) + 0.5) / side * 2 - 1) * half
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    local = torch.stack((x, y, torch.ones_like(x)), dim=-1).reshape(-1, 3)
    directions = torch.cat([local @ rotation.T for rotation in poses.R])[:num]
    views = torch.arange(NUM_VIEWS).repeat_interleave(side * side)[:num]
    depth = _depth(poses.t[views], directions) * (1 + 0.003 * noise(1))
    means = poses.t[views] + depth * directions
    metres = means / UNIT
    colors = 0.5 + 0.35 * torch.sin(3 * metres + 2 * torch.sin(2 * metres.roll(1, dims=1)))
    sizes = depth * (2 * half / side) * torch.tensor([0.8, 0.8, 0.4])
    return Gaussians.from_parameters(
        means,
        sizes * torch.exp(0.3 * noise(3)),
        quat_from_matrix(poses.R)[views] + 0.15 * noise(4),
        torch.sigmoid(2 + 2 * noise()),
        torch.cat((dc_from_rgb(colors).unsqueeze(1), 0.03 * noise(3, 3)), dim=1),
    )


def room_of_degree(num: int, degree: int) -> Gaussians:
    """The room, with weak random harmonics above its own of degree 1."""
    scene = room_scene(num)
    if degree <= 1:
        return scene.with_sh_degree(degree)
    generator = torch.Generator().manual_seed(1)
    more = 0.03 * torch.randn(num, num_coeffs(degree) - 4, 3, generator=generator)
    return replace(scene, sh_coeffs=torch.cat((scene.sh_coeffs, more), dim=1))


def _depth(origins: Tensor, directions: Tensor) -> Tensor:
    """Ray parameter (num, 1) of the nearest ball or wall."""
    ends = torch.where(directions > 0, HIGH, LOW)
    depth = ((ends - origins) / directions).amin(dim=-1)
    for center, radius in BALLS:
        offset = origins - UNIT * torch.tensor(center)
        a, b = directions.square().sum(-1), (offset * directions).sum(-1)
        root = b * b - a * (offset.square().sum(-1) - (UNIT * radius) ** 2)
        distance = (-b - root.clamp_min(0).sqrt()) / a
        depth = torch.where((root > 0) & (distance > 0) & (distance < depth), distance, depth)
    return depth.unsqueeze(-1)
