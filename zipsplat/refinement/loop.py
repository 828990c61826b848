"""The refinement loop: from the initial scene to the best scene."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages, SparsePoints
from zipsplat.refinement.evaluation import Best, Candidate, Evaluator, Score
from zipsplat.refinement.problem import Problem, make_problem
from zipsplat.refinement.schedule import CAMERA_SHARE, Budget, is_evaluation_due
from zipsplat.refinement.settings import (
    OnStep,
    ProgressPoint,
    RefinedScene,
    RefinementProgress,
    RefinementSettings,
)
from zipsplat.refinement.trainer import Trainer

BUDGET, CONVERGED, INTERRUPTED = "budget", "converged", "interrupted"
_DEFAULT = RefinementSettings()
_TRIAL_SHARE = 0.2  # of the steps so far, for each of the two branches of a trial
_MEMORY = 0.95  # decay of the smoothed PSNR per step


def refine(
    gaussians: Gaussians | None,
    images: Sequence[Tensor] | Tensor,
    cameras: Camera,
    poses: Pose,
    points: SparsePoints | None = None,
    settings: RefinementSettings = _DEFAULT,
    on_step: OnStep | None = None,
    masks: Sequence[Tensor] | None = None,
) -> RefinedScene:
    """Optimise a given or a new scene so that its renders match photos with known cameras.

    Returns the best state, including the initial one, by PSNR on the held-out photos if there are
    any, else on the training photos. Losses and parameters depend on the number of photos; see
    `docs/refinement.md`.

    Args:
        gaussians: (N,) one scene in the frame of the poses; None initializes Gaussians from stereo
            depth and sparse points. If it has more Gaussians than `settings.max_gaussians`, the
            most important ones are kept.
        images: V of (3, H, W), undistorted, RGB in [0, 1]; sizes may differ; or (V, 3, H, W).
        cameras: (V,) intrinsics in pixels of the images.
        poses: (V,) camera-to-world, OpenCV axes.
        points: sparse points of structure from motion in the same frame, if any.
        settings: duration and options.
        on_step: called after each step; returning False ends the refinement.
        masks: V of (H, W) bool, True where the image counts; see `zipsplat.masks`. All other
            pixels are excluded from the loss, the initialization, PSNR and SSIM.

    Returns:
        The best scene, on the device of `gaussians` or the images, float32.

    Raises:
        ValueError: if shapes do not match, or no photo is left to train with.
    """
    names = tuple(f"image {index}" for index in range(len(images)))
    photos = PosedImages(tuple(images), cameras, poses, names, points)
    photos = photos if masks is None else photos.masked(masks)
    return solve(make_problem(photos, gaussians, settings), settings, on_step)


def solve(
    problem: Problem, settings: RefinementSettings, on_step: OnStep | None = None
) -> RefinedScene:
    """Solve a prepared problem; see `refine`."""
    _warm_up(problem)
    return _Refinement(problem, settings, on_step).run()


class _Refinement:
    """One run of the loop."""

    def __init__(
        self, problem: Problem, settings: RefinementSettings, on_step: OnStep | None
    ) -> None:
        self._problem = problem
        self._trainer = Trainer(problem.task, problem.start)
        self._budget = Budget(settings.seconds, settings.steps)
        self._on_step = on_step
        self._num_steps = 0
        self._train_psnr: float | None = None
        self._curve: list[ProgressPoint] = []
        self._stopped = ""
        self._budget.start()
        start = Candidate(problem.start, self._trainer.candidate().poses)
        self._best = Best(start, self._evaluate(start))
        self._start_psnr = self._best.score.psnr

    def run(self) -> RefinedScene:
        """Take steps until the budget is spent, it converges, or the callback stops it."""
        moves_cameras = self._problem.task.moves_poses or self._problem.task.moves_focal
        while not self._stopped:
            self._advance(self._trainer, self._share)
            if moves_cameras and self._share >= CAMERA_SHARE:
                moves_cameras = False
                self._try_moving_cameras()
            if is_evaluation_due(self._num_steps, len(self._problem.evaluator.views)):
                self._evaluate_now()
        if self._curve[-1].step < self._num_steps:
            self._evaluate_now()
        return self._result()

    @property
    def _share(self) -> float:
        return self._budget.share(self._num_steps)

    def _advance(self, trainer: Trainer, share: float) -> None:
        """Take one step, report it, and check whether to stop."""
        train_psnr = trainer.step(share)
        self._num_steps += 1
        before = train_psnr if self._train_psnr is None else self._train_psnr
        self._train_psnr = _MEMORY * before + (1 - _MEMORY) * train_psnr
        if self._on_step is not None and self._on_step(self._progress(trainer)) is False:
            self._stopped = INTERRUPTED
        elif self._share >= 1:
            self._stopped = BUDGET

    def _try_moving_cameras(self) -> None:
        """Continue briefly with fixed and with moving cameras; keep the better of the two."""
        fixed, moving = self._trainer, self._trainer.fork()
        moving.moves_cameras = True
        for trainer in (fixed, moving):
            for _ in range(max(1, round(_TRIAL_SHARE * fixed.num_steps))):
                if self._stopped:
                    return
                self._advance(trainer, CAMERA_SHARE)
        evaluator = self._problem.training_evaluator
        gain = evaluator(moving.candidate()).psnr - evaluator(fixed.candidate()).psnr
        self._trainer = moving if gain > 0 else fixed

    def _evaluate(self, candidate: Candidate) -> Score:
        score = self._problem.evaluator(candidate)
        self._curve.append(
            ProgressPoint(
                self._num_steps,
                self._budget.spent,
                candidate.gaussians.num_gaussians,
                score.psnr,
                score.ssim,
            )
        )
        return score

    def _evaluate_now(self) -> None:
        candidate = self._trainer.candidate()
        self._best.offer(candidate, self._evaluate(candidate), self._share)
        if not self._stopped and self._best.is_settled(self._share):
            self._stopped = CONVERGED

    def _progress(self, trainer: Trainer) -> RefinementProgress:
        assert self._train_psnr is not None
        return RefinementProgress(
            step=self._num_steps,
            share=self._share,
            seconds_left=self._budget.seconds_left(self._num_steps),
            num_gaussians=trainer.num_gaussians,
            train_psnr=self._train_psnr,
            held_out_psnr=self._curve[-1].psnr if self._problem.held_out else None,
            snapshot=lambda: trainer.candidate().gaussians,
        )

    def _result(self) -> RefinedScene:
        best, photos = self._best.candidate, self._problem.photos
        camera = photos.cameras
        return RefinedScene(
            gaussians=best.gaussians,
            cameras=Camera(camera.size, camera.f * best.focal_factor, camera.c),
            poses=Pose.from_4x4mat(torch.stack(best.poses)),
            held_out=tuple(self._problem.held_out),
            start_psnr=self._start_psnr,
            psnr=self._best.score.psnr,
            ssim=self._best.score.ssim,
            curve=tuple(self._curve),
            num_steps=self._num_steps,
            stopped=self._stopped,
        )


def _warm_up(problem: Problem) -> None:
    """Compile the kernels before the clock starts."""
    trainer = Trainer(problem.task, problem.start[:64])
    for share in (0.0, CAMERA_SHARE):
        trainer.step(share)
    Evaluator(problem.evaluator.views[:1], problem.evaluator.renderer)(trainer.candidate())
