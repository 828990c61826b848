"""Photos of a wall whose every point has a colour by formula, so that its depth is exact."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages, SparsePoints

DEPTH = 2.0
SIZE = (72, 96)


def wall_color(x: Tensor, y: Tensor) -> Tensor:
    """(3, H, W) of points of the wall; waves of many directions, none finer than 4 pixels."""
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros(3, *x.shape)
    for _ in range(40):
        frequency = torch.randn(2, generator=generator) * 12
        phase = torch.rand(3, generator=generator) * 6.28
        angle = frequency[0] * x + frequency[1] * y
        total += torch.sin(angle + phase[:, None, None])
    return (0.5 + 0.06 * total).clamp(0, 1)


def wall_photos(num_views: int = 4, *, scale: float = 1.0, with_points: bool = True) -> PosedImages:
    """Cameras side by side, a little turned, in front of the wall z = DEPTH · scale."""
    H, W = SIZE
    camera = Camera.from_focal(90.0, 92.0, w=W, h=H, cx=47.0, cy=37.0)
    images, rotations, centers = [], [], []
    for view in range(num_views):
        angle = torch.tensor(0.03 * (view - 1.5))
        c, s, one, zero = angle.cos(), angle.sin(), torch.ones(()), torch.zeros(())
        R = torch.stack((c, zero, s, zero, one, zero, -s, zero, c)).reshape(3, 3)
        t = torch.tensor([0.2 * view, 0.07 * (view % 2), 0.03 * view])
        y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        rays = camera.unproject(torch.stack((x, y), -1).reshape(-1, 2), torch.ones(H * W)) @ R.T
        intersections = t + rays * ((DEPTH - t[2]) / rays[:, 2])[:, None]
        images.append(wall_color(intersections[:, 0].view(H, W), intersections[:, 1].view(H, W)))
        rotations.append(R)
        centers.append(t * scale)
    poses = Pose(torch.stack(rotations), torch.stack(centers))
    cameras = Camera(*(value.expand(num_views, 2) for value in (camera.size, camera.f, camera.c)))
    names = tuple(f"{view}.png" for view in range(num_views))
    points = wall_points(cameras, poses, scale) if with_points else None
    return PosedImages(tuple(images), cameras, poses, names, points)


def wall_points(cameras: Camera, poses: Pose, scale: float) -> SparsePoints:
    """A grid of points around the wall's depth that every view sees."""
    generator = torch.Generator().manual_seed(5)
    num, V = 30, len(poses)
    where = torch.rand(num, 3, generator=generator) - 0.5
    where = (where + torch.tensor([0.3, 0.0, DEPTH])) * scale
    pixels = [cameras[view].project(poses[view].inv().transform(where)) for view in range(V)]
    return SparsePoints(
        where.numpy(),
        np.full((num, 3), 0.5, np.float32),
        np.zeros(num, np.float32),
        np.arange(num + 1, dtype=np.int64) * V,
        np.tile(np.arange(V, dtype=np.int64), num),
        torch.stack(pixels, dim=1).reshape(-1, 2).numpy(),
    )
