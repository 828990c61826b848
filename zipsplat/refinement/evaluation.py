"""Evaluation of a scene against photos, and the best state so far."""

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

_LEAST_GAIN = 0.01  # dB
_PATIENCE = 0.4  # share of the refinement that may pass without a gain
_PSNR_MAX = 100.0  # dB, for equal pictures


@dataclass(frozen=True)
class Score:
    """Means over some photos.

    Args:
        psnr: dB, at most 100.
        ssim: at most 1.
    """

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Candidate:
    """A state that could be the result.

    Args:
        gaussians: (N,) the scene.
        poses: V of (4, 4) camera-to-world.
        focal_factor: multiplies the focal lengths.
    """

    gaussians: Gaussians
    poses: tuple[Tensor, ...]
    focal_factor: float = 1.0


@dataclass(frozen=True)
class Judge:
    """Compares drawings of a scene with photos.

    Args:
        views: the photos; at least one.
        renderer: what draws.
        corrects_color: first bring each drawing to the photo by the best affine map of colours.
    """

    views: Sequence[View]
    renderer: Renderer
    corrects_color: bool = False

    @torch.no_grad()
    def __call__(self, candidate: Candidate) -> Score:
        """The score of a scene with its cameras."""
        splats = candidate.gaussians.splats()
        psnrs, ssims = [], []
        for view in self.views:
            pose = candidate.poses[view.index]
            drawn = view.draw(self.renderer, splats, pose, candidate.focal_factor).color
            assert drawn is not None, "the renderer left out the colours"
            picture = drawn[0]
            if self.corrects_color:
                seen = (picture, view.image)
                if view.mask is not None:
                    seen = (picture[:, view.mask], view.image[:, view.mask])
                picture = color.apply(color.best_map(*seen), picture)
            picture = picture.clamp(0, 1)
            psnrs.append(psnr(view.image, picture, view.mask))
            ssims.append(ssim(view.image, picture, view.mask))
        return Score(sum(psnrs) / len(psnrs), sum(ssims) / len(ssims))


class Best:
    """The best candidate so far, and when there was the last gain.

    Args:
        start: the first candidate.
        score: of the start.
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
        """Whether PSNR has not improved for a long time."""
        return share - self._gained_at > _PATIENCE


def psnr(true: Tensor, picture: Tensor, mask: Tensor | None = None) -> float:
    """PSNR in dB of a picture (3, H, W) in [0, 1], over the pixels of a mask (H, W) if given."""
    error = (picture - true).square()
    mean = error.mean() if mask is None else error[:, mask].mean()
    return float(-10 * torch.log10(mean.clamp_min(10 ** (-_PSNR_MAX / 10))))


def ssim(true: Tensor, picture: Tensor, mask: Tensor | None = None) -> float:
    """SSIM of a picture (3, H, W), over the windows that show pixels of a mask (H, W) if given.

    Outside of the mask the picture is taken to equal the true one.
    """
    if mask is None:
        return float(fused_ssim(true, picture))
    similarity = float(fused_ssim(true, torch.where(mask, picture, true)))
    seen = functional.max_pool2d(mask[None].to(picture.dtype), WINDOW, stride=1).mean()
    return 1 - (1 - similarity) / float(seen.clamp_min(1e-12))
