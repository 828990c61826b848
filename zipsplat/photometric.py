"""The photometric loss of refinement and training.

On a CPU in float32, one compiled kernel computes value and gradient; otherwise the PyTorch
definition, against which the kernel is tested, does.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from zipsplat.ssim import WINDOW, check_pair, check_sides, ssim

if TYPE_CHECKING:
    from zipsplat.render.cpu.l1_ssim import Outcome, Truth


class PhotometricLoss:
    """(1 − w) · mean |e| + w · (1 − SSIM) of one image against a fixed truth.

    Statistics of the truth are computed once, here. SSIM is that of `zipsplat.ssim`, which excludes
    a border of five pixels.

    Args:
        truth: (C, H, W) in [0, 1], sides of at least 11 pixels; must not be changed afterwards.
        ssim_weight: w in [0, 1].
        mask: (H, W) bool, False where images are assumed to equal the truth, without loss and
            gradient. None is True everywhere.

    Raises:
        ValueError: if a shape does not match or the weight is out of range.
    """

    def __init__(self, truth: Tensor, ssim_weight: float = 0.2, mask: Tensor | None = None) -> None:
        if truth.ndim != 3:
            raise ValueError(f"truth must have shape (C, H, W), got {tuple(truth.shape)}")
        check_sides(truth)
        if not 0 <= ssim_weight <= 1:
            raise ValueError(f"ssim_weight must be in [0, 1], got {ssim_weight}")
        if mask is not None and mask.shape != truth.shape[1:]:
            raise ValueError(f"mask must be {tuple(truth.shape[1:])}, got {tuple(mask.shape)}")
        self.ssim_weight = ssim_weight
        self._mask = mask
        self._truth = truth.detach()
        self._measured = _measure(self._truth) if _has_kernel(truth) else None

    def __call__(self, image: Tensor) -> tuple[float, Tensor]:
        """Compute the loss and its gradient with respect to the image.

        Args:
            image: (C, H, W), on the truth's device.

        Returns:
            The loss, and the gradient (C, H, W) for `image.backward`.

        Raises:
            ValueError: if the shape differs from the truth's.
        """
        check_pair(self._truth, image)
        image = image.detach()
        if self._mask is None:
            return self._compared(image)
        loss, gradient = self._compared(torch.where(self._mask, image, self._truth))
        return loss, gradient * self._mask

    def _compared(self, image: Tensor) -> tuple[float, Tensor]:
        """The same without a mask."""
        if self._measured is None or not _has_kernel(image):
            return self._by_autograd(image)
        by_error = (1 - self.ssim_weight) / image.numel()
        by_dissimilarity = self.ssim_weight / _num_windows(image)
        outcome = _compare(self._measured, image, by_error, by_dissimilarity)
        loss = by_error * outcome.absolute.sum() + by_dissimilarity * outcome.dissimilarity.sum()
        return float(loss), torch.from_numpy(outcome.gradient).reshape(image.shape)

    @torch.enable_grad()
    def _by_autograd(self, image: Tensor) -> tuple[float, Tensor]:
        image = image.requires_grad_()
        error = (image - self._truth).abs().mean()
        dissimilarity = 1 - ssim(self._truth, image)
        loss = (1 - self.ssim_weight) * error + self.ssim_weight * dissimilarity
        (gradient,) = torch.autograd.grad(loss, image)
        return float(loss.detach()), gradient


def fused_ssim(truth: Tensor, image: Tensor) -> Tensor:
    """`zipsplat.ssim.ssim`, by the compiled kernel where possible.

    The kernel handles float32 images on a CPU; it computes the gradient together with the value,
    and is many times faster than PyTorch's convolutions.

    Args:
        truth: (..., C, H, W), sides of at least 11 pixels.
        image: (..., C, H, W); only this one is differentiable.

    Returns:
        (...), 1 for equal images.

    Raises:
        ValueError: if the shapes differ or the images are too small.
    """
    check_pair(truth, image)
    check_sides(image)
    if not (_has_kernel(truth) and _has_kernel(image)):
        return ssim(truth.detach(), image)
    compared: Any = _Ssim.apply
    similarity: Tensor = compared(truth.detach(), image)
    return similarity


class _Ssim(torch.autograd.Function):
    """`fused_ssim` as an autograd function."""

    @staticmethod
    def forward(ctx: Any, truth: Tensor, image: Tensor) -> Tensor:
        """Compute values, and save the gradient for `backward`."""
        num = _num_windows(image)
        planes = truth.reshape(-1, *truth.shape[-2:])
        outcome = _compare(_measure(planes), image.detach(), 0.0, -1 / num)
        ctx.save_for_backward(torch.from_numpy(outcome.gradient).reshape(image.shape))
        sums = torch.from_numpy(outcome.dissimilarity).reshape(*image.shape[:-3], -1).sum(dim=-1)
        return (1 - sums / num).to(image.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_similarity: Tensor) -> tuple[None, Tensor]:
        """The gradient with respect to the image."""
        (gradient,) = ctx.saved_tensors
        return None, gradient * v_similarity[..., None, None, None]


def _has_kernel(image: Tensor) -> bool:
    return (
        image.device.type == "cpu"
        and image.dtype == torch.float32
        and importlib.util.find_spec("numba") is not None
    )


def _num_windows(image: Tensor) -> int:
    """Windows in all channels of one image."""
    channels, height, width = image.shape[-3:]
    return channels * (height - WINDOW + 1) * (width - WINDOW + 1)


def _measure(planes: Tensor) -> Truth:
    from zipsplat.render.cpu import get_num_threads
    from zipsplat.render.cpu.comparison import truth_of

    return truth_of(planes.numpy(), get_num_threads())


def _compare(truth: Truth, image: Tensor, by_error: float, by_dissimilarity: float) -> Outcome:
    from zipsplat.render.cpu import get_num_threads
    from zipsplat.render.cpu.comparison import compare_images
    from zipsplat.render.cpu.l1_ssim import Weights

    pixels = image.contiguous().numpy().reshape(-1)
    return compare_images(truth, pixels, Weights(by_error, by_dissimilarity), get_num_threads())
