"""Losses against the reference's numbers, and by hand."""

import dataclasses

import pytest
import torch
from torch import Tensor

from splatfactory.datasets.samples import Views
from splatfactory.losses import TrainingLoss
from splatfactory.losses.chamfer import anchor_error, chamfer_error, nearest_indices
from splatfactory.losses.depth import depth_error, points_from_depth
from splatfactory.protocols import RenderedViews, Supervision
from splatfactory.schema import HeadConfig
from tests.splatfactory.golden import load
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose

VARIANTS = {
    "base": {},
    "mse": {"use_l1_loss": False},
    "ctx": {"loss_on_context": True},
    "nodetach": {"detach_activated_gaussians": False},
    "nochamfer": {"use_chamfer": False},
}


def views_of(data: dict[str, Tensor], part: str) -> Views:
    images = data[f"{part}_image"]
    shape = images.shape[:2]
    return Views(
        images=images,
        cameras=Camera.from_packed(data[f"{part}_camera"]),
        poses=Pose.from_packed(data[f"{part}_pose_c2w12"]),
        depths=data[f"{part}_gt_depth"],
        near=torch.full(shape, 0.1),
        far=torch.full(shape, 100.0),
        indices=torch.zeros(shape, dtype=torch.int64),
    )


def supervision_of(
    data: dict[str, Tensor], leaves: dict[str, Tensor], with_context: bool
) -> Supervision:
    parts = ["context", "target"] if with_context else ["target"]
    views = Views.cat([views_of(data, part) for part in parts], dim=1)
    color = torch.cat([leaves.get(f"{p}_rgb", data[f"{p}_rgb"]) for p in parts], dim=1)
    depth = torch.cat([leaves.get(f"{p}_depth", data[f"{p}_depth"]) for p in parts], dim=1)
    return Supervision(
        gaussians=Gaussians.from_packed(leaves["gaussians"]),
        activated=data["activated_gaussians"] > 0,
        rendered=RenderedViews(color, depth, torch.ones_like(depth)),
        views=views,
    )


@pytest.mark.parametrize("case", [0, 1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_terms_and_gradients_equal_the_reference(case: int, variant: str):
    data = load(f"losses_{case}")
    names = ["gaussians", "target_rgb", "target_depth"]
    leaves = {name: data[name].clone().requires_grad_() for name in names}
    config = HeadConfig(lpips_weight=0.0, **VARIANTS[variant])
    supervision = supervision_of(data, leaves, config.loss_on_context)
    terms = TrainingLoss(config, None)(supervision)
    for key, value in data.items():
        kind, _, name = key.partition("/loss/")
        if kind == variant and name:
            torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-8, msg=key)
    terms["total"].mean().backward()
    for key, value in data.items():
        kind, _, name = key.partition("/grad/")
        if kind == variant and name:
            error = (leaves[name].grad - value).abs().max()
            assert error <= 1e-4 * value.abs().max(), key


@pytest.mark.parametrize("case", [0, 1, 2])
def test_logged_numbers_equal_the_reference(case: int):
    data = load(f"losses_{case}")
    config = HeadConfig(lpips_weight=0.0)
    supervision = supervision_of(data, {"gaussians": data["gaussians"]}, False)
    loss = TrainingLoss(config, None)
    numbers = loss.describe(supervision, loss(supervision))
    for key, value in data.items():
        kind, _, name = key.partition("/metric/")
        if kind == "base" and name:
            torch.testing.assert_close(numbers[name], value, rtol=1e-5, atol=1e-6, msg=key)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_chamfer_equals_the_reference(case: int):
    data = load(f"chamfer_{case}")
    pred = data["pred"].clone().requires_grad_()
    value = torch.stack([chamfer_error(p, t) for p, t in zip(pred, data["target"], strict=True)])
    torch.testing.assert_close(value, data["value"], rtol=1e-5, atol=1e-5)
    value.sum().backward()
    torch.testing.assert_close(pred.grad, data["grad"], rtol=1e-5, atol=1e-5)


def test_nearest_is_the_brute_force_nearest():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(500, 3, generator=generator)
    surface = torch.randn(300, 3, generator=generator)
    assert torch.equal(nearest_indices(points, surface), torch.cdist(points, surface).argmin(dim=1))


def test_chamfer_of_a_point_that_is_not_a_number_is_not_a_number():
    points = torch.tensor([[0.0, 0.0, float("nan")]])
    assert torch.isnan(chamfer_error(points, torch.zeros(1, 3)))


def test_anchor_by_hand():
    assert anchor_error(torch.tensor([[3.0, 0.0, 1.0]])) == 1.0


def test_depth_error_ignores_unknown_pixels_by_hand():
    true = torch.tensor([[[[2.0, -1.0], [4.0, -1.0]]], [[[-1.0, -1.0], [-1.0, -1.0]]]])
    rendered = torch.tensor([[[[1.0, 9.0], [7.0, float("nan")]]], [[[5.0, 5.0], [5.0, 5.0]]]])
    rendered.requires_grad_()
    error = depth_error(rendered, true)
    assert error.tolist() == [2.0, 0.0]
    error.sum().backward()
    assert rendered.grad.isfinite().all()


def test_points_from_depth_equal_the_reference_in_camera_and_world():
    for case in range(3):
        data = load(f"geometry_{case}")
        camera, pose = Camera.from_packed(data["camera"]), Pose.from_packed(data["pose"])
        points = points_from_depth(data["depth"], camera.K, pose.Rt)
        torch.testing.assert_close(points.flatten(1, 2), data["points_world"], atol=1e-5, rtol=1e-5)


def test_geometry_stays_float32_under_autocast():
    data = load("geometry_0")
    camera, pose = Camera.from_packed(data["camera"]), Pose.from_packed(data["pose"])
    exact = points_from_depth(data["depth"], camera.K, pose.Rt)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(points_from_depth(data["depth"], camera.K, pose.Rt), exact)
        points = exact.reshape(-1, 3)
        inside = chamfer_error(points[:100], points[100:])
    assert torch.equal(inside, chamfer_error(points[:100], points[100:]))


def test_ssim_and_extra_losses_are_added_with_their_weights():
    data = load("losses_0")
    supervision = supervision_of(data, {"gaussians": data["gaussians"]}, False)
    plain = TrainingLoss(HeadConfig(lpips_weight=0), None)(supervision)
    config = HeadConfig(
        lpips_weight=0, ssim_weight=2.0, extra_losses={"tests.splatfactory.losses.extra_loss": 3.0}
    )
    terms = TrainingLoss(config, None)(supervision)
    name = "tests.splatfactory.losses.extra_loss"
    expected = plain["total"] + 2 * terms["ssim_loss"] + 3 * supervision.gaussians.opacities.mean(1)
    torch.testing.assert_close(terms["total"], expected)
    assert torch.equal(terms[name], supervision.gaussians.opacities.mean(dim=1))
    same = dataclasses.replace(
        supervision, rendered=dataclasses.replace(supervision.rendered, color=data["target_image"])
    )
    torch.testing.assert_close(TrainingLoss(config, None)(same)["ssim_loss"], torch.zeros(2))


def test_lpips_weight_without_weights_is_an_error():
    with pytest.raises(ValueError, match="set it to 0"):
        TrainingLoss(HeadConfig(), None)
