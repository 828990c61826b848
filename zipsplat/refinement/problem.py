"""Prepare a refinement: photos at their size, initial Gaussians, training and held-out views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages
from zipsplat.pruning import keep_most_important
from zipsplat.refinement.evaluation import Evaluator
from zipsplat.refinement.initialization import initial_gaussians
from zipsplat.refinement.plane_sweep import estimate_depth
from zipsplat.refinement.recipe import Recipe
from zipsplat.refinement.settings import RefinementSettings
from zipsplat.refinement.trainer import Scale, Task
from zipsplat.refinement.views import View, hold_out, views_of
from zipsplat.render import choose

GAUSSIANS_PER_PIXEL = 60_000 / (640 * 360)
_LEAST_CAP = 1000
_START_SHARE = 2 / 3  # of the cap; the rest is left for densification
_EVALUATED_VIEWS = 8  # at most, of the training photos, to evaluate with
_EXTENT_FACTOR = 1.1
_LEAST_EXTENT = 0.2  # of a typical depth, for cameras at nearly one position


@dataclass(frozen=True)
class Problem:
    """A prepared refinement.

    Args:
        photos: all photos, at their original size.
        held_out: indices of the held-out photos.
        start: (N,) the initial scene.
        task: of the trainer.
        evaluator: scores candidates for the best scene.
        training_evaluator: scores the trial of moving cameras.
    """

    photos: PosedImages
    held_out: list[int]
    start: Gaussians
    task: Task
    evaluator: Evaluator
    training_evaluator: Evaluator


def make_problem(
    photos: PosedImages, gaussians: Gaussians | None, settings: RefinementSettings
) -> Problem:
    """Prepare a refinement; arguments and errors as for `refine`."""
    training, held_out = hold_out(len(photos), settings.hold_out)
    recipe = Recipe.for_photos(len(training), has_color=settings.optimize_color)
    device = photos.images[0].device if gaussians is None else gaussians.device
    small = _on_cpu(photos).resized(settings.max_side)
    trained = small.select(training)
    cap = gaussian_cap(trained, settings.max_gaussians)
    needs_depth = gaussians is None or recipe.depth > 0
    maps = estimate_depth(trained) if needs_depth and len(trained) > 1 else None
    if gaussians is None:
        start = initial_gaussians(trained, start_count(cap), depth=maps, seed=settings.seed)
        start = start.to(device)
    else:
        start = _checked(gaussians, trained, settings.max_gaussians)
    views = views_of(small, training, device)
    if maps is not None and recipe.depth > 0:
        views = [view.with_depth(found) for view, found in zip(views, maps, strict=True)]
    task = Task(
        views=views,
        held_out=views_of(small, held_out, device),
        poses=photos.poses.to(start.means),
        renderer=choose(settings.renderer, device),
        recipe=recipe,
        cap=max(start.num_gaussians, cap),
        scale=scale_of(start.means, trained.poses.to(start.means)),
        seed=settings.seed,
        moves_poses=settings.optimize_poses,
        moves_focal=settings.optimize_focal,
    )
    return _with_evaluators(photos, held_out, start, task)


def _with_evaluators(
    photos: PosedImages, held_out: list[int], start: Gaussians, task: Task
) -> Problem:
    of_training = Evaluator(evenly(task.views, _EVALUATED_VIEWS), task.renderer, task.recipe.color)
    of_held_out = Evaluator(task.held_out, task.renderer, task.recipe.color)
    evaluator = of_held_out if held_out else of_training
    return Problem(photos, held_out, start, task, evaluator, of_training)


def _on_cpu(photos: PosedImages) -> PosedImages:
    """Move photos to the CPU, where they are resized and depth is estimated."""
    images = tuple(image.cpu() for image in photos.images)
    masks = photos.masks and tuple(mask.cpu() for mask in photos.masks)
    return PosedImages(
        images, photos.cameras.cpu(), photos.poses.cpu(), photos.names, photos.points, masks
    )


def gaussian_cap(photos: PosedImages, chosen: int | None) -> int:
    """The chosen cap on the number of Gaussians, or the default for the image size."""
    if chosen is not None:
        return chosen
    pixels = sum(image[0].numel() for image in photos.images) / len(photos)
    return max(_LEAST_CAP, round(GAUSSIANS_PER_PIXEL * pixels))


def start_count(cap: int) -> int:
    """Number of initial Gaussians for a cap."""
    return max(1, round(_START_SHARE * cap))


def scale_of(means: Tensor, poses: Pose) -> Scale:
    """The scale of a scene with centres (N, 3) and cameras (V,)."""
    depths = (means - poses.t[:, None]) @ poses.R[:, :, 2:]
    in_front = depths[depths > 0]
    depth = float(in_front.median()) if len(in_front) else 1.0
    spread = float((poses.t - poses.t.mean(dim=0)).norm(dim=-1).max())
    return Scale(extent=max(_EXTENT_FACTOR * spread, _LEAST_EXTENT * depth), depth=depth)


def evenly(views: Sequence[View], count: int) -> Sequence[View]:
    """At most `count` of the views, evenly spaced."""
    if len(views) <= count:
        return views
    return [views[index * (len(views) - 1) // (count - 1)] for index in range(count)]


def _checked(gaussians: Gaussians, photos: PosedImages, most: int | None) -> Gaussians:
    """The given scene, pruned to `most` Gaussians."""
    if gaussians.ndim != 1 or not gaussians.num_gaussians:
        raise ValueError(f"expected one scene (N,) with N > 0, got {tuple(gaussians.shape)}")
    scene = gaussians.detach().to(torch.float32)
    scene.check()
    if most is None:
        return scene
    return keep_most_important(scene, most, (photos.cameras, photos.poses))
