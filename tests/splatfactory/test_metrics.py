"""Metrics against the reference, scikit-image and hand-made cases."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from splatfactory.metrics import psnr, ssim
from tests.splatfactory.golden import load


@pytest.mark.parametrize("case", [0, 1, 2])
def test_psnr_and_ssim_equal_the_reference(case: int):
    data = load(f"metrics_{case}")
    gt, pred = data["gt"], data["pred"]
    torch.testing.assert_close(psnr(gt, pred), data["psnr"], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        ssim(gt.double(), pred.double()).float(), data["ssim"], atol=1e-5, rtol=0
    )
    clipped = ssim(gt.double().clamp(0, 1), pred.double().clamp(0, 1)).float()
    torch.testing.assert_close(clipped, data["ssim_clipped"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(11, 11), (12, 40), (63, 64)])
def test_ssim_equals_scikit_image(size: tuple[int, int]):
    rng = np.random.default_rng(0)
    gt = rng.uniform(size=(3, *size))
    pred = np.clip(gt + 0.2 * rng.normal(size=gt.shape), -0.5, 1.5)
    expected = structural_similarity(
        gt, pred, win_size=11, gaussian_weights=True, channel_axis=0, data_range=1.0
    )
    ours = ssim(torch.from_numpy(gt), torch.from_numpy(pred))
    assert abs(float(ours) - expected) < 1e-6


def test_ssim_gradient_is_right():
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(2, 13, 12, generator=generator, dtype=torch.float64)
    pred = torch.rand(2, 13, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ssim(gt, x), pred)


def test_psnr_by_hand():
    black, grey = torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)
    assert math.isclose(float(psnr(black, grey)), 20.0, abs_tol=1e-5)
    assert torch.isinf(psnr(grey, grey))
    assert torch.isinf(psnr(torch.ones(3, 4, 4), torch.full((3, 4, 4), 7.0)))


def test_images_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="equal shape"):
        psnr(torch.zeros(3, 4, 4), torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(torch.zeros(3, 4, 40), torch.zeros(3, 4, 40))
