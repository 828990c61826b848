"""`zipsplat reconstruct` with weights of Depth Anything 3: a scene of unprojected depth maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zipsplat.cli.console import Console

if TYPE_CHECKING:
    import argparse

    from torch import Tensor

    from zipsplat.gaussians import Gaussians


def reconstruct_from_depth(
    options: argparse.Namespace, console: Console, views: list[Tensor]
) -> Gaussians:
    """The scene (N,) that depth maps of the views show, on the CPU.

    Args:
        options: of `reconstruct`: `weights`, `device`, `image_size`, `compression`.
        console: for progress.
        views: pictures (3, H, W), RGB in [0, 1].
    """
    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.depth.scene import scene_of

    size = options.image_size if isinstance(options.image_size, tuple) else 504
    with console.stage("loading weights"):
        model = DepthAnything(options.weights, options.device, image_size=size)
    with console.stage("predicting depth"):
        depth = model(views)
    with console.stage("unprojecting"):
        return scene_of(depth, options.compression).cpu()
