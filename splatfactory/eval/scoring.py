"""The protocol for one scene: predict, align poses, render, compare."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from splatfactory.datasets.samples import Batch, Scene, Views
from splatfactory.metrics import psnr, ssim
from splatfactory.perceptual_network import PerceptualNetwork
from splatfactory.protocols import Prediction
from splatfactory.runtime.peak_memory import memory_gib
from splatfactory.schema import EvalConfig, PoseEstimatorConfig
from zipsplat.alignment import (
    FAST,
    Refined,
    RefineSettings,
    Stage,
    ViewLoss,
    masked_absolute_error,
    refine_poses,
)
from zipsplat.gaussians import Gaussians
from zipsplat.refinement import RefinementSettings, refine
from zipsplat.render import choose

METRICS = ("psnr", "ssim", "lpips")


@dataclass(frozen=True)
class ViewScores:
    """Scores of one target view.

    Attributes:
        view: frame number in the scene.
        is_context: whether the frame is also a context view.
        aligned: PSNR, SSIM, LPIPS after pose alignment; same as `unaligned` without alignment.
        unaligned: the same at the given pose.
        refined: as `aligned`, of the refined scene; empty unless requested.
    """

    view: int
    is_context: bool
    aligned: dict[str, float]
    unaligned: dict[str, float]
    refined: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SceneScores:
    """Scores of one scene.

    Attributes:
        name: `<dataset>-<key>`.
        views: one entry per target.
        context: one entry per context view, if requested.
        total_gaussians: Gaussians predicted.
        activated_gaussians: Gaussians that any target view blends at their own centre.
        overlap: overlap of the context views from the index; −1 if unknown.
        seconds: seconds of prediction, alignment, refinement and rendering, by stage.
        memory_gib: peak memory of the process so far.
    """

    name: str
    views: list[ViewScores]
    context: list[ViewScores]
    total_gaussians: int
    activated_gaussians: int
    overlap: float
    seconds: dict[str, float]
    memory_gib: float


@dataclass(frozen=True)
class SceneResult:
    """Scores of one scene, with its Gaussians and images.

    Attributes:
        scores: the scores.
        gaussians: (N,) the scene.
        true: (V, 3, H, W) target images.
        rendered: (V, 3, H, W) scored renders.
    """

    scores: SceneScores
    gaussians: Gaussians
    true: Tensor
    rendered: Tensor


class Scorer:
    """Applies the protocol to scenes, one at a time.

    Args:
        model: maps context views to a `Prediction`; in evaluation mode and float32.
        options: settings of the protocol.
        perceptual: LPIPS, or None to skip it.
        device: device to compute on.
    """

    def __init__(
        self,
        model: nn.Module,
        options: EvalConfig,
        perceptual: PerceptualNetwork | None,
        device: torch.device,
    ) -> None:
        self.model, self.options, self.perceptual = model, options, perceptual
        self.device = device
        self.renderer = choose(options.renderer, device)

    @torch.no_grad()
    def __call__(self, scene: Scene) -> SceneResult:
        """Predict and score one scene."""
        batch = Batch.collate([scene]).to(self.device)
        seconds: dict[str, float] = {}
        prediction: Prediction = self._timed(seconds, "predict", lambda: self._predict(batch))
        gaussians = prediction.gaussians[0].to(torch.float32)
        seen = {int(index) for index in scene.context.indices}
        target = self._sized(batch.target[0])
        views, rendered, activated = self._score_views(gaussians, target, seen, seconds)
        if self.options.refine:
            views = self._add_refined(views, gaussians, batch.context[0], target, seconds)
        context: list[ViewScores] = []
        if self.options.align_context:
            context, _, _ = self._score_views(gaussians, self._sized(batch.context[0]), seen, {})
        scores = SceneScores(
            name=scene.name,
            views=views,
            context=context,
            total_gaussians=gaussians.num_gaussians,
            activated_gaussians=int(activated.sum()),
            overlap=float(scene.overlaps[0]),
            seconds=seconds,
            memory_gib=memory_gib(self.device),
        )
        return SceneResult(scores, gaussians, target.rgb, rendered)

    def _add_refined(
        self,
        views: list[ViewScores],
        gaussians: Gaussians,
        context: Views,
        target: Views,
        seconds: dict[str, float],
    ) -> list[ViewScores]:
        """Add the target scores of the scene refined against its context views."""
        settings = RefinementSettings(
            seconds=None,
            steps=self.options.refine,
            max_side=max(context.width, context.height),
            hold_out=0,
            seed=self.options.seed,
            renderer=self.options.renderer,
        )
        with torch.enable_grad():
            result = self._timed(
                seconds,
                "refine",
                lambda: refine(
                    gaussians, context.rgb, context.cameras, context.poses, None, settings
                ),
            )
        refined, _, _ = self._score_views(result.gaussians, target, set(), {})
        return [
            dataclasses.replace(view, refined=after.aligned)
            for view, after in zip(views, refined, strict=True)
        ]

    def _predict(self, batch: Batch) -> Prediction:
        compression = self.options.compression
        made: Prediction = self.model(batch.context, compression)
        return made

    def _score_views(
        self, gaussians: Gaussians, views: Views, seen: set[int], seconds: dict[str, float]
    ) -> tuple[list[ViewScores], Tensor, Tensor]:
        """Scores per view, the scored renders, and which Gaussians are activated."""
        plain, info = self._timed(seconds, "render", lambda: self._render(gaussians, views))
        unaligned = self._scores(views.rgb, plain)
        aligned = unaligned
        if self.options.align_poses:
            refined = self._timed(seconds, "align", lambda: self._align(gaussians, views))
            moved = dataclasses.replace(views, poses=refined.poses)
            plain, info = self._render(gaussians, moved)
            aligned = self._scores(views.rgb, plain)
        scores = [
            ViewScores(int(view), int(view) in seen, after, before)
            for view, after, before in zip(views.indices.tolist(), aligned, unaligned, strict=True)
        ]
        return scores, plain, info["centred"].any(dim=0)

    def _render(self, gaussians: Gaussians, views: Views) -> tuple[Tensor, dict[str, Tensor]]:
        return gaussians.render(
            views.cameras, views.poses, renderer=self.options.renderer, masks=True
        )

    def _align(self, gaussians: Gaussians, views: Views) -> Refined:
        options = self.options.pose_estimator
        return refine_poses(
            gaussians,
            views.rgb,
            views.cameras,
            views.poses,
            loss=alignment_loss(self.perceptual, options.lpips_weight),
            settings=refine_settings(options),
            renderer=self.renderer,
        )

    def _scores(self, true: Tensor, rendered: Tensor) -> list[dict[str, float]]:
        """Scores of each view; SSIM in float64, LPIPS in batches of one to bound memory."""
        if self.options.clip_metrics:
            rendered = rendered.clamp(0, 1)
        columns = {"psnr": psnr(true, rendered), "ssim": ssim(true.double(), rendered.double())}
        if self.perceptual is not None:
            values = [
                self.perceptual(a[None], b[None]) for a, b in zip(true, rendered, strict=True)
            ]
            columns["lpips"] = torch.cat(values)
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def _sized(self, views: Views) -> Views:
        """The views at the size used for alignment, rendering and scoring."""
        size = self.options.render_resize
        if size is None:
            return views
        images = functional.interpolate(
            views.rgb, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        depths = functional.interpolate(views.depths[:, None], (size, size), mode="nearest")[:, 0]
        scale = views.cameras.size.new_tensor([size / views.width, size / views.height])
        return dataclasses.replace(
            views, images=images, cameras=views.cameras.scale(scale), depths=depths
        )

    def _timed(self, seconds: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds[name] = time.monotonic() - begin
        return result


def alignment_loss(perceptual: PerceptualNetwork | None, weight: float) -> ViewLoss:
    """Masked L1, plus LPIPS of the masked images if a network is given."""
    if perceptual is None or weight == 0:
        return masked_absolute_error

    def loss(rendered: Tensor, alpha: Tensor, true: Tensor) -> Tensor:
        masked = (alpha * true).clamp(0, 1), (alpha * rendered).clamp(0, 1)
        distance: Tensor = perceptual(*masked)
        return masked_absolute_error(rendered, alpha, true) + weight * distance

    return loss


def refine_settings(options: PoseEstimatorConfig) -> RefineSettings:
    """The protocol's steps, or the fast preset."""
    if options.fast:
        return dataclasses.replace(FAST, batch_size=options.batch_size)
    return RefineSettings(
        stages=(Stage(options.num_steps, options.lr),),
        threshold=options.threshold,
        patience=options.patience,
        batch_size=options.batch_size,
    )
