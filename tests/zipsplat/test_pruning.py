"""Pruning leaves out what shows least and keeps the rest as it was."""

import math

import pytest
import torch

from tests.peers.axes_scene import axes_scene
from zipsplat import Camera, Gaussians, Pose
from zipsplat.pruning import (
    contribution,
    importance,
    keep_most_important,
    prune_opacity,
    silhouette,
)


@pytest.fixture
def scene() -> Gaussians:
    scales = torch.tensor([[1.0, 1, 1], [2, 2, 0.001], [9, 0.1, 0.1], [1, 1, 1]])
    opacities = torch.tensor([0.5, 0.9, 1.0, 0.0])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(4, 4)
    return Gaussians(torch.arange(12.0).view(4, 3), scales, quats, opacities, torch.zeros(4, 1, 3))


def row_of_plates(opacities: list[float]) -> Gaussians:
    """Large thin plates one behind the other along z."""
    num = len(opacities)
    return Gaussians(
        torch.tensor([[0.0, 0.0, 2.0 + i] for i in range(num)]),
        torch.tensor([[50.0, 50.0, 0.01]] * num),
        torch.tensor([[1.0, 0, 0, 0]] * num),
        torch.tensor(opacities),
        torch.zeros(num, 1, 3),
    )


def front_view() -> tuple[Camera, Pose]:
    return Camera.from_fov(math.radians(60), w=16, h=16), Pose.identity()[None]


def test_silhouette_is_opacity_times_the_largest_area(scene):
    torch.testing.assert_close(silhouette(scene), torch.tensor([0.5, 3.6, 0.9, 0.0]))


def test_contribution_is_the_sum_of_blending_weights():
    plates = row_of_plates([0.5, 0.8, 0.25])
    weights = torch.tensor([0.5, 0.5 * 0.8, 0.5 * 0.2 * 0.25])
    # Nearly the same in all 256 pixels: the plates are much larger than the image.
    torch.testing.assert_close(
        contribution(plates, *front_view()) / 256, weights, rtol=5e-3, atol=0
    )
    cameras, poses = front_view()
    twice = contribution(plates, cameras, torch.cat([poses, poses]))
    torch.testing.assert_close(twice, 2 * contribution(plates, cameras, poses))


def test_contribution_leaves_no_gradients_behind():
    plates = row_of_plates([0.5, 0.5])
    plates.means.requires_grad_()
    assert not contribution(plates, *front_view()).requires_grad
    assert plates.means.grad is None


def test_what_is_hidden_from_known_views_goes_first():
    plates = row_of_plates([0.3, 0.99, 1.0, 1.0])
    kept = keep_most_important(plates, 2, front_view())
    assert torch.equal(kept.means, plates.means[:2])


def test_a_pruned_scene_is_nearer_to_the_original_than_by_silhouettes():
    scene = axes_scene(10_000)
    camera = Camera.from_fov(math.radians(50), w=96, h=96)
    poses = Pose.orbit(torch.zeros(3), 4.0, torch.arange(4) * 90.0 + 10, torch.full((4,), 5.0))
    wanted = scene.render(camera, poses)[0]

    def error(kept: Gaussians) -> float:
        return float((kept.render(camera, poses)[0] - wanted).square().mean())

    by_silhouettes = scene.select(silhouette(scene).topk(5000).indices.sort().values)
    assert error(keep_most_important(scene, 5000)) < 0.5 * error(by_silhouettes)


def test_the_kept_stay_in_their_order(scene):
    kept = keep_most_important(scene, 3)
    assert torch.equal(kept.means, scene.means[:3])  # the last one is not there at all
    assert keep_most_important(scene, 9) is scene
    with pytest.raises(ValueError, match="at least one"):
        keep_most_important(scene, 0)


def test_importance_has_no_holes():
    values = importance(axes_scene(500))
    assert values.shape == (500,)
    assert bool((values > 0).all())
    assert float(values.sum()) == pytest.approx(1, abs=1e-4)


def test_faint_gaussians_are_left_out(scene):
    assert torch.equal(prune_opacity(scene, 0.6).means, scene.means[1:3])
    assert prune_opacity(scene, 0.0).num_gaussians == 4
    with pytest.raises(ValueError, match="opacity"):
        prune_opacity(scene, 1.5)
