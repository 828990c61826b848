"""Training steps: render one view, compare, step the optimizer, and densify at intervals."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.refinement import color, loss
from zipsplat.refinement.camera_optimizer import FOCAL_INTERVAL, CameraOptimizer
from zipsplat.refinement.evaluation import Candidate, psnr
from zipsplat.refinement.growth import MeanGrad2d, grow
from zipsplat.refinement.parameters import Parameters
from zipsplat.refinement.recipe import Recipe
from zipsplat.refinement.scene_optimizer import SceneOptimizer
from zipsplat.refinement.schedule import DEPTH_SHARE, HALF_SIZE_SHARE, is_growth_due
from zipsplat.refinement.views import View
from zipsplat.render import Rendered, Renderer, RenderMode, Splats
from zipsplat.render.cpu import torch_on_one_thread

FEW_GAUSSIANS = 200_000
"""With fewer, PyTorch's threads cost more than they save; see benchmarks/refinement_step.md."""
_ALIGN_INTERVAL = 8  # steps


@dataclass(frozen=True)
class Scale:
    """The scale of a scene, in world units.

    Args:
        extent: of the camera positions.
        depth: a typical depth.
    """

    extent: float
    depth: float


@dataclass(frozen=True)
class Task:
    """What is optimised, and how.

    Args:
        views: the training photos.
        held_out: the held-out photos; only their poses are optimised.
        poses: (V,) of all photos.
        renderer: renders the views.
        recipe: regularization.
        cap: on the number of Gaussians.
        scale: of the scene.
        seed: of the random choices.
        moves_poses: whether poses are optimised, when `Trainer.moves_cameras` is set.
        moves_focal: likewise the focal length.
    """

    views: Sequence[View]
    held_out: Sequence[View]
    poses: Pose
    renderer: Renderer
    recipe: Recipe
    cap: int
    scale: Scale
    seed: int = 0
    moves_poses: bool = False
    moves_focal: bool = False


class Trainer:
    """Optimises a scene step by step.

    Args:
        task: what to optimise.
        start: the initial scene.

    Attributes:
        num_steps: steps taken so far.
        moves_cameras: whether poses and focal length are being optimised.
    """

    def __init__(self, task: Task, start: Gaussians) -> None:
        self.task = task
        self.num_steps = 0
        self.moves_cameras = False
        self._halves = [view.halved() for view in task.views]
        self._optimizer = SceneOptimizer(Parameters.from_gaussians(start), task.scale.extent)
        self._cameras = CameraOptimizer(task.poses, task.scale.extent)
        self._colors = color.ColorMaps([view.index for view in task.views], start.means)
        self._grad2d = MeanGrad2d(start.opacities)
        self._random = np.random.default_rng(task.seed)
        self._order: list[int] = []

    @property
    def num_gaussians(self) -> int:
        """Current number of Gaussians."""
        return len(self._optimizer.parameters)

    def fork(self) -> Trainer:
        """An independent copy of the trainer."""
        other = copy.copy(self)
        for name in ("_optimizer", "_cameras", "_colors", "_grad2d", "_random", "_order"):
            setattr(other, name, copy.deepcopy(getattr(self, name)))
        return other

    @torch.no_grad()
    def candidate(self) -> Candidate:
        """A copy of the current state."""
        scene = self._optimizer.parameters.gaussians().detach().clone()
        return Candidate(scene, tuple(self._cameras.poses), self._cameras.focal_factor)

    def step(self, share: float) -> float:
        """Take one step.

        Args:
            share: of the refinement that is done, in [0, 1].

        Returns:
            PSNR of the sampled photo before the step, dB.
        """
        is_small = self.num_gaussians < FEW_GAUSSIANS and self.task.renderer.name == "cpu"
        with torch_on_one_thread() if is_small else nullcontext():
            return self._step(share)

    def _step(self, share: float) -> float:
        view = self._next_view(share)
        pose = self._pose(view)
        scene = self._thinned(self._optimizer.parameters.gaussians(), share)
        rendered = self._render(scene, view, pose, share)
        image = self._as_recorded(rendered, view)
        self._backward(rendered, image, view, share)
        self._observe(view)
        self._move_cameras(scene, view, share)
        self._align_held_out(scene, share)
        self._move_scene(share)
        return psnr(view.image, image.detach().clamp(0, 1), view.mask)

    def _next_view(self, share: float) -> View:
        """The next photo in random order; every photo comes once per epoch."""
        if not self._order:
            self._order = self._random.permutation(len(self.task.views)).tolist()
        index = self._order.pop()
        if share < HALF_SIZE_SHARE:
            return self._halves[index]
        self._halves.clear()
        return self.task.views[index]

    def _pose(self, view: View) -> Tensor:
        if self.moves_cameras and self.task.moves_poses:
            return self._cameras.moving_pose(view.index)
        return self._cameras.poses[view.index]

    def _thinned(self, scene: Gaussians, share: float) -> Gaussians:
        dropout = self.task.recipe.dropout * share
        return replace(scene, opacities=loss.dropped(scene.opacities, dropout, self._random))

    def _render(self, scene: Gaussians, view: View, pose: Tensor, share: float) -> Rendered:
        recipe = self.task.recipe
        wants_depth = recipe.smoothness > 0 or self._has_target(view, share)
        mode = RenderMode.RGB_D if wants_depth else RenderMode.RGB
        factor = self._cameras.focal_factor
        return view.render(self.task.renderer, scene.splats(), pose, factor, mode)

    def _as_recorded(self, rendered: Rendered, view: View) -> Tensor:
        """Rendered colours (3, H, W) after the photo's colour map."""
        assert rendered.color is not None, "the renderer left out the colours"
        image = rendered.color[0]
        return color.apply(self._colors[view.index], image) if self.task.recipe.color else image

    def _has_target(self, view: View, share: float) -> bool:
        has_weight = self.task.recipe.depth > 0 and share < DEPTH_SHARE
        return has_weight and view.inverse_depth is not None

    def _backward(self, rendered: Rendered, image: Tensor, view: View, share: float) -> None:
        """Backpropagate the loss."""
        _, gradient = view.photometric(image)
        extra = self._extra_loss(rendered, view, share)
        if extra is None:
            image.backward(gradient)
        else:
            torch.autograd.backward([image, extra], [gradient, torch.ones_like(extra)])

    def _extra_loss(self, rendered: Rendered, view: View, share: float) -> Tensor | None:
        """The depth losses of the recipe."""
        if rendered.depth is None:
            return None
        recipe, unit = self.task.recipe, self.task.scale.depth
        inverse = loss.inverse_depth(rendered)
        total = recipe.smoothness * loss.roughness(inverse, view.image, unit, view.mask)
        if self._has_target(view, share):
            assert view.inverse_depth is not None
            total = total + recipe.depth * loss.depth_error(inverse, view.inverse_depth, unit)
        return total

    def _observe(self, view: View) -> None:
        means = self._optimizer.parameters.means
        if means.grad is not None:
            self._grad2d.observe(means, means.grad, self._cameras.poses[view.index], view.focal)

    def _move_cameras(self, scene: Gaussians, view: View, share: float) -> None:
        if self.task.recipe.color:
            self._colors.step(share)
        if not self.moves_cameras:
            return
        if self.task.moves_focal and self.num_steps % FOCAL_INTERVAL == 0:
            splats, pose = scene.detach().splats(), self._cameras.poses[view.index]
            self._cameras.observe_focal(
                lambda factor: self._photometric(view, splats, pose, factor)
            )
        self._cameras.step(share)

    def _align_held_out(self, scene: Gaussians, share: float) -> None:
        """Every few steps, optimise the pose of one held-out photo against the fixed scene."""
        turn, is_turn = divmod(self.num_steps, _ALIGN_INTERVAL)
        if not (self.moves_cameras and self.task.moves_poses and self.task.held_out) or is_turn:
            return
        view = self.task.held_out[turn % len(self.task.held_out)]
        rendered = self._render(scene.detach(), view, self._cameras.moving_pose(view.index), share)
        image = self._as_recorded(rendered, view)
        image.backward(view.photometric(image)[1])
        self._cameras.step(share)

    @torch.no_grad()
    def _photometric(self, view: View, splats: Splats, pose: Tensor, factor: float) -> float:
        """Loss of one photo for a focal factor."""
        rendered = view.render(self.task.renderer, splats, pose, factor)
        return view.photometric(self._as_recorded(rendered, view))[0]

    def _move_scene(self, share: float) -> None:
        self.num_steps += 1
        self._optimizer.step(share)
        if self.task.recipe.opacity_factor < 1:
            self._optimizer.decay_opacities(self.task.recipe.opacity_factor)
        if is_growth_due(self.num_steps, share):
            grow(self._optimizer, self._grad2d.mean(), self.task.cap, self._random)
            self._grad2d = MeanGrad2d(self._optimizer.parameters.opacity_logits.detach())
