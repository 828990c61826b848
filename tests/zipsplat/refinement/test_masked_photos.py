"""Photos with masks: what is masked leaves no Gaussian, no loss and no score.

The oracle is a wall without a person, of which every point is seen by some photo.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.zipsplat.refinement.small_scene import disturbed, photos_of, small_scene
from tests.zipsplat.refinement.textured_wall import wall_photos
from zipsplat import Gaussians
from zipsplat.harmonics import rgb_from_dc
from zipsplat.photometric import PhotometricLoss
from zipsplat.posed_images import PosedImages
from zipsplat.refinement import RefinementSettings, refine
from zipsplat.refinement.evaluation import psnr, ssim
from zipsplat.refinement.initialization import initial_gaussians
from zipsplat.refinement.loss import roughness
from zipsplat.refinement.problem import make_problem
from zipsplat.refinement.views import View
from zipsplat.ssim import WINDOW
from zipsplat.ssim import ssim as plain_ssim

PERSON = torch.tensor([1.0, 0.0, 1.0])


def pale_wall() -> PosedImages:
    """Six photos of a wall that is nowhere of the person's colour."""
    photos = wall_photos(6)
    return replace(photos, images=tuple(0.25 + 0.5 * image for image in photos.images))


def with_person(photos: PosedImages) -> tuple[PosedImages, list[Tensor]]:
    """The photos with somebody who walks through them, and masks without him."""
    images, masks = [], []
    for view, image in enumerate(photos.images):
        image, mask = image.clone(), torch.ones(image.shape[1:], dtype=torch.bool)
        left = 4 + 15 * view
        image[:, 20:, left : left + 12] = PERSON[:, None, None]
        mask[20:, left : left + 12] = False
        images.append(image)
        masks.append(mask)
    return replace(photos, images=tuple(images)), masks


def of_person(scene: Gaussians) -> int:
    """Gaussians of the person's colour."""
    colors = rgb_from_dc(scene.sh_coeffs[:, 0])
    return int(((colors - PERSON).abs().amax(dim=1) < 0.25).sum())


def seen_of_him(scene: Gaussians, photos: PosedImages) -> int:
    """Pixels of the person's colour in drawings of all views."""
    rendered, _ = scene.render(photos.cameras, photos.poses, renderer="cpu")
    return int(((rendered - PERSON[:, None, None]).abs().amax(dim=1) < 0.2).sum())


def settings(steps: int = 60, **more) -> RefinementSettings:
    return RefinementSettings(seconds=None, steps=steps, **more)


def run(photos: PosedImages, start: Gaussians | None, chosen: RefinementSettings, masks=None):
    parts = (photos.images, photos.cameras, photos.poses, photos.points)
    return refine(start, *parts, chosen, masks=masks)


def error(scene: Gaussians, photos: PosedImages, masks: list[Tensor]) -> float:
    """Mean PSNR of drawings where the masks count."""
    rendered, _ = scene.render(photos.cameras, photos.poses, renderer="cpu")
    pairs = zip(photos.images, rendered.clamp(0, 1), masks, strict=True)
    return sum(psnr(true, image, mask) for true, image, mask in pairs) / len(masks)


def test_a_masked_person_leaves_no_gaussian_at_the_start():
    photos = pale_wall()
    walked, masks = with_person(photos)
    clean = initial_gaussians(photos, 2000)
    assert of_person(clean) == 0
    assert of_person(initial_gaussians(walked, 2000)) > 50
    masked = initial_gaussians(walked.masked(masks), 2000)
    assert of_person(masked) == 0
    assert masked.num_gaussians > 0.9 * clean.num_gaussians


@pytest.mark.parametrize(
    ("steps", "loss"), [(450, 1.5), pytest.param(600, 0.3, marks=pytest.mark.slow)]
)
def test_a_scene_with_a_masked_person_is_the_scene_without_him(steps: int, loss: float):
    """Other photos show the wall behind him; a sixth of the pixels being masked costs steps."""
    photos = pale_wall()
    walked, masks = with_person(photos)
    everywhere = [torch.ones_like(mask) for mask in masks]
    chosen = settings(steps, max_gaussians=3000)
    clean = run(photos, None, chosen)
    masked = run(walked, None, chosen, masks)
    disturbed_by_him = run(walked, None, chosen)
    assert seen_of_him(masked.gaussians, photos) == 0
    assert seen_of_him(disturbed_by_him.gaussians, photos) > 100
    assert error(masked.gaussians, photos, masks) > error(clean.gaussians, photos, masks) - loss
    behind = error(masked.gaussians, photos, everywhere)
    assert behind > error(clean.gaussians, photos, everywhere) - 2.5
    assert behind > error(disturbed_by_him.gaussians, photos, everywhere) + 3


@pytest.mark.parametrize("count", [3, 16])
def test_masks_that_leave_out_nothing_change_nothing(count):
    photos, start = photos_of(small_scene(), count), disturbed(small_scene())
    masks = [torch.ones(image.shape[1:], dtype=torch.bool) for image in photos.images]
    without = run(photos, start, settings(20))
    with_masks = run(photos, start, settings(20), masks)
    assert torch.equal(without.gaussians.packed(), with_masks.gaussians.packed())
    assert with_masks.psnr == without.psnr
    assert with_masks.ssim == pytest.approx(without.ssim, abs=1e-6)


def test_what_is_behind_a_mask_does_not_matter():
    """Sixteen photos, so that no stereo takes part: the same bits, whatever the mask hides."""
    photos, start = photos_of(small_scene(), 16), disturbed(small_scene())
    masks = [torch.ones(24, 32, dtype=torch.bool) for _ in photos.images]
    painted = []
    for view, image in enumerate(photos.images):
        masks[view][4:20, view : view + 12] = False
        painted.append(torch.where(masks[view], image, torch.rand_like(image)))
    other = replace(photos, images=tuple(painted))
    one, two = (run(each, start, settings(), masks) for each in (photos, other))
    assert (one.psnr, one.ssim) == (two.psnr, two.ssim)
    assert torch.equal(one.gaussians.packed(), two.gaussians.packed())
    assert run(other, start, settings()).psnr < one.psnr - 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_and_its_gradient(dtype):
    """Float64 is computed by the definition, float32 by the kernel."""
    numbers = torch.Generator().manual_seed(0)
    truth, image = torch.rand(2, 3, 30, 40, generator=numbers).to(dtype)
    mask = torch.rand(30, 40, generator=numbers) < 0.6
    loss, gradient = PhotometricLoss(truth, mask=mask)(image)
    leaf = image.double().requires_grad_()
    mixed = torch.where(mask, leaf, truth.double())
    expected = 0.8 * (mixed - truth).abs().mean() + 0.2 * (1 - plain_ssim(truth.double(), mixed))
    (by_leaf,) = torch.autograd.grad(expected, leaf)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-6)
    torch.testing.assert_close(gradient.double(), by_leaf, rtol=1e-4, atol=1e-9)
    assert gradient[:, ~mask].abs().max() == 0
    changed = torch.where(mask, image, 1 - image)
    assert PhotometricLoss(truth, mask=mask)(changed)[0] == loss
    with pytest.raises(ValueError, match=r"mask must be \(30, 40\)"):
        PhotometricLoss(truth, mask=mask[1:])


def test_scores_count_what_the_mask_shows():
    numbers = torch.Generator().manual_seed(0)
    truth, image = torch.rand(2, 3, 40, 50, generator=numbers)
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[:, :20] = True
    expected = -10 * torch.log10((truth - image)[:, :, :20].square().mean())
    assert psnr(truth, image, mask) == pytest.approx(float(expected), rel=1e-6)
    mixed = torch.where(mask, image, truth)
    windows = functional.unfold(torch.stack((truth, mixed)), WINDOW)
    windows = windows.reshape(2, 3, WINDOW, WINDOW, -1).permute(0, 4, 1, 2, 3)
    shown = functional.unfold(mask[None, None].float(), WINDOW)[0].amax(dim=0) > 0
    mean = plain_ssim(windows[0][shown].double(), windows[1][shown].double()).mean()
    assert ssim(truth, image, mask) == pytest.approx(float(mean), abs=1e-5)


def test_no_smoothness_across_a_mask():
    inverse, image = torch.rand(6, 8), torch.rand(3, 6, 8)
    mask = torch.ones(6, 8, dtype=torch.bool)
    assert roughness(inverse, image, 1.0, mask) == roughness(inverse, image, 1.0)
    mask[:, 4:] = False
    before = roughness(inverse, image, 1.0, mask)
    inverse[:, 4:] = 7
    assert roughness(inverse, image, 1.0, mask) == before > 0


def test_halves_count_where_all_four_pixels_do():
    mask = torch.ones(33, 40, dtype=torch.bool)
    mask[0, 0] = mask[9, 9] = False
    view = View(0, torch.rand(3, 33, 40), torch.eye(3), mask=mask).halved()
    assert view.mask.shape == view.image.shape[1:] == (16, 20)
    assert (~view.mask).nonzero().tolist() == [[0, 0], [4, 4]]


def test_masks_go_with_their_photos():
    photos = wall_photos(3)
    _, masks = with_person(photos)
    posed = photos.masked(masks)
    chosen = posed.select([2, 0])
    assert torch.equal(chosen.masks[0], masks[2])
    assert chosen.resized(48).masks[1].shape == chosen.resized(48).images[1].shape[1:]
    problem = make_problem(posed, small_scene(), settings(hold_out=2))
    assert torch.equal(problem.task.views[0].mask, masks[0])
    assert torch.equal(problem.task.views[1].mask, masks[2])
    assert torch.equal(problem.evaluator.views[0].mask, masks[1])
    with pytest.raises(ValueError, match="one mask per image, 3, got 2"):
        photos.masked(masks[:2])
    with pytest.raises(ValueError, match=r"1\.png: a mask must be bool"):
        photos.masked([masks[0], masks[1].float(), masks[2]])
    with pytest.raises(ValueError, match=r"0\.png: its mask leaves no pixel"):
        photos.masked([torch.zeros_like(masks[0]), *masks[1:]])


def test_points_that_only_masked_pixels_show_are_left_out():
    photos = wall_photos(3)
    masks = [torch.ones(image.shape[1:], dtype=torch.bool) for image in photos.images]
    masks[0][:, :48] = masks[1][:, :48] = False
    kept = photos.masked(masks).points
    everything = photos.points
    for view in range(3):
        column = everything.pixels[everything.views == view][:, 0]
        wanted = ((column >= 48) | (view == 2)).sum()
        assert (kept.views == view).sum() == wanted
    assert len(kept) == len(everything)  # the third photo shows all
    masks[2][:] = False
    masks[2][0, 0] = True
    fewer = photos.masked(masks).points
    assert 0 < len(fewer) < len(everything)
    assert fewer.offsets[-1] == len(fewer.views)
