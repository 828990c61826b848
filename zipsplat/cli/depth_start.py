"""`zipsplat reconstruct` with Depth Anything 3: a scene from unprojected depth maps."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zipsplat.cli.console import Console

if TYPE_CHECKING:
    import argparse

    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.gaussians import Gaussians
    from zipsplat.inputs import MaskedViews
    from zipsplat.posed_images import PosedImages
    from zipsplat.refinement import RefinementSettings

logger = logging.getLogger(__name__)


def load_depth_anything(options: argparse.Namespace, console: Console) -> DepthAnything | None:
    """Load the weights of `--weights` if they are of Depth Anything 3, else return None.

    Args:
        options: of `reconstruct`: `weights`, `device`, `dtype`, `image_size`.
        console: for progress.
    """
    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.depth.unprojection import is_depth_anything

    if not is_depth_anything(options.weights):
        return None
    size = options.image_size if isinstance(options.image_size, tuple) else 504
    with console.stage("loading weights"):
        return DepthAnything(options.weights, options.device, options.dtype, size)


def reconstruct_from_depth(
    model: DepthAnything, views: MaskedViews, compression: float, console: Console
) -> Gaussians:
    """Reconstruct a scene (N,) on the CPU from the depth maps of the views.

    Args:
        model: predicts the depth maps.
        views: images (3, H, W), RGB in [0, 1], optionally with masks.
        compression: share of the pixels to unproject, in (0, 1].
        console: for progress.
    """
    from zipsplat.depth.unprojection import scene_of

    with console.stage("predicting depth"):
        depth = model(views.images)
    with console.stage("unprojecting"):
        return scene_of(depth, compression, views.masks).cpu()


def depth_start(
    model: DepthAnything, photos: PosedImages, settings: RefinementSettings, console: Console
) -> Gaussians | None:
    """Initial scene of a refinement, from depth maps of its training photos.

    With three or more photos the network gets their cameras, and its depth adopts their scale.

    Returns:
        (N,) in the frame of the photos, on the CPU; None, with a warning, if the scale cannot be
        determined, e.g. because the cameras lie on a line.
    """
    from zipsplat.depth.unprojection import scene_of
    from zipsplat.refinement.problem import gaussian_cap, start_count
    from zipsplat.refinement.views import hold_out

    training, _ = hold_out(len(photos), settings.hold_out)
    trained = photos.resized(settings.max_side).select(training)
    cap = gaussian_cap(trained, settings.max_gaussians)
    given = (trained.cameras, trained.poses) if len(trained) > 2 else ()
    with console.stage("predicting depth"):
        try:
            depth = model(list(trained.images), *given)
        except ValueError as error:
            logger.warning("starting from stereo geometry alone: %s", error)
            return None
        share = min(1.0, start_count(cap) / depth.depth.numel())
        return scene_of(depth, share, trained.masks).cpu()
