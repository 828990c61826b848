"""What a refinement works on: photos at their size, a start, and who judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages
from zipsplat.pruning import keep_most_important
from zipsplat.refinement.judging import Judge
from zipsplat.refinement.recipe import Recipe
from zipsplat.refinement.settings import RefinementSettings
from zipsplat.refinement.trainer import Task
from zipsplat.refinement.views import View, hold_out, views_of
from zipsplat.render import choose

GAUSSIANS_PER_PIXEL = 60_000 / (640 * 360)
_LEAST_CAP = 1000
_JUDGED_VIEWS = 8  # most photos of training that are judged by
_EXTENT_FACTOR = 1.1
_LEAST_EXTENT = 0.2  # of a typical depth


@dataclass(frozen=True)
class Problem:
    """What is refined against what.

    Args:
        photos: all of them, as they were given.
        held_out: indices of the photos that are only judged by.
        start: (N,) the scene at first.
        task: of the trainer.
        judge: who says what is best.
        training_judge: who compares cameras.
    """

    photos: PosedImages
    held_out: list[int]
    start: Gaussians
    task: Task
    judge: Judge
    training_judge: Judge


def make_problem(
    photos: PosedImages, gaussians: Gaussians | None, settings: RefinementSettings
) -> Problem:
    """Prepare a refinement; see `refine`."""
    training, held_out = hold_out(len(photos), settings.hold_out)
    small = photos.resized(settings.max_side)
    start = _start(small.select(training), gaussians, settings)
    renderer = choose(settings.renderer, start.device)
    views = views_of(small, training, start.device)
    recipe = Recipe.for_photos(len(training), has_color=settings.optimize_color)
    poses = photos.poses.to(start.means)
    depth = typical_depth(start.means, poses[torch.tensor(training)])
    task = Task(
        views=views,
        held_out=views_of(small, held_out, start.device),
        poses=poses,
        renderer=renderer,
        recipe=recipe,
        cap=max(start.num_gaussians, gaussian_cap(views, settings.max_gaussians)),
        extent=max(_EXTENT_FACTOR * spread(poses.t), _LEAST_EXTENT * depth),
        depth=depth,
        seed=settings.seed,
        moves_poses=settings.optimize_poses,
        moves_focal=settings.optimize_focal,
    )
    of_training = Judge(evenly(views, _JUDGED_VIEWS), renderer, recipe.color)
    of_held_out = Judge(task.held_out, renderer, recipe.color)
    return Problem(
        photos, held_out, start, task, of_held_out if held_out else of_training, of_training
    )


def gaussian_cap(views: Sequence[View], chosen: int | None) -> int:
    """The chosen cap on the number of Gaussians, or one for the size of the pictures."""
    if chosen is not None:
        return chosen
    pixels = sum(view.image[0].numel() for view in views) / len(views)
    return max(_LEAST_CAP, round(GAUSSIANS_PER_PIXEL * pixels))


def typical_depth(means: Tensor, poses: Pose) -> float:
    """Median depth of points (N, 3) in front of the cameras (V,); 1 if there are none."""
    depths = (means - poses.t[:, None]) @ poses.R[:, :, 2:]
    in_front = depths[depths > 0]
    return float(in_front.median()) if len(in_front) else 1.0


def spread(centres: Tensor) -> float:
    """Largest distance of points (V, 3) from their mean."""
    return float((centres - centres.mean(dim=0)).norm(dim=-1).max())


def evenly(views: Sequence[View], count: int) -> Sequence[View]:
    """At most so many of the views, evenly spread over them."""
    if len(views) <= count:
        return views
    return [views[index * (len(views) - 1) // (count - 1)] for index in range(count)]


def _start(
    photos: PosedImages, gaussians: Gaussians | None, settings: RefinementSettings
) -> Gaussians:
    """The given scene, no larger than was asked for, or one made of the photos."""
    if gaussians is None:
        raise NotImplementedError
    if gaussians.ndim != 1 or not gaussians.num_gaussians:
        raise ValueError(f"one scene (N,) with Gaussians is refined, got {tuple(gaussians.shape)}")
    scene = gaussians.detach().to(torch.float32)
    scene.check()
    if settings.max_gaussians is None:
        return scene
    views = (photos.cameras, photos.poses)
    return keep_most_important(scene, settings.max_gaussians, views)
