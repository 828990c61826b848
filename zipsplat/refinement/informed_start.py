"""Initial scene of a refinement of few photos: stereo geometry plus a network's scene."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians
from zipsplat.masks import prepared
from zipsplat.posed_images import PosedImages
from zipsplat.predictor import ZipSplat
from zipsplat.refinement.initialization import FEW_PHOTOS, initial_gaussians
from zipsplat.refinement.plane_sweep import estimate_depth
from zipsplat.refinement.problem import gaussian_cap, start_count
from zipsplat.refinement.settings import RefinementSettings
from zipsplat.refinement.token_refinement import refined_by_tokens
from zipsplat.refinement.views import hold_out


def informed_start(
    load_network: Callable[[Tensor], ZipSplat],
    photos: PosedImages,
    settings: RefinementSettings,
    on_stage: Callable[[str], object] | None = None,
) -> Gaussians | None:
    """Combine stereo geometry and the network's scene if photos are few; otherwise return None.

    The network gets the cameras, and its scene tokens are refined. It contributes at most a third
    of the Gaussians. Held-out photos are not used.

    Args:
        load_network: returns the network for an image (3, H, W); called only if photos are few.
        photos: all photos, with cameras.
        settings: of the refinement.
        on_stage: called with the name of each stage.

    Returns:
        (N,) float32 in the frame of the photos, on the CPU; None if there is a single training
        photo, or 8 or more.
    """
    training, _ = hold_out(len(photos), settings.hold_out)
    if not 1 < len(training) < FEW_PHOTOS:
        return None
    on_stage = on_stage or _ignore
    trained = photos.resized(settings.max_side).select(training)
    cap = gaussian_cap(trained, settings.max_gaussians)
    on_stage("estimating depth")
    maps = estimate_depth(trained)
    depth = float(torch.cat([found.depth.flatten() for found in maps]).median())
    on_stage("loading weights")
    network = load_network(trained.images[0])
    on_stage("reconstructing")
    scene = _network_scene(network, trained, depth, cap // 3)
    return initial_gaussians(
        trained, start_count(cap), depth=maps, feed_forward=scene, seed=settings.seed
    )


def _network_scene(network: ZipSplat, photos: PosedImages, depth: float, most: int) -> Gaussians:
    """The network's scene of images with cameras, in their frame, on the CPU."""
    views = (list(photos.images), photos.cameras, photos.poses)
    features = network.encode(*views, True, prior_scale=1 / depth, masks=photos.masks)
    per_token = network.model.config.gaussians_per_token
    compression = min(1.0, max(1, most // per_token) / features.num_tokens)
    inputs = network.preprocessor(*views)
    masks = None
    if photos.masks is not None:
        size = inputs.images.shape[-2:]
        masks = [(prepared(mask, *size) == 1).to(network.device) for mask in photos.masks]
    scene = refined_by_tokens(network.model, features, inputs, 1 / depth, compression, masks=masks)
    return scene.cpu().transform(photos.poses[0], depth)


def _ignore(stage: str) -> None:
    """The default `on_stage`: do nothing."""
