"""Refine camera poses against a scene by comparing its renderings with photos.

Each view has its own update, T ← T·[exp(ω) | τ]: ω and τ are folded into the pose after each step,
while the optimizer keeps its moments. The defaults are the protocol of the published
tables; `FAST` trades exact agreement with it for speed, measures its steps in pixels, and never
returns a pose that matches its photo less well than the given one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.render import Renderer, RenderSettings, Splats, Viewpoints, choose

ViewLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(rendered (V,3,H,W), alpha (V,1,H,W), true (V,3,H,W)) → one number per view, (V,)."""

SMALL_ANGLE = 1e-7


@dataclass(frozen=True)
class Stage:
    """A stretch of steps at one image size.

    Args:
        num_steps: Most steps to take.
        lr: Step size of rotation (radians) and translation (world units).
        final_lr: Step size at the end of a cosine decay; None keeps `lr`.
        downscale: Whole number; images are averaged over squares of this side in pixels.
        in_pixels: Step sizes are in pixels of the stage's images instead: a step of rotation or
            translation moves content at the view's median depth by about that many pixels, whatever
            the size of the images and the scale of the scene.
    """

    num_steps: int = 200
    lr: float = 0.005
    final_lr: float | None = None
    downscale: int = 1
    in_pixels: bool = False


@dataclass(frozen=True)
class RefineSettings:
    """How long and how fast to refine.

    Args:
        stages: One after the other, each from the poses of the one before.
        threshold: A stage ends when the loss changes less than this …
        patience: … for this many steps in a row.
        batch_size: Views rendered together.
        keep_best: Continue after each stage from each view's pose of smallest loss instead of its
            last one; at full size, only if it is better than the pose before the stage. So no view
            ends with a greater loss than at the given pose.
    """

    stages: tuple[Stage, ...] = (Stage(),)
    threshold: float = 1e-5
    patience: int = 5
    batch_size: int = 10
    keep_best: bool = False


EXACT = RefineSettings()
FAST = RefineSettings(
    stages=(
        Stage(50, 0.5, 0.2, downscale=2, in_pixels=True),
        Stage(75, 0.5, 0.03, in_pixels=True),
    ),
    threshold=0.0,
    keep_best=True,
)


@dataclass(frozen=True)
class Refined:
    """Refined poses, and the losses on the way.

    Attributes:
        poses: (V,) camera-to-world.
        losses: Mean loss over views before each step, batch after batch.
    """

    poses: Pose
    losses: list[float]


def masked_absolute_error(rendered: Tensor, alpha: Tensor, true: Tensor) -> Tensor:
    """Absolute error where the scene covers the photo: Σ a·|Î − I| / (3·Σ a + 1e-8), (V,).

    The weight is the rendered alpha itself, so gradients flow through it too.
    """
    error = (alpha * (rendered - true).abs()).flatten(1).sum(dim=1)
    return error / (3 * alpha.flatten(1).sum(dim=1) + 1e-8)


def refine_poses(
    gaussians: Gaussians,
    images: Tensor,
    cameras: Camera,
    poses: Pose,
    *,
    loss: ViewLoss = masked_absolute_error,
    settings: RefineSettings = EXACT,
    renderer: str | Renderer = "auto",
    background: Tensor | None = None,
    on_step: Callable[[int, Pose], None] | None = None,
) -> Refined:
    """Move cameras until the scene looks like the photos.

    Args:
        gaussians: (N,) one scene.
        images: (V, 3, H, W) photos, RGB in [0, 1].
        cameras: (V,) intrinsics, kept fixed.
        poses: (V,) first guesses, camera-to-world.
        loss: Minimised, per view.
        settings: Steps, step sizes and stopping.
        renderer: Name of a renderer, or a renderer.
        background: (3,) colour behind the scene; None is black.
        on_step: Called after each step of each batch with its number and the batch's poses.

    Returns:
        The refined poses, on the device of the scene.

    Raises:
        ValueError: If shapes do not fit together.
    """
    _check(gaussians, images, cameras, poses)
    device = gaussians.device
    splats = gaussians.detach().splats()
    chosen = choose(renderer, device) if isinstance(renderer, str) else renderer
    images, K = images.to(device), cameras.to(device).K
    refined, losses = [], []
    for chunk in torch.arange(len(images), device=device).split(settings.batch_size):
        scene = _Scene(splats, images[chunk], K[chunk], background, chosen, loss)
        current = poses.to(device).detach()[chunk]
        for stage in settings.stages:
            moved, stage_losses = _run_stage(scene, current, stage, settings, on_step)
            current = _better_of(scene, current, moved) if settings.keep_best else moved
            losses += stage_losses
        refined.append(current)
    R, t = (torch.cat([getattr(part, name) for part in refined]) for name in ("R", "t"))
    return Refined(Pose(R, t), losses)


def rotation_from_vector(omega: Tensor) -> Tensor:
    """Rotation matrices of axis-angle vectors (Rodrigues); first order for tiny angles.

    Args:
        omega: (..., 3) axis times angle in radians.

    Returns:
        (..., 3, 3).
    """
    x, y, z = omega.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    square = omega.square().sum(dim=-1)[..., None, None]
    is_small = square < SMALL_ANGLE**2
    # The square root has no gradient at zero, so the small branch must not reach it.
    angle = torch.where(is_small, torch.ones_like(square), square).sqrt()
    first = torch.where(is_small, torch.ones_like(angle), torch.sin(angle) / angle)
    # 2 sin²(θ/2) would keep more digits, but differs in rounding from the published protocol, whose
    # constant step size amplifies rounding; the term itself is below 1e-4 for steps of 0.005.
    second = torch.where(is_small, torch.zeros_like(angle), (1 - torch.cos(angle)) / angle.square())
    identity = torch.eye(3, dtype=omega.dtype, device=omega.device)
    rotation: Tensor = identity + first * cross + second * (cross @ cross)
    return rotation


@dataclass(frozen=True)
class _Scene:
    """A scene, the photos of one batch of views, and how they are compared."""

    splats: Splats
    images: Tensor
    K: Tensor
    background: Tensor | None
    renderer: Renderer
    loss: ViewLoss

    def downscaled(self, factor: int) -> _Scene:
        """The same views with images averaged over squares of `factor` pixels."""
        if factor == 1:
            return self
        images = functional.avg_pool2d(self.images, factor)
        scale = self.K.new_tensor([1 / factor, 1 / factor, 1.0])
        return _Scene(
            self.splats, images, scale[:, None] * self.K, self.background, self.renderer, self.loss
        )

    def compare(self, poses: Pose) -> Tensor:
        """Loss of each view, (V,), differentiable in the poses."""
        V, _, H, W = self.images.shape
        backgrounds = None if self.background is None else self.background.to(self.K).expand(V, 3)
        viewpoints = Viewpoints(poses.Rt, self.K, W, H, backgrounds)
        rendered = self.renderer.render(self.splats, viewpoints, RenderSettings())
        assert rendered.color is not None, "the renderer left out the colours"
        per_view: Tensor = self.loss(rendered.color, rendered.alpha, self.images)
        return per_view

    def pixel_steps(self, poses: Pose) -> tuple[Tensor, Tensor]:
        """Angles and distances, (V, 1) each, that move the image by about one pixel.

        A small rotation moves pixels by angle·f, and a small translation by distance·f / depth.
        The depth is the median of the Gaussians inside the view's image, or 1 without any.
        """
        _, _, H, W = self.images.shape
        focal = self.K[:, [0, 1], [0, 1]].mean(dim=1, keepdim=True)
        means = poses.inv().transform(self.splats.means.to(poses.t))
        depth = means[..., 2]
        x, y = (means @ self.K.mT)[..., :2].div(depth[..., None]).unbind(-1)
        is_seen = (depth > 0) & (x >= 0) & (x <= W) & (y >= 0) & (y <= H)
        seen_depth = torch.where(is_seen, depth, torch.nan)
        median = seen_depth.nanmedian(dim=1, keepdim=True).values.nan_to_num(1.0)
        return 1 / focal, median / focal


def _run_stage(
    scene: _Scene,
    poses: Pose,
    stage: Stage,
    settings: RefineSettings,
    on_step: Callable[[int, Pose], None] | None,
) -> tuple[Pose, list[float]]:
    scene = scene.downscaled(stage.downscale)
    omega = torch.zeros_like(poses.t, requires_grad=True)
    tau = torch.zeros_like(poses.t, requires_grad=True)
    one = torch.ones_like(poses.t[:, :1])
    angle, distance = scene.pixel_steps(poses) if stage.in_pixels else (one, one)
    optimizer = torch.optim.AdamW([omega, tau], lr=stage.lr)
    best, best_loss = poses, torch.full_like(poses.t[:, 0], torch.inf)
    losses: list[float] = []
    calm = 0
    for step in range(stage.num_steps):
        with torch.enable_grad():
            per_view = scene.compare(_moved(poses, angle * omega, distance * tau))
            mean = per_view.mean()
        best, best_loss = _better(best, best_loss, poses, per_view.detach())
        losses.append(float(mean.detach()))
        for group in optimizer.param_groups:
            group["lr"] = _step_size(stage, step)
        omega.grad, tau.grad = torch.autograd.grad(mean, [omega, tau])
        optimizer.step()
        with torch.no_grad():
            poses = _moved(poses, angle * omega, distance * tau)
            omega.zero_()
            tau.zero_()
        if on_step is not None:
            on_step(step, poses)
        is_calm = len(losses) > 1 and abs(losses[-1] - losses[-2]) < settings.threshold
        calm = calm + 1 if is_calm else 0
        if calm >= settings.patience:
            break
    return (best if settings.keep_best else poses), losses


def _moved(poses: Pose, omega: Tensor, tau: Tensor) -> Pose:
    return Pose(poses.R @ rotation_from_vector(omega), poses.t + poses.transform_vectors(tau))


@torch.no_grad()
def _better_of(scene: _Scene, before: Pose, after: Pose) -> Pose:
    """For each view, the pose of smaller loss out of two; the first if they are equal."""
    return _better(before, scene.compare(before), after, scene.compare(after))[0]


def _better(best: Pose, best_loss: Tensor, poses: Pose, loss: Tensor) -> tuple[Pose, Tensor]:
    is_better = loss < best_loss
    R = torch.where(is_better[:, None, None], poses.R, best.R)
    t = torch.where(is_better[:, None], poses.t, best.t)
    return Pose(R, t), torch.where(is_better, loss, best_loss)


def _step_size(stage: Stage, step: int) -> float:
    if stage.final_lr is None:
        return stage.lr
    phase = torch.pi * step / max(1, stage.num_steps - 1)
    return stage.final_lr + (stage.lr - stage.final_lr) * 0.5 * (
        1 + float(torch.cos(torch.tensor(phase)))
    )


def _check(gaussians: Gaussians, images: Tensor, cameras: Camera, poses: Pose) -> None:
    if gaussians.shape != gaussians.means.shape[-2:-1]:
        raise ValueError(f"one scene (N,) is needed, got batch shape {tuple(gaussians.shape)}")
    V = images.shape[:1]
    if images.ndim != 4 or images.shape[1] != 3 or cameras.shape != V or poses.shape != V:
        raise ValueError(
            "images (V, 3, H, W), cameras (V,) and poses (V,) must have the same number of views,"
            f" got {tuple(images.shape)}, {tuple(cameras.shape)} and {tuple(poses.shape)}"
        )
