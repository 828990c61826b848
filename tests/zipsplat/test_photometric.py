"""The compiled photometric loss against the definition, by autograd in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zipsplat import photometric
from zipsplat.photometric import PhotometricLoss, fused_ssim
from zipsplat.render.cpu import set_num_threads
from zipsplat.ssim import ssim

SIZES = [(11, 11), (11, 40), (12, 27), (33, 16), (37, 43), (64, 96), (95, 131)]
"""(H, W): the smallest, odd ones, and widths on and around multiples of the vectors' 16 lanes."""


@pytest.fixture(autouse=True)
def _default_threads() -> None:
    yield
    set_num_threads(None)


def images(height: int, width: int, kind: str = "noise") -> tuple[Tensor, Tensor]:
    """A true image and one that differs, float32."""
    generator = torch.Generator().manual_seed(height * width)
    noise = torch.rand(2, 3, height, width, generator=generator)
    if kind == "noise":
        return noise[0], noise[1] * 1.3 - 0.1  # rendered colours may leave [0, 1]
    y, x = torch.arange(height)[:, None] / 9, torch.arange(width) / 13
    smooth = (0.5 + 0.4 * torch.sin(y) * torch.cos(x)).expand(3, -1, -1).contiguous()
    return smooth, smooth + 0.02 * (noise[0] - 0.5)


def oracle(truth: Tensor, image: Tensor, weight: float) -> tuple[float, Tensor]:
    """Loss and gradient in float64."""
    x, y = truth.double(), image.double().requires_grad_()
    loss = (1 - weight) * (x - y).abs().mean() + weight * (1 - ssim(x, y))
    (gradient,) = torch.autograd.grad(loss, y)
    return float(loss.detach()), gradient


def relative(ours: Tensor, expected: Tensor) -> float:
    """The largest of two errors: of the length of the difference, and of its largest number."""
    difference = (ours.double() - expected).abs()
    return max(
        float(difference.norm() / expected.norm()), float(difference.max() / expected.abs().max())
    )


@pytest.mark.parametrize("kind", ["noise", "smooth"])
@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_definition(size: tuple[int, int], weight: float, kind: str) -> None:
    truth, image = images(*size, kind)
    loss, gradient = PhotometricLoss(truth, weight)(image)
    expected_loss, expected_gradient = oracle(truth, image, weight)
    assert gradient.shape == image.shape
    assert gradient.dtype == torch.float32
    assert abs(loss - expected_loss) <= 1e-6 * expected_loss
    assert relative(gradient, expected_gradient) <= 1e-5


def test_bright_flat_images() -> None:
    """Where variances vanish beside squares, float32 loses digits: here, not more than PyTorch."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.full((3, 40, 50), 0.9)
    image = truth + 0.001 * torch.randn(truth.shape, generator=generator)
    _, expected = oracle(truth, image, 1.0)
    _, ours = PhotometricLoss(truth, 1.0)(image)
    leaf = image.clone().requires_grad_()
    (theirs,) = torch.autograd.grad(1 - ssim(truth, leaf), leaf)
    assert relative(ours, expected) <= 1e-5
    assert relative(theirs, expected) > relative(ours, expected)


def test_equal_images_have_no_loss_and_no_gradient() -> None:
    truth, _ = images(20, 30)
    loss, gradient = PhotometricLoss(truth)(truth.clone())
    assert loss == 0
    assert gradient.abs().max() == 0


def test_the_same_for_any_number_of_threads() -> None:
    truth, image = images(61, 77)
    results = []
    for num_threads in (1, 2, 3, 7):
        set_num_threads(num_threads)
        results.append(PhotometricLoss(truth)(image))
    for loss, gradient in results[1:]:
        assert loss == results[0][0]
        assert torch.equal(gradient, results[0][1])


def test_results_outlive_later_calls() -> None:
    truth, image = images(90, 90)
    compare = PhotometricLoss(truth)
    _, first = compare(image)
    kept = first.clone()
    compare(torch.zeros_like(image))
    assert torch.equal(first, kept)


def test_strided_images_and_other_dtypes() -> None:
    truth, image = images(30, 40)
    loss, gradient = PhotometricLoss(truth)(image)
    strided = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    turned = PhotometricLoss(truth.permute(1, 2, 0).contiguous().permute(2, 0, 1))
    assert turned(strided)[0] == loss
    assert torch.equal(turned(strided)[1], gradient)
    double_loss, double_gradient = PhotometricLoss(truth.double())(image.double())
    expected_loss, expected_gradient = oracle(truth, image, 0.2)
    assert double_loss == pytest.approx(expected_loss, rel=1e-12)
    torch.testing.assert_close(double_gradient, expected_gradient)
    assert not image.requires_grad


def test_without_numba_the_definition_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, image = images(30, 40)
    loss, gradient = PhotometricLoss(truth)(image)
    monkeypatch.setattr(photometric, "_has_kernel", lambda _image: False)
    with torch.no_grad():
        plain_loss, plain_gradient = PhotometricLoss(truth)(image)
    assert plain_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(plain_gradient, gradient, rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_fused_ssim_in_autograd(batch: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.rand(*batch, 3, 23, 37, generator=generator)
    image = torch.rand(*batch, 3, 23, 37, generator=generator).requires_grad_()
    weights = torch.rand(batch, generator=generator)
    value = fused_ssim(truth, image)
    assert value.shape == batch
    assert value.dtype == torch.float32
    (gradient,) = torch.autograd.grad((weights * value.square()).sum(), image)
    leaf = image.detach().double().requires_grad_()
    expected = ssim(truth.double(), leaf)
    (by_leaf,) = torch.autograd.grad((weights * expected.square()).sum(), leaf)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    assert relative(gradient, by_leaf) <= 1e-5


def test_fused_ssim_falls_back() -> None:
    """Float64 is served by the definition, exactly."""
    truth, image = (t.double() for t in images(20, 30))
    image.requires_grad_()
    assert torch.equal(fused_ssim(truth, image), ssim(truth, image))
    fused_ssim(truth, image).backward()
    assert image.grad is not None


def test_errors() -> None:
    truth, image = images(20, 30)
    with pytest.raises(ValueError, match=r"\(C, H, W\), got \(1, 3, 20, 30\)"):
        PhotometricLoss(truth[None])
    with pytest.raises(ValueError, match=r"at least 11 pixels, got \(10, 30\)"):
        PhotometricLoss(truth[:, :10])
    with pytest.raises(ValueError, match=r"ssim_weight must be in \[0, 1\], got 1.5"):
        PhotometricLoss(truth, 1.5)
    with pytest.raises(ValueError, match="equal shape"):
        PhotometricLoss(truth)(image[:, :, 1:])
    with pytest.raises(ValueError, match="equal shape"):
        fused_ssim(truth, image[:, :, 1:])
    with pytest.raises(ValueError, match="at least 11 pixels"):
        fused_ssim(truth[:, :, :9], image[:, :, :9])
