"""Fit a small scene to photos with known cameras by gradient descent: 03_fit_to_photos.py [steps].

The photos are rendered here from a known scene; replace them with your own. Runs on a CPU.
"""

import sys

import torch

from zipsplat.render import RenderSettings, Splats, Viewpoints, choose
from zipsplat.rotations import look_at

SIZE, NUM_VIEWS, NUM_GAUSSIANS = 64, 8, 400


def cameras() -> Viewpoints:
    """Eight cameras on a circle around the origin."""
    angle = torch.arange(NUM_VIEWS) * (2 * torch.pi / NUM_VIEWS)
    position = torch.stack((4 * angle.sin(), torch.full_like(angle, -1.0), -4 * angle.cos()), dim=1)
    pose = torch.eye(4).repeat(NUM_VIEWS, 1, 1)
    pose[:, :3, :3] = look_at(position, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]))
    pose[:, :3, 3] = position
    K = torch.tensor([[80.0, 0, SIZE / 2], [0, 80, SIZE / 2], [0, 0, 1]]).repeat(NUM_VIEWS, 1, 1)
    return Viewpoints(pose, K, SIZE, SIZE)


def splats(means: torch.Tensor, colors: torch.Tensor, sizes: torch.Tensor) -> Splats:
    """Round Gaussians from unconstrained numbers."""
    quats, opacities = torch.eye(4)[:1].repeat(len(means), 1), torch.full((len(means),), 0.7)
    return Splats(means, quats, sizes.exp().expand(-1, 3), opacities, colors.unsqueeze(1))


def main() -> None:
    """Fit the scene and print its PSNR."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    ring = torch.linspace(0, 2 * torch.pi, 60)
    target = torch.stack((ring.cos(), 0.3 * (3 * ring).sin(), ring.sin()), dim=1)
    views, renderer = cameras(), choose("auto", torch.device("cpu"))
    photos = renderer.render(
        splats(target, torch.sin(target * 3 + 1), torch.full((60, 1), -2.0)),
        views,
        RenderSettings(),
    ).color
    means = torch.randn(NUM_GAUSSIANS, 3).requires_grad_()
    colors = torch.zeros(NUM_GAUSSIANS, 3).requires_grad_()
    sizes = torch.full((NUM_GAUSSIANS, 1), -2.5).requires_grad_()
    optimizer = torch.optim.Adam([means, colors, sizes], lr=0.03)
    for step in range(steps + 1):
        image = renderer.render(splats(means, colors, sizes), views, RenderSettings()).color
        loss = (image - photos).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: PSNR {-10 * loss.log10().item():.1f} dB")


if __name__ == "__main__":
    main()
