"""Camera optimisation alongside the scene: poses, and one factor on all focal lengths."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zipsplat.alignment import rotation_from_vector
from zipsplat.pose import Pose
from zipsplat.refinement.schedule import CAMERA_SHARE

FOCAL_INTERVAL = 5  # steps; each difference quotient renders two more images
_RATE = 2e-3  # radians for rotation, camera extents for translation
_FOCAL_RATE = 5e-3  # of the logarithm
_LEFT_AT_THE_END = 0.1  # of the rate; it decays over the second half
_FOCAL_STEP = 1e-3  # of the logarithm, for the difference quotient


class CameraOptimizer:
    """Poses T ← T·[exp(ω) | τ·extent], and a factor on the focal lengths.

    The six parameters of each photo have their own Adam moments and move only when that photo is
    sampled; they are folded into the pose after each step.

    Args:
        poses: (V,) initial poses.
        extent: of the cameras, world units.

    Attributes:
        poses: V current poses (4, 4), camera-to-world.
    """

    poses: list[Tensor]

    def __init__(self, poses: Pose, extent: float) -> None:
        self.poses = list(poses.Rt)
        self._extent = extent
        self._moves = [pose.new_zeros(6).requires_grad_() for pose in self.poses]
        self._log_focal = poses.t.new_zeros(()).requires_grad_()
        groups = [
            {"params": self._moves, "rate": _RATE},
            {"params": [self._log_focal], "rate": _FOCAL_RATE},
        ]
        self._adam = torch.optim.Adam(groups, eps=1e-15)

    def moving_pose(self, index: int) -> Tensor:
        """The pose (4, 4) of a photo, differentiable in its parameters."""
        return _moved(self.poses[index], self._moves[index], self._extent)

    @property
    def focal_factor(self) -> float:
        """The factor on all focal lengths."""
        return float(self._log_focal.detach().exp())

    def observe_focal(self, loss_at: Callable[[float], float]) -> None:
        """Set the gradient of the log focal factor.

        Renderers give no gradient to intrinsics, so it is a central difference quotient.

        Args:
            loss_at: the loss of one image for a focal factor.
        """
        self._log_focal.grad = self._log_focal.new_tensor(
            focal_derivative(loss_at, self.focal_factor)
        )

    def step(self, share: float) -> None:
        """Take an Adam step; `share` of the refinement is done."""
        since = max(0.0, (share - CAMERA_SHARE) / (1 - CAMERA_SHARE))
        for group in self._adam.param_groups:
            group["lr"] = group["rate"] * _LEFT_AT_THE_END**since
        self._adam.step()
        with torch.no_grad():
            for index, move in enumerate(self._moves):
                if move.grad is not None:
                    self.poses[index] = _moved(self.poses[index], move, self._extent)
                    move.zero_()
        self._adam.zero_grad()


def focal_derivative(loss_at: Callable[[float], float], factor: float) -> float:
    """Derivative of a loss with respect to the log focal factor, by central differences."""
    larger, smaller = factor * (1 + _FOCAL_STEP), factor / (1 + _FOCAL_STEP)
    quotient: float = (loss_at(larger) - loss_at(smaller)) / (2 * math.log1p(_FOCAL_STEP))
    return quotient


def _moved(pose: Tensor, move: Tensor, extent: float) -> Tensor:
    turn, shift = rotation_from_vector(move[:3]), extent * move[3:]
    top = torch.cat((turn, shift[:, None]), dim=1)
    return pose @ torch.cat((top, top.new_tensor([[0.0, 0.0, 0.0, 1.0]])))
