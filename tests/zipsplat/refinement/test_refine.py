"""Refinement as a whole, on scenes small enough for hundreds of runs."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import pytest
import torch

from tests.zipsplat.refinement.small_scene import around, disturbed, photos_of, small_scene
from zipsplat import Gaussians, Pose
from zipsplat.alignment import rotation_from_vector
from zipsplat.posed_images import PosedImages
from zipsplat.refinement import RefinedScene, RefinementSettings, refine, trainer
from zipsplat.refinement.problem import make_problem
from zipsplat.refinement.schedule import Budget
from zipsplat.refinement.trainer import Trainer


def settings(steps: int = 30, **more) -> RefinementSettings:
    return RefinementSettings(seconds=None, steps=steps, **more)


def run(start: Gaussians, photos: PosedImages, *arguments, **more) -> RefinedScene:
    return refine(start, photos.images, photos.cameras, photos.poses, None, *arguments, **more)


@pytest.mark.parametrize("renderer", ["cpu", "reference"])
def test_a_disturbed_scene_gets_better(renderer):
    photos = photos_of(small_scene(), 3)
    result = run(disturbed(small_scene()), photos, settings(60, renderer=renderer))
    assert result.psnr > result.start_psnr + 3
    assert (result.num_steps, result.stopped, result.held_out) == (60, "budget", ())
    assert result.curve[0].psnr == result.start_psnr
    assert result.psnr == max(point.psnr for point in result.curve)


@pytest.mark.parametrize(("renderer", "limit", "during"), [
    ("cpu", 61, 1), ("cpu", 60, 2), ("reference", 61, 2),
])  # fmt: skip
def test_pytorch_uses_one_thread_between_renders_of_few_gaussians(
    renderer, limit, during, monkeypatch
):
    photos, start = photos_of(small_scene(), 3), disturbed(small_scene())
    assert start.num_gaussians == 60
    monkeypatch.setattr(trainer, "FEW_GAUSSIANS", limit)
    of_loss, before = [], torch.get_num_threads()
    plain = trainer.psnr
    monkeypatch.setattr(
        trainer, "psnr", lambda *args: of_loss.append(torch.get_num_threads()) or plain(*args)
    )
    torch.set_num_threads(2)
    try:
        run(start, photos, settings(2, renderer=renderer))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(of_loss) == {during}


@pytest.mark.cuda
def test_it_works_on_a_gpu():
    photos = photos_of(small_scene(), 3)
    result = run(disturbed(small_scene()).cuda(), photos, settings(60))
    assert result.psnr > result.start_psnr + 3
    assert result.gaussians.device.type == "cuda"


def test_equal_seeds_give_equal_bits():
    photos, start = photos_of(small_scene(), 9), disturbed(small_scene(), 0.2)
    chosen = settings(320, max_gaussians=100, optimize_poses=True, optimize_focal=True)
    last = {}

    def keep(name):
        return lambda p: last.update({name: p.snapshot()}) if p.step == 240 else p.step < 240

    first = run(start, photos, chosen, keep("first"))
    second = run(start, photos, chosen, keep("second"))
    assert last["first"].num_gaussians == 72
    assert torch.equal(last["first"].packed(), last["second"].packed())
    assert torch.equal(first.poses.Rt, second.poses.Rt)
    assert [point.psnr for point in first.curve] == [point.psnr for point in second.curve]
    run(start, photos, replace(chosen, seed=1), keep("other"))
    assert not torch.equal(last["first"].packed()[:9], last["other"].packed()[:9])


@pytest.mark.parametrize("count", [2, 16])
def test_never_worse_than_the_start(count):
    """Starts that are perfect or nearly so: most steps harm them."""
    for seed in range(50):
        scene = small_scene(20, seed)
        start = disturbed(scene, 0.01 * (seed % 5), seed)
        photos = photos_of(scene, count)
        result = run(start, photos, settings(4, seed=seed))
        assert result.psnr >= result.start_psnr
        if result.psnr == result.start_psnr:
            assert result.gaussians is not None


def test_a_perfect_scene_comes_back_as_it_was():
    scene = small_scene()
    result = run(scene, photos_of(scene, 4), settings(20))
    assert torch.equal(result.gaussians.packed(), scene.packed())


def test_held_out_photos_are_not_trained_with():
    photos, start = photos_of(small_scene(), 9), disturbed(small_scene())
    refined = run(start, photos, settings(20, hold_out=3))
    assert refined.held_out == (1, 4, 7)
    other = replace(
        photos, images=tuple(1 - im if i % 3 == 1 else im for i, im in enumerate(photos.images))
    )
    seen = []
    for set_of_photos in (photos, other):
        run(
            start,
            set_of_photos,
            settings(20, hold_out=3),
            lambda p: seen.append(p.snapshot()) if p.step == 20 else None,
        )
    assert torch.equal(seen[0].packed(), seen[1].packed())


def test_photos_may_differ_in_size():
    photos = photos_of(small_scene(), 3)
    smaller = photos.select([0]).resized(20)
    mixed = PosedImages(
        (smaller.images[0], *photos.images[1:]),
        torch.cat((smaller.cameras, photos.cameras[1:])),
        photos.poses,
        photos.names,
    )
    result = run(disturbed(small_scene()), mixed, settings(40))
    assert result.psnr > result.start_psnr + 1
    torch.testing.assert_close(result.cameras.size, mixed.cameras.size)


def test_the_result_has_the_cameras_as_they_were_given():
    photos = photos_of(small_scene(), 3)
    result = run(disturbed(small_scene()), photos, settings(5, max_side=16))
    torch.testing.assert_close(result.cameras.packed(), photos.cameras.packed())
    torch.testing.assert_close(result.poses.Rt, photos.poses.Rt)


def test_the_cap_holds():
    photos, start = photos_of(small_scene(), 3), disturbed(small_scene())
    sizes = []
    run(start, photos, settings(310, max_gaussians=70), lambda p: sizes.append(p.num_gaussians))
    assert max(sizes) == 70
    result = run(start, photos, settings(5, max_gaussians=40))
    assert result.gaussians.num_gaussians == 40


def test_progress_tells_what_goes_on():
    photos, start = photos_of(small_scene(), 9), disturbed(small_scene())
    reports = []
    run(start, photos, settings(10), reports.append)
    assert [p.step for p in reports] == list(range(1, 11))
    assert [p.share for p in reports] == [pytest.approx(n / 10) for n in range(1, 11)]
    assert reports[-1].seconds_left == 0
    assert all(p.held_out_psnr is not None and p.train_psnr > 5 for p in reports)
    few = []
    run(start, photos.select(range(3)), settings(2), few.append)
    assert few[0].held_out_psnr is None


def test_whoever_says_stop_keeps_the_best():
    photos, start = photos_of(small_scene(), 3), disturbed(small_scene())
    result = run(start, photos, settings(1000), lambda p: p.step < 40)
    assert (result.num_steps, result.stopped) == (40, "interrupted")
    assert result.psnr > result.start_psnr


def test_seconds_end_it(monkeypatch):
    """The clock goes on by half a second each time it is read."""
    ticks = itertools.count()
    budget = functools.partial(Budget, clock=lambda: 0.5 * next(ticks))
    monkeypatch.setattr("zipsplat.refinement.loop.Budget", budget)
    chosen = RefinementSettings(seconds=20.0)
    result = run(disturbed(small_scene()), photos_of(small_scene(), 3), chosen)
    assert result.stopped == "budget"
    assert 5 < result.num_steps < 40
    assert result.curve[-1].seconds >= 20.0


def test_it_ends_by_itself_where_nothing_is_gained():
    scene = small_scene()
    result = run(scene, photos_of(scene, 4), settings(300))
    assert (result.stopped, result.num_steps) == ("converged", 180)


def moved(poses: Pose, degrees: float, distance: float) -> Pose:
    numbers = torch.Generator().manual_seed(5)
    turn = torch.deg2rad(torch.tensor(degrees)) * torch.randn(len(poses), 3, generator=numbers)
    shift = distance * torch.randn(len(poses), 3, generator=numbers)
    turn[0], shift[0] = 0, 0
    return Pose(poses.R @ rotation_from_vector(turn), poses.t + shift)


def pose_error(poses: Pose, true: Pose) -> float:
    return float((poses.R - true.R).norm(dim=(1, 2)).mean() + (poses.t - true.t).norm(dim=1).mean())


def test_a_fork_goes_the_same_way_on_its_own():
    photos, start = photos_of(small_scene(), 4), disturbed(small_scene())
    first = Trainer(make_problem(photos, start, settings(9)).task, start)
    for _ in range(5):
        first.step(0.5)
    second = first.fork()
    apart = first.candidate().gaussians.packed()
    for _ in range(5):
        second.step(0.5)
    assert torch.equal(first.candidate().gaussians.packed(), apart)
    for _ in range(5):
        first.step(0.5)
    ends = [trainer.candidate().gaussians.packed() for trainer in (first, second)]
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], apart)


def free_and_fixed(photos: PosedImages, **more) -> tuple[RefinedScene, RefinedScene]:
    """The same refinement with moving and with fixed cameras; the number of Gaussians stays."""
    start = disturbed(small_scene(), 0.02)
    chosen = settings(400, hold_out=0, max_gaussians=60)
    return run(start, photos, replace(chosen, **more)), run(start, photos, chosen)


def test_wrong_poses_are_found():
    photos = photos_of(small_scene(), 14)
    wrong = replace(photos, poses=moved(photos.poses, 0.5, 0.01))
    free, fixed = free_and_fixed(wrong, optimize_poses=True)
    assert free.psnr > fixed.psnr + 1
    assert torch.equal(fixed.poses.Rt, wrong.poses.Rt)
    assert pose_error(free.poses, photos.poses) < 0.7 * pose_error(wrong.poses, photos.poses)


def test_right_poses_stay_about_where_they_are():
    photos = photos_of(small_scene(), 14)
    free, _ = free_and_fixed(photos, optimize_poses=True)
    assert pose_error(free.poses, photos.poses) < 0.02


def test_all_cameras_share_one_factor_of_the_focal_length():
    photos = photos_of(small_scene(), 14, poses=around(14))
    wrong = replace(photos, cameras=replace(photos.cameras, f=1.1 * photos.cameras.f))
    free, fixed = free_and_fixed(wrong, optimize_focal=True)
    factor = free.cameras.f / wrong.cameras.f
    assert float(factor.std()) < 1e-6
    assert float(factor[0, 0]) < 1
    assert torch.equal(fixed.cameras.f, wrong.cameras.f)


def test_one_scene_is_needed():
    photos = photos_of(small_scene(), 3)
    with pytest.raises(ValueError, match="one scene"):
        run(small_scene()[None], photos, settings(5))
    with pytest.raises(ValueError, match="one scene"):
        run(small_scene()[:0], photos, settings(5))
    with pytest.raises(ValueError, match="instead of"):
        run(small_scene(), replace(photos, images=(*photos.images[:2], torch.zeros(3, 5, 5))))
