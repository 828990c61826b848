"""Pose refinement against the reference's trajectories, and by its purpose."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.alignment import (
    FAST,
    RefineSettings,
    Stage,
    masked_absolute_error,
    refine_poses,
    rotation_from_vector,
)
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.render.reference import ReferenceRenderer

GOLDEN = Path(__file__).parents[1] / "golden" / "training"


def load(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def scene_of(data: dict[str, Tensor]) -> Gaussians:
    names = ("means", "scales", "quats", "opacities", "sh")
    return Gaussians(*(data[name] for name in names))


@pytest.mark.parametrize("case", [0, 1, 2])
def test_trajectory_equals_the_reference(case: int):
    data = load(f"pose_{case}")
    trajectory: list[Tensor] = []
    refined = refine_poses(
        scene_of(data),
        data["target_image"][0],
        Camera.from_packed(data["camera"][0]),
        Pose.from_packed(data["init_pose"][0]),
        settings=RefineSettings(stages=(Stage(int(data["num_steps"])),)),
        renderer=ReferenceRenderer(square_cut=True),
        on_step=lambda _, poses: trajectory.append(poses.packed()),
    )
    losses = torch.tensor(refined.losses, dtype=torch.float64)
    assert len(losses) == int(data["steps_run"])
    torch.testing.assert_close(losses[:5], data["loss_per_step"][:5], rtol=1e-3, atol=0)
    ours = torch.stack(trajectory[:5])
    torch.testing.assert_close(ours, data["pose_after_step"][:5, 0], atol=1e-3, rtol=0)
    assert losses[-1] <= 1.1 * data["loss_per_step"][-1]
    assert torch.equal(refined.poses.packed(), trajectory[-1])


@pytest.mark.parametrize("case", [0, 1, 2])
def test_rotation_from_vector_equals_the_reference(case: int):
    data = load(f"geometry_{case}")
    torch.testing.assert_close(rotation_from_vector(data["aa"]), data["so3exp"], atol=1e-5, rtol=0)


def test_rotation_from_vector_is_differentiable_everywhere():
    start = torch.tensor([[0.0, 0, 0], [1e-9, 0, 0], [0.3, -2.0, 1.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(rotation_from_vector, start[2:].clone().requires_grad_())
    zero = start.clone().requires_grad_()
    rotation_from_vector(zero).sum().backward()
    assert zero.grad.isfinite().all()
    R = rotation_from_vector(start)
    torch.testing.assert_close(R @ R.mT, torch.eye(3, dtype=R.dtype).expand(3, 3, 3))


def test_loss_by_hand():
    rendered, true = torch.zeros(1, 3, 1, 2), torch.tensor([0.5, 1.0]).expand(1, 3, 1, 2)
    alpha = torch.tensor([[[[1.0, 0.0]]]])
    torch.testing.assert_close(masked_absolute_error(rendered, alpha, true), torch.tensor([0.5]))
    assert masked_absolute_error(rendered, torch.zeros_like(alpha), true).tolist() == [0.0]


def small_problem() -> tuple[Gaussians, Tensor, Camera, Pose, Pose]:
    data = load("pose_0")
    camera, true = Camera.from_packed(data["camera"][0]), Pose.from_packed(data["gt_pose"][0])
    start = Pose.from_packed(data["init_pose"][0])
    images = scene_of(data).render(camera, true, renderer="reference")[0]
    return scene_of(data), images, camera, start, true


def error_of(poses: Pose, true: Pose) -> float:
    return float((poses.t - true.t).norm(dim=-1).mean())


def test_poses_come_closer_to_the_truth():
    scene, images, camera, start, true = small_problem()
    settings = RefineSettings(stages=(Stage(60),), keep_best=True)
    refined = refine_poses(scene, images, camera, start, settings=settings, renderer="reference")
    assert error_of(refined.poses, true) < 0.5 * error_of(start, true)
    torch.testing.assert_close(
        refined.poses.R @ refined.poses.R.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0
    )


def test_the_fast_settings_keep_the_best_pose_of_each_view():
    scene, images, camera, start, _ = small_problem()
    refined = refine_poses(scene, images, camera, start, settings=FAST, renderer="reference")

    def loss(poses: Pose) -> Tensor:
        rendered, info = scene.render(camera, poses, renderer="reference")
        return masked_absolute_error(rendered, info["alphas"], images)

    assert bool((loss(refined.poses) < 0.7 * loss(start)).all())
    assert float(loss(refined.poses).mean()) <= min(refined.losses[-75:]) + 1e-6


def sharp_problem(seed: int, num_views: int = 5) -> tuple[Gaussians, Tensor, Camera, Pose]:
    """Gaussians of one to three pixels, photos of a slightly different scene, true poses."""
    generator = torch.Generator().manual_seed(seed)
    camera = Camera.from_fov(0.9, w=64, h=64).map(lambda value: value.expand(num_views, 2))

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    means = torch.cat((4 * random(800, 2) - 2, 3 + random(800, 1)), dim=1)
    quats = torch.randn(800, 4, generator=generator)
    sh0 = 3 * random(800, 1, 3) - 1.5
    scene = Gaussians(means, 0.025 + 0.05 * random(800, 3), quats, 0.5 + 0.5 * random(800), sh0)
    t = torch.cat((random(num_views, 2) - 0.5, torch.zeros(num_views, 1)), dim=1)
    poses = Pose(torch.eye(3).repeat(num_views, 1, 1), t)
    images = scene.render(camera, poses)[0].clamp(0, 1)
    noise = torch.randn(sh0.shape, generator=generator)
    return dataclasses.replace(scene, sh_coeffs=sh0 + 0.2 * noise), images, camera, poses


def losses_at(scene: Gaussians, images: Tensor, camera: Camera, poses: Pose) -> Tensor:
    rendered, info = scene.render(camera, poses)
    return masked_absolute_error(rendered, info["alphas"], images)


@pytest.mark.parametrize("seed", range(4))
def test_the_fast_settings_never_leave_a_view_worse_than_given(seed: int):
    scene, images, camera, true = sharp_problem(seed)
    refined = refine_poses(scene, images, camera, true, settings=FAST)
    given = losses_at(scene, images, camera, true)
    assert bool((losses_at(scene, images, camera, refined.poses) <= given).all())
    assert error_of(refined.poses, true) < 0.01  # a third of a pixel


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("seed", range(2))
def test_the_fast_settings_converge_from_a_degree_at_any_scale(seed: int, scale: float):
    scene, images, camera, true = sharp_problem(seed)
    scene, true = scene.scale(scale), Pose(true.R, true.t * scale)
    generator = torch.Generator().manual_seed(seed)
    axis = functional.normalize(torch.randn(5, 3, generator=generator), dim=1)
    start = Pose(true.R @ rotation_from_vector(axis * torch.pi / 180), true.t)
    refined = refine_poses(scene, images, camera, start, settings=FAST)
    reached = losses_at(scene, images, camera, refined.poses)
    assert bool((reached < 1.05 * losses_at(scene, images, camera, true)).all())
    assert float((refined.poses.R - true.R).abs().max()) < 0.01  # from 0.017; nobody looks away


def test_a_first_step_in_pixels_moves_the_image_by_about_a_pixel():
    scene, images, camera, true = sharp_problem(0)
    moved: list[Pose] = []
    refine_poses(
        scene, images, camera, true, settings=RefineSettings((Stage(1, 1.0, in_pixels=True),)),
        on_step=lambda _, poses: moved.append(poses),
    )  # fmt: skip
    point = true.transform(torch.tensor([0.0, 0.0, 3.5]).expand(5, 1, 3))
    turned = Pose(moved[0].R, true.t).inv().transform(point)
    shifted = Pose(true.R, moved[0].t).inv().transform(point)
    for at in (turned, shifted):  # Adam's first step has full size along each axis
        distances = (camera.project(at)[:, 0] - camera.c).abs()
        torch.testing.assert_close(distances, torch.ones_like(distances), atol=0.15, rtol=0)


def test_views_do_not_depend_on_their_company():
    scene, images, camera, start, _ = small_problem()
    stages = (Stage(5),)
    together = refine_poses(
        scene, images, camera, start, settings=RefineSettings(stages), renderer="reference"
    )
    alone = refine_poses(
        scene, images, camera, start, settings=RefineSettings(stages, batch_size=1),
        renderer="reference",
    )  # fmt: skip
    torch.testing.assert_close(together.poses.packed(), alone.poses.packed(), atol=1e-4, rtol=0)
    assert len(alone.losses) == 2 * len(together.losses)


def test_it_stops_when_nothing_changes():
    scene, images, camera, _, true = small_problem()
    settings = RefineSettings((Stage(200),), threshold=1.0, patience=3)
    refined = refine_poses(scene, images, camera, true, settings=settings, renderer="reference")
    assert len(refined.losses) == 4


def test_it_stops_after_calm_steps_in_a_row_only():
    scene, images, camera, _, true = small_problem()
    levels = iter([5.0, 5, 3, 3, 1, 1, 0, 0, 0, 0, 0, 0])
    counted = []

    def loss(rendered: Tensor, alpha: Tensor, true: Tensor) -> Tensor:
        counted.append(next(levels))
        return 0 * rendered.flatten(1).sum(dim=1) + counted[-1]

    settings = RefineSettings((Stage(12),), threshold=0.5, patience=3)
    refine_poses(scene, images, camera, true, loss=loss, settings=settings, renderer="reference")
    assert counted == [5, 5, 3, 3, 1, 1, 0, 0, 0, 0]


def test_wrong_shapes_are_refused():
    scene, images, camera, start, _ = small_problem()
    with pytest.raises(ValueError, match="same number of views"):
        refine_poses(scene, images, camera[:1], start)
    with pytest.raises(ValueError, match="one scene"):
        refine_poses(torch.stack([scene, scene]), images, camera, start)
