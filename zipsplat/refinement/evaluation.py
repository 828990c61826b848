"""Evaluation of a scene against photos, and the best scene so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.gaussians import Gaussians
from zipsplat.photometric import fused_ssim
from zipsplat.refinement import color
from zipsplat.refinement.views import View
from zipsplat.render import Renderer
from zipsplat.ssim import WINDOW

_LEAST_GAIN = 0.01  # dB; smaller gains do not count as progress
_PATIENCE = 0.4  # share of the refinement that may pass without a gain
_PSNR_MAX = 100.0  # dB, for equal images


@dataclass(frozen=True)
class Score:
    """Mean scores over some photos.

    Args:
        psnr: dB, at most 100.
        ssim: at most 1.
    """

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Candidate:
    """A state of the refinement that may become the result.

    Args:
        gaussians: (N,) the scene.
        poses: V of (4, 4) camera-to-world.
        focal_factor: multiplies the focal lengths.
    """

    gaussians: Gaussians
    poses: tuple[Tensor, ...]
    focal_factor: float = 1.0


@dataclass(frozen=True)
class Evaluator:
    """Compares rendered views of a scene with photos.

    Args:
        views: the photos; at least one.
        renderer: renders the views.
        corrects_color: first map each rendered view to the photo by the best affine colour map.
    """

    views: Sequence[View]
    renderer: Renderer
    corrects_color: bool = False

    @torch.no_grad()
    def __call__(self, candidate: Candidate) -> Score:
        """Score a scene with its cameras."""
        splats = candidate.gaussians.splats()
        psnrs, ssims = [], []
        for view in self.views:
            pose = candidate.poses[view.index]
            rendered = view.render(self.renderer, splats, pose, candidate.focal_factor).color
            assert rendered is not None, "the renderer left out the colours"
            image = rendered[0]
            if self.corrects_color:
                seen = (image, view.image)
                if view.mask is not None:
                    seen = (image[:, view.mask], view.image[:, view.mask])
                image = color.apply(color.best_map(*seen), image)
            image = image.clamp(0, 1)
            psnrs.append(psnr(view.image, image, view.mask))
            ssims.append(ssim(view.image, image, view.mask))
        return Score(sum(psnrs) / len(psnrs), sum(ssims) / len(ssims))


class Best:
    """The best candidate so far, and when it last improved.

    Args:
        start: the first candidate.
        score: of the first candidate.
    """

    def __init__(self, start: Candidate, score: Score) -> None:
        self.candidate, self.score = start, score
        self._gained_at = 0.0
        self._gained_psnr = score.psnr

    def offer(self, candidate: Candidate, score: Score, share: float) -> None:
        """Keep a candidate if it is better; `share` of the refinement is done."""
        if score.psnr > self.score.psnr:
            self.candidate, self.score = candidate, score
        if score.psnr > self._gained_psnr + _LEAST_GAIN:
            self._gained_at, self._gained_psnr = share, score.psnr

    def is_settled(self, share: float) -> bool:
        """Whether PSNR has not improved for the last 40 % of the refinement."""
        return share - self._gained_at > _PATIENCE


def psnr(true: Tensor, image: Tensor, mask: Tensor | None = None) -> float:
    """PSNR in dB of an image (3, H, W) in [0, 1], over the pixels of a mask (H, W) if given."""
    error = (image - true).square()
    mean = error.mean() if mask is None else error[:, mask].mean()
    return float(-10 * torch.log10(mean.clamp_min(10 ** (-_PSNR_MAX / 10))))


def ssim(true: Tensor, image: Tensor, mask: Tensor | None = None) -> float:
    """SSIM of an image (3, H, W), over the windows that contain pixels of a mask (H, W) if given.

    Outside of the mask the image is assumed to equal the true one.
    """
    if mask is None:
        return float(fused_ssim(true, image))
    similarity = float(fused_ssim(true, torch.where(mask, image, true)))
    seen = functional.max_pool2d(mask[None].to(image.dtype), WINDOW, stride=1).mean()
    return 1 - (1 - similarity) / float(seen.clamp_min(1e-12))
