"""The kernels of refinement, compiled in a second process while cameras are estimated."""

from __future__ import annotations

from pathlib import Path

import torch

from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.refinement.loop import refine
from zipsplat.refinement.settings import RefinementSettings
from zipsplat.render.cpu.ahead import KernelsAhead

_WIDTH, _HEIGHT = 48, 36
_FEW, _MANY = 4, 14
_MOST_OF_FEW = 12  # photos; up to this many train with depth, which has its own kernels
_RENDERER = Path(__file__).parents[1] / "render" / "cpu" / "renderer.py"  # found by its name


def refinement_kernels(num_photos: int) -> KernelsAhead:
    """The kernels of a refinement of about `num_photos` photos."""
    num_views = _MANY if num_photos > _MOST_OF_FEW else _FEW
    call = (__name__, compile_kernels.__name__, str(num_views))
    return KernelsAhead(f"refinement-{num_views}", [Path(__file__), _RENDERER], [call])


def compile_kernels(num_views: int) -> None:
    """Refine a tiny scene, so that every kernel that refinement needs is in the cache.

    Args:
        num_views: images of the scene; up to 12 need kernels of their own.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(num_views, 3, _HEIGHT, _WIDTH, generator=generator)
    cameras = Camera.from_focal(torch.full((num_views,), 40.0), w=_WIDTH, h=_HEIGHT)
    positions = torch.zeros(num_views, 3)
    positions[:, 0] = torch.linspace(-0.5, 0.5, num_views)
    poses = Pose(torch.eye(3).expand(num_views, 3, 3), positions)
    settings = RefinementSettings(seconds=None, steps=3, max_gaussians=200, renderer="cpu")
    refine(None, images, cameras, poses, settings=settings)
