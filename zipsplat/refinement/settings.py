"""Settings of refinement, its progress reports and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose


@dataclass(frozen=True)
class RefinementSettings:
    """Duration and options of a refinement.

    Args:
        seconds: wall time to spend; None if `steps` is given.
        steps: number of optimizer steps; results are then bit-identical for equal seed and number
            of threads. None if `seconds` is given. Exactly one of the two must be given.
        max_side: images are scaled down to this many pixels on their longer side.
        max_gaussians: cap on the number of Gaussians; None depends on the image size (60 000 at 640
            pixels).
        hold_out: hold out every n-th view for evaluation, in the middle of each n; 0 holds out
            none. None holds out every eighth if there are at least eight.
        seed: of all random choices.
        optimize_poses: also optimise the camera poses, in the second half.
        optimize_focal: also optimise one common focal length, in the second half.
        optimize_color: also optimise an affine colour correction per photo.
        renderer: "auto", "cuda", "cpu" or "reference".
    """

    seconds: float | None = 30.0
    steps: int | None = None
    max_side: int = 640
    max_gaussians: int | None = None
    hold_out: int | None = None
    seed: int = 0
    optimize_poses: bool = False
    optimize_focal: bool = False
    optimize_color: bool = False
    renderer: str = "auto"

    def __post_init__(self) -> None:
        """Check the ranges."""
        if (self.seconds is None) == (self.steps is None):
            raise ValueError("give either seconds or steps; set the other to None")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds must be above 0, got {self.seconds}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.hold_out is not None and self.hold_out != 0 and self.hold_out < 2:
            raise ValueError(f"hold_out must be 0 or at least 2, got {self.hold_out}")


@dataclass(frozen=True)
class RefinementProgress:
    """State of a running refinement.

    Args:
        step: optimizer steps so far.
        share: of the budget that is spent, in [0, 1].
        seconds_left: estimated wall time.
        num_gaussians: current number of Gaussians.
        train_psnr: smoothed PSNR of the training views, dB.
        held_out_psnr: of the held-out views at the last evaluation, dB; None if there are none.
        snapshot: returns a detached copy of the current scene.
    """

    step: int
    share: float
    seconds_left: float
    num_gaussians: int
    train_psnr: float
    held_out_psnr: float | None
    snapshot: Callable[[], Gaussians]


OnStep = Callable[[RefinementProgress], bool | None]
"""Called after each step; returning False stops the refinement at the best so far."""


@dataclass(frozen=True)
class ProgressPoint:
    """One point of the curve: held-out or smoothed training PSNR over time and steps."""

    step: int
    seconds: float
    num_gaussians: int
    psnr: float
    ssim: float


@dataclass(frozen=True)
class RefinedScene:
    """The best scene of a refinement.

    Args:
        gaussians: (N,) one scene.
        cameras: (V,) of all views at the input size, with the optimised focal length if requested.
        poses: (V,) of all views, optimised if requested.
        held_out: indices of the held-out views.
        start_psnr: PSNR on the evaluation views before the first step, dB.
        psnr: PSNR on the same views for the returned scene, dB.
        ssim: SSIM likewise.
        curve: PSNR over the run.
        num_steps: steps taken.
        stopped: why it ended: "budget", "converged" or "interrupted".
    """

    gaussians: Gaussians
    cameras: Camera
    poses: Pose
    held_out: tuple[int, ...]
    start_psnr: float
    psnr: float
    ssim: float
    curve: tuple[ProgressPoint, ...]
    num_steps: int
    stopped: str
