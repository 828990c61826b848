"""The parts of a refinement, each by hand or against a law."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.zipsplat.refinement.small_scene import disturbed, photos_of, small_scene
from zipsplat import Gaussians
from zipsplat.refinement import color, loss
from zipsplat.refinement.camera_optimizer import CameraOptimizer, focal_derivative
from zipsplat.refinement.evaluation import Best, Candidate, Evaluator, Score, psnr
from zipsplat.refinement.growth import (
    MeanGrad2d,
    choose_split,
    grow,
    halves,
    sample_without_replacement,
)
from zipsplat.refinement.parameters import Parameters
from zipsplat.refinement.recipe import Recipe
from zipsplat.refinement.scene_optimizer import RATES, SceneOptimizer
from zipsplat.refinement.schedule import Budget, is_evaluation_due, is_growth_due
from zipsplat.refinement.views import View, hold_out, views_of
from zipsplat.render import Rendered, choose

CPU = torch.device("cpu")


def random() -> np.random.Generator:
    return np.random.default_rng(0)


# --- parameters ---


def test_parameters_and_back_are_the_same_scene():
    scene = small_scene()
    again = Parameters.from_gaussians(scene).gaussians()
    torch.testing.assert_close(again.scales, scene.scales)
    torch.testing.assert_close(again.opacities, scene.opacities)
    torch.testing.assert_close(again.sh_coeffs, scene.sh_coeffs)
    length = scene.quats.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(again.quats, scene.quats / length)


def test_extreme_values_have_finite_parameters():
    scene = small_scene(4)
    edge = replace(scene, scales=torch.zeros(4, 3), opacities=torch.tensor([0.0, 1.0, 0.0, 1.0]))
    parameters = Parameters.from_gaussians(edge)
    assert all(bool(value.isfinite().all()) for value in parameters.named().values())


def test_degree_0_has_no_empty_tensor_to_optimise():
    parameters = Parameters.from_gaussians(small_scene().with_sh_degree(0))
    assert "shN" not in parameters.named()
    assert parameters.gaussians().max_sh_degree == 0


# --- optimizer ---


def adam_by_hand(values: list[float], rate: float) -> float:
    """Where Adam ends that starts at 0 and meets these gradients."""
    at, mean, square = 0.0, 0.0, 0.0
    for step, gradient in enumerate(values, start=1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        corrected = mean / (1 - 0.9**step) / math.sqrt(square / (1 - 0.999**step))
        at -= rate * corrected
    return at


def test_steps_are_adam_with_the_rates_of_the_kinds():
    start = Parameters.from_gaussians(small_scene(3))
    optimizer = SceneOptimizer(start, extent=2.0)
    gradients = [1.0, -3.0, 0.5]
    for gradient in gradients:
        for value in optimizer.parameters.named().values():
            value.grad = torch.full_like(value, gradient)
        optimizer.step(share=0.0)
    for key, value in optimizer.parameters.named().items():
        rate = RATES[key] * (2.0 if key == "means" else 1.0)
        moved = value.detach() - getattr(start, key)
        torch.testing.assert_close(
            moved, torch.full_like(moved, adam_by_hand(gradients, rate)), rtol=1e-3, atol=1e-6
        )


def test_rates_fall_to_a_twentieth_and_a_tenth():
    start = Parameters.from_gaussians(small_scene(3))
    moved = {}
    for share in (0.0, 1.0):
        optimizer = SceneOptimizer(start, extent=1.0)
        for value in optimizer.parameters.named().values():
            value.grad = torch.ones_like(value)
        optimizer.step(share)
        parameters = optimizer.parameters.detach()
        moved[share] = [
            float((getattr(parameters, key) - getattr(start, key)).abs().mean())
            for key in ("means", "sh0")
        ]
    assert moved[1.0][0] == pytest.approx(0.05 * moved[0.0][0], rel=0.01)
    assert moved[1.0][1] == pytest.approx(0.1 * moved[0.0][1], rel=0.01)


def test_replaced_rows_lose_their_moments_and_others_keep_theirs():
    start = Parameters.from_gaussians(small_scene(4))
    optimizer = SceneOptimizer(start, extent=1.0)
    for value in optimizer.parameters.named().values():
        value.grad = torch.ones_like(value)
    optimizer.step(0.0)
    before = optimizer.parameters.detach().clone()
    optimizer.replace_rows(torch.tensor([1, 4]), start[[0, 2]])
    assert len(optimizer.parameters) == 5
    torch.testing.assert_close(optimizer.parameters.means[[1, 4]], start.means[[0, 2]])
    torch.testing.assert_close(optimizer.parameters.means[[0, 2, 3]], before.means[[0, 2, 3]])
    now = optimizer.parameters.detach().clone()
    for value in optimizer.parameters.named().values():
        value.grad = torch.zeros_like(value)
    optimizer.step(0.0)
    moved = (optimizer.parameters.means.detach() - now.means).abs().amax(dim=-1)
    assert (moved[[0, 2, 3]] > 0).all()  # what is left of the first gradient
    assert (moved[[1, 4]] == 0).all()


def test_opacities_decay():
    optimizer = SceneOptimizer(Parameters.from_gaussians(small_scene(5)), extent=1.0)
    before = optimizer.parameters.opacity_logits.detach().sigmoid()
    optimizer.decay_opacities(0.9)
    after = optimizer.parameters.opacity_logits.detach().sigmoid()
    torch.testing.assert_close(after, 0.9 * before)


# --- growth ---


def test_halves_lie_along_the_longest_axis():
    scene = small_scene(1)
    scene = replace(
        scene, scales=torch.tensor([[0.1, 0.4, 0.2]]), quats=torch.tensor([[1.0, 0, 0, 0]])
    )
    whole = Parameters.from_gaussians(scene)
    first, second = halves(whole)
    offset = torch.tensor([[0.0, 0.7 * 0.4, 0.0]])
    torch.testing.assert_close(first.means, scene.means + offset)
    torch.testing.assert_close(second.means, scene.means - offset)
    for half in (first.gaussians(), second.gaussians()):
        torch.testing.assert_close(half.scales, torch.tensor([[0.1, 0.4 / 1.8, 0.2]]))
        torch.testing.assert_close(half.opacities, scene.opacities)
        torch.testing.assert_close(half.sh_coeffs, scene.sh_coeffs)


def test_halves_conserve_what_they_should():
    """The centre, the integral within 12 %, the covariance across the axis; whatever the turn."""
    whole = Parameters.from_gaussians(small_scene(50))
    first, second = halves(whole)
    torch.testing.assert_close((first.means + second.means) / 2, whole.means)
    volume = [p.log_scales.sum(dim=-1).exp() for p in (whole, first, second)]
    torch.testing.assert_close(volume[1] + volume[2], 2 / 1.8 * volume[0])
    offset = first.means - second.means
    covariance = covariances(first.gaussians()) + offset[:, :, None] * offset[:, None] / 4
    eigenvalues = torch.linalg.eigvalsh(covariance)
    squares = torch.sort(whole.gaussians().scales.square()).values
    longest = (0.7**2 + 1 / 1.8**2) * squares[:, 2:]
    expected = torch.sort(torch.cat((squares[:, :2], longest), dim=1)).values
    torch.testing.assert_close(eigenvalues, expected, rtol=1e-3, atol=1e-5)


def covariances(scene: Gaussians) -> torch.Tensor:
    from zipsplat.rotations import matrix_from_quat

    axes = matrix_from_quat(scene.quats) * scene.scales.unsqueeze(-2)
    return axes @ axes.mT


def test_the_pull_is_a_mean_in_pixels_over_the_images_that_showed_it():
    means = torch.tensor([[0.0, 0, 2], [0, 0, 4], [0, 0, 5]])
    grad2d = MeanGrad2d(torch.zeros(3))
    pose = torch.eye(4)
    grad2d.observe(means, torch.tensor([[3.0, 4, 0], [0, 0, 0], [0, 0, 0]]), pose, focal=10.0)
    grad2d.observe(means, torch.tensor([[0.0, 1, 0], [0, 2, 0], [0, 0, 0]]), pose, focal=10.0)
    torch.testing.assert_close(grad2d.mean(), torch.tensor([(5 + 1) * 0.2 / 2, 2 * 0.4, 0.0]))


def test_those_that_are_pulled_at_grow_and_the_dead_give_their_places():
    grad2d = torch.ones(100)
    grad2d[:90] = 0
    opacities = torch.full((100,), 0.5)
    opacities[[3, 95]] = 0.001
    split = choose_split(grad2d, opacities, cap=104, random=random())
    assert len(split.parents) == 4 + 2
    assert set(split.parents.tolist()) <= {90, 91, 92, 93, 94, 96, 97, 98, 99}
    assert len(set(split.parents.tolist())) == 6
    assert split.places.tolist() == [3, 95, 100, 101, 102, 103]


def test_growth_is_a_fifth_and_ends_at_the_cap():
    grad2d, opacities = torch.ones(100), torch.full((100,), 0.5)
    assert len(choose_split(grad2d, opacities, 1000, random()).places) == 20
    assert len(choose_split(grad2d, opacities, 100, random()).places) == 0
    assert len(choose_split(grad2d, opacities, 50, random()).places) == 0
    assert len(choose_split(torch.zeros(100), opacities, 1000, random()).places) == 0


def test_more_dead_than_living_are_replaced_as_far_as_possible():
    opacities = torch.full((10,), 0.001)
    opacities[:2] = 0.5
    split = choose_split(torch.ones(10), opacities, 100, random())
    assert sorted(split.parents.tolist()) == [0, 1]
    assert set(split.places.tolist()) <= set(range(2, 10))


def test_sampling_follows_the_weights():
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0])
    generator = random()
    first = [int(sample_without_replacement(weights, 1, generator)) for _ in range(4000)]
    counts = torch.bincount(torch.tensor(first), minlength=4) / 4000
    torch.testing.assert_close(counts, weights / 8, atol=0.03, rtol=0)
    assert sorted(sample_without_replacement(weights, 3, generator).tolist()) == [1, 2, 3]


def test_growing_changes_the_optimizer_in_place():
    optimizer = SceneOptimizer(Parameters.from_gaussians(small_scene(50)), extent=1.0)
    grow(optimizer, torch.ones(50), 55, random())
    assert len(optimizer.parameters) == 55
    grow(optimizer, torch.ones(55), 55, random())
    assert len(optimizer.parameters) == 55


# --- schedule ---


def test_a_budget_of_steps_knows_no_clock():
    budget = Budget(None, 200, clock=lambda: 0.0)
    budget.start()
    assert [budget.share(step) for step in (0, 50, 200, 300)] == [0, 0.25, 1, 1]


def test_a_budget_of_seconds_counts_from_the_start():
    now = [5.0]
    budget = Budget(10.0, None, clock=lambda: now[0])
    now[0] = 7.0
    budget.start()
    now[0] = 12.0
    assert budget.share(1) == 0.5
    assert budget.seconds_left(1) == 5.0
    now[0] = 40.0
    assert budget.share(1) == 1.0
    assert budget.seconds_left(1) == 0.0


def test_the_time_left_of_a_number_of_steps_follows_the_pace():
    now = [0.0]
    budget = Budget(None, 40, clock=lambda: now[0])
    budget.start()
    now[0] = 3.0
    assert budget.seconds_left(10) == pytest.approx(9.0)
    assert budget.seconds_left(0) == math.inf


def test_growth_is_due_every_hundred_steps_until_three_quarters():
    due = [step for step in range(1, 1001) if is_growth_due(step, step / 1000)]
    assert due == [200, 300, 400, 500, 600, 700]


def test_evaluation_costs_a_few_percent():
    for views in (1, 6, 20):
        times = sum(is_evaluation_due(step, views) for step in range(1, 10001))
        assert 0 < times * views / 3 < 0.03 * 10000


# --- loss ---


def test_roughness_counts_steps_of_the_inverse_depth_less_at_edges():
    inverse = torch.zeros(4, 6)
    inverse[:, 3:] = 0.5
    flat, edge = torch.zeros(3, 4, 6), torch.zeros(3, 4, 6)
    edge[:, :, 3:] = 0.2
    mean_step = 0.5 / 5  # one of five steps across
    assert float(loss.roughness(inverse, flat, 2.0)) == pytest.approx(2 * mean_step)
    less = 2 * mean_step * math.exp(-10 * 0.2)
    assert float(loss.roughness(inverse, edge, 2.0)) == pytest.approx(less)


def test_depth_counts_only_where_it_is_known():
    target = torch.zeros(2, 3)
    target[0, 0], target[1, 2] = 0.5, 0.25
    error = loss.depth_error(torch.full((2, 3), 0.25), target, unit=4.0)
    assert float(error) == pytest.approx(4 * 0.25 / 2)
    assert float(loss.depth_error(torch.ones(2, 3), torch.zeros(2, 3), 1.0)) == 0


def test_inverse_depth_of_what_is_rendered():
    rendered = Rendered(alpha=torch.full((1, 1, 2, 2), 0.5), depth=torch.full((1, 1, 2, 2), 1.5))
    torch.testing.assert_close(loss.inverse_depth(rendered), torch.full((2, 2), 1 / 3))


def test_dropout_leaves_out_its_share():
    opacities = torch.full((10000,), 0.5)
    assert loss.dropped(opacities, 0.0, random()) is opacities
    kept = loss.dropped(opacities, 0.2, random())
    assert float((kept == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert set(kept.unique().tolist()) == {0.0, 0.5}


# --- colours ---


def test_the_best_map_is_found():
    image = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0))
    map = torch.tensor([[0.9, 0.1, 0, 0.05], [0, 1.1, 0, -0.02], [0, 0.05, 0.8, 0]])
    found = color.best_map(image, color.apply(map, image))
    torch.testing.assert_close(found, map, atol=1e-4, rtol=0)


def test_the_best_map_of_one_color_is_finite():
    image = torch.full((3, 8, 9), 0.5)
    found = color.best_map(image, 0.5 * image)
    torch.testing.assert_close(color.apply(found, image), 0.5 * image, atol=1e-3, rtol=0)


def test_maps_differ_while_their_mean_stays_the_identity():
    maps = color.ColorMaps([3, 5], torch.zeros(1))
    for _ in range(50):
        (color.apply(maps[3], torch.ones(3, 2, 2)) - 2).square().sum().backward()
        maps.step(0.0)
        (color.apply(maps[5], torch.ones(3, 2, 2))).square().sum().backward()
        maps.step(0.0)
    mean = (maps[3] + maps[5]).detach() / 2
    torch.testing.assert_close(mean, torch.eye(3, 4))
    assert float((maps[3] - maps[5]).detach().abs().max()) > 0.05
    torch.testing.assert_close(maps[0], torch.eye(3, 4))


# --- cameras ---


def test_the_derivative_by_the_focal_length_is_that_of_the_reference(monkeypatch):
    """The reference is differentiable in the intrinsics, but not at the edges of ellipses."""
    monkeypatch.setattr("zipsplat.render.reference.ALPHA_MIN", 0.0)
    scene, photos = small_scene(), photos_of(small_scene(seed=3), 2, "reference")
    view = views_of(photos, [0], CPU)[0]
    renderer, pose = choose("reference", CPU), photos.poses.Rt[0]

    def loss_at(factor):
        rendered = view.render(renderer, scene.splats(), pose, factor)
        return (rendered.color[0] - view.image).square().mean()

    log_factor = torch.tensor(math.log(1.02), requires_grad=True)
    loss_at(log_factor.exp()).backward()
    quotient = focal_derivative(lambda factor: float(loss_at(factor)), 1.02)
    assert quotient == pytest.approx(float(log_factor.grad), rel=0.05)


def test_a_wrong_focal_length_is_found_by_a_scene_that_is_right():
    photos = photos_of(small_scene(), 3)
    view = views_of(photos, [1], CPU)[0]
    wrong = replace(view, K=view.K * torch.tensor([[1.03], [1.03], [1.0]]))
    cameras, renderer = CameraOptimizer(photos.poses, extent=1.0), choose("cpu", CPU)
    splats, pose = small_scene().splats(), photos.poses.Rt[1]

    def loss_at(factor):
        rendered = wrong.render(renderer, splats, pose, factor).color[0]
        return wrong.photometric(rendered)[0]

    for step in range(60):
        cameras.observe_focal(loss_at)
        cameras.step(step / 60)
    # Half a percent is less than a tenth of a pixel at the edge of an image.
    assert cameras.focal_factor == pytest.approx(1 / 1.03, rel=5e-3)


def test_only_the_photo_that_was_rendered_moves():
    photos = photos_of(small_scene(), 3)
    cameras = CameraOptimizer(photos.poses, extent=2.0)
    (cameras.moving_pose(1)[:3, 3].sum()).backward()
    cameras.step(0.0)
    moved = [
        float((a - b).abs().max()) for a, b in zip(cameras.poses, photos.poses.Rt, strict=True)
    ]
    assert moved[0] == moved[2] == 0
    assert moved[1] == pytest.approx(2.0 * 2e-3, rel=0.01)
    (cameras.moving_pose(2)[:3, 3].sum()).backward()
    before = cameras.poses[1].clone()
    cameras.step(0.0)
    assert torch.equal(cameras.poses[1], before)


# --- evaluation ---


def test_psnr_by_hand():
    true = torch.full((3, 4, 4), 0.5)
    assert psnr(true, true + 0.1) == pytest.approx(20.0)
    assert psnr(true, true) == pytest.approx(100.0)


def test_the_evaluator_averages_over_its_views_with_their_own_sizes():
    scene = disturbed(small_scene())
    photos = photos_of(small_scene(), 3)
    views = views_of(photos, [0, 2], CPU)
    views[1] = views[1].halved()
    candidate = Candidate(scene, tuple(photos.poses.Rt))
    renderer = choose("cpu", CPU)
    both = Evaluator(views, renderer)(candidate)
    each = [Evaluator([view], renderer)(candidate) for view in views]
    assert both.psnr == pytest.approx((each[0].psnr + each[1].psnr) / 2)
    assert each[0].ssim < 1
    true = replace(candidate, gaussians=small_scene())
    assert Evaluator(views, renderer)(true).psnr > both.psnr
    assert (
        Evaluator(views_of(photos, [0, 2], CPU), renderer)(true).psnr > 90
    )  # each at its own pose


def test_colors_are_corrected_where_that_is_wanted():
    photos = photos_of(small_scene(), 1)
    dark = replace(photos, images=(0.5 * photos.images[0],))
    views, renderer = views_of(dark, [0], CPU), choose("cpu", CPU)
    candidate = Candidate(small_scene(), tuple(photos.poses.Rt))
    assert Evaluator(views, renderer)(candidate).psnr < 20
    assert Evaluator(views, renderer, corrects_color=True)(candidate).psnr > 40


def test_the_best_stays_and_is_settled_after_a_while_without_gain():
    start, better = (Candidate(small_scene(n), ()) for n in (1, 2))
    best = Best(start, Score(20.0, 0.5))
    best.offer(better, Score(19.0, 0.9), 0.1)
    assert best.candidate is start
    best.offer(better, Score(21.0, 0.4), 0.3)
    assert best.candidate is better
    best.offer(start, Score(21.0, 0.9), 0.5)
    assert best.candidate is better
    assert not best.is_settled(0.69)
    assert best.is_settled(0.71)
    best.offer(start, Score(21.005, 0.9), 0.8)  # kept, but no reason to go on
    assert best.candidate is start
    assert best.is_settled(0.8)


# --- views and recipes ---


@pytest.mark.parametrize(
    ("count", "every", "held_out"),
    [
        (7, None, []),
        (8, None, [4]),
        (17, None, [4, 12]),
        (24, 4, [2, 6, 10, 14, 18, 22]),
        (2, 2, [1]),
        (3, 8, [1]),
        (9, 0, []),
    ],
)
def test_which_photos_are_held_out(count, every, held_out):
    training, evaluated = hold_out(count, every)
    assert evaluated == held_out
    assert sorted(training + evaluated) == list(range(count))


def test_a_photo_must_be_left():
    with pytest.raises(ValueError, match="leaves none"):
        hold_out(1, 2)


def test_a_halved_view_sees_the_same():
    image, depth = torch.rand(3, 35, 40), torch.rand(35, 40)
    half = View(0, image, torch.tensor([[30.0, 0, 20], [0, 30, 17], [0, 0, 1]]), depth).halved()
    torch.testing.assert_close(half.image[:, 0, 1], image[:, :2, 2:4].mean(dim=(1, 2)))
    assert half.image.shape == (3, 17, 20)
    assert half.inverse_depth.shape == (17, 20)
    torch.testing.assert_close(half.K, torch.tensor([[15.0, 0, 10], [0, 15, 8.5], [0, 0, 1]]))
    tiny = View(0, image[:, :20], half.K)
    assert tiny.halved() is tiny


def test_the_recipe_depends_on_the_number_of_photos():
    assert Recipe.for_photos(6) == Recipe(dropout=0.2, opacity_factor=0.998, smoothness=0.05)
    assert Recipe.for_photos(7) == Recipe.for_photos(12) != Recipe.for_photos(13)
    assert Recipe.for_photos(13) == Recipe()
    assert Recipe.for_photos(20, has_color=True).color
