"""Random augmentation of whole training scenes, equal in all views."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import torch

from splatfactory.datasets.samples import Scene, Views
from zipsplat.camera import Camera
from zipsplat.pose import Pose


def vary(
    scene: Scene,
    mirror_probability: float,
    color_shuffle_probability: float,
    rng: np.random.RandomState,
) -> Scene:
    """Randomly mirror a scene and permute its colour channels.

    Args:
        scene: the scene.
        mirror_probability: in [0, 1].
        color_shuffle_probability: in [0, 1]; all six permutations are equally likely, the identity
            included.
        rng: random generator; not advanced for a probability of 0.
    """
    if mirror_probability > 0 and rng.random_sample() < mirror_probability:
        scene = _map_views(scene, mirror)
    if color_shuffle_probability > 0 and rng.random_sample() < color_shuffle_probability:
        order = [int(channel) for channel in rng.permutation(3)]
        scene = _map_views(scene, lambda views: reorder_channels(views, order))
    return scene


def mirror(views: Views) -> Views:
    """Mirror the world left to right.

    The world is reflected by M = diag(−1, 1, 1), and so is every camera: R becomes M R M, which is
    a rotation again, and t becomes M t. Points then project to W − x.

    Args:
        views: (...) views with images (..., 3, H, W) and depths (..., H, W), W pixels wide.
    """
    cameras, poses = views.cameras, views.poses
    signs = poses.t.new_tensor([-1.0, 1.0, 1.0])
    centre_x, centre_y = cameras.c.unbind(-1)
    return dataclasses.replace(
        views,
        images=views.images.flip(-1),
        cameras=Camera(
            cameras.size, cameras.f, torch.stack((views.width - centre_x, centre_y), dim=-1)
        ),
        poses=Pose(poses.R * torch.outer(signs, signs), poses.t * signs),
        depths=views.depths.flip(-1),
        masks=None if views.masks is None else views.masks.flip(-1),
    )


def reorder_channels(views: Views, order: Sequence[int]) -> Views:
    """Permute channels: new channel i is old channel `order[i]`.

    Args:
        views: (...) views with images (..., 3, H, W).
        order: a permutation of 0, 1, 2.

    Raises:
        ValueError: if `order` is not a permutation.
    """
    if sorted(order) != [0, 1, 2]:
        raise ValueError(f"order must be a permutation of 0, 1, 2, got {list(order)}")
    index = torch.tensor(order, device=views.device)
    return dataclasses.replace(views, images=views.images.index_select(-3, index))


def _map_views(scene: Scene, function: Callable[[Views], Views]) -> Scene:
    return dataclasses.replace(
        scene, context=function(scene.context), target=function(scene.target)
    )
