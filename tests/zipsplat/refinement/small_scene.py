"""A scene of a few dozen Gaussians and photos of it, small enough for hundreds of steps."""

from __future__ import annotations

from dataclasses import replace

import torch

from zipsplat import Camera, Gaussians, Pose
from zipsplat.harmonics import dc_from_rgb
from zipsplat.posed_images import PosedImages

WIDTH, HEIGHT, FOCAL = 32, 24, 30.0


def small_scene(count: int = 60, seed: int = 0) -> Gaussians:
    """Coloured balls at depths of 2 to 4, degree 1."""
    numbers = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return low + (high - low) * torch.rand(*shape, generator=numbers)

    means = torch.cat((uniform(count, 2, low=-1.5, high=1.5), uniform(count, 1, low=2, high=4)), -1)
    colors = dc_from_rgb(uniform(count, 1, 3))
    return Gaussians(
        means,
        uniform(count, 3, low=0.1, high=0.3),
        torch.randn(count, 4, generator=numbers),
        uniform(count, low=0.5, high=0.95),
        torch.cat((colors, torch.zeros(count, 3, 3)), dim=1),
    )


def side_by_side(count: int) -> Pose:
    """Cameras on a line that look ahead."""
    centres = torch.zeros(count, 3)
    centres[:, 0] = torch.linspace(-0.5, 0.5, count)
    return Pose(torch.eye(3).expand(count, 3, 3), centres)


def around(count: int) -> Pose:
    """Cameras on an arc around the scene, which tell its depth from the focal length."""
    return Pose.orbit(torch.tensor([0.0, 0.0, 3.0]), 3.0, torch.linspace(-25, 25, count))


def photos_of(
    scene: Gaussians, count: int, renderer: str = "cpu", poses: Pose | None = None
) -> PosedImages:
    """Photos of a scene from cameras side by side, or from others."""
    poses = side_by_side(count) if poses is None else poses
    camera = Camera.from_focal(FOCAL, w=WIDTH, h=HEIGHT)
    cameras = torch.stack([camera] * count)
    with torch.no_grad():
        images, _ = scene.render(cameras, poses, renderer=renderer)
    names = tuple(f"{index}.png" for index in range(count))
    return PosedImages(tuple(images.clamp(0, 1)), cameras, poses, names)


def disturbed(scene: Gaussians, amount: float = 0.05, seed: int = 1) -> Gaussians:
    """The scene with its centres and colours changed at random."""
    numbers = torch.Generator().manual_seed(seed)

    def noise(value: torch.Tensor) -> torch.Tensor:
        return amount * torch.randn(value.shape, generator=numbers)

    return replace(
        scene,
        means=scene.means + noise(scene.means),
        sh_coeffs=scene.sh_coeffs + 4 * noise(scene.sh_coeffs),
    )
