"""Regularization by number of photos: it helps with few and harms with many.

Thresholds and weights were found by experiment (docs/refinement.md).
"""

from __future__ import annotations

from dataclasses import dataclass

FEW, SEVERAL = 6, 12  # training photos


@dataclass(frozen=True)
class Recipe:
    """Regularization in addition to the photometric loss.

    Args:
        dropout: final share of the Gaussians dropped at random per step, growing from 0. Source:
            Park et al., "DropGaussian", 2025.
        opacity_factor: all opacities are multiplied by this after each step.
        smoothness: weight of the edge-aware smoothness of inverse depth.
        depth: weight of the stereo depth loss, in the first half.
        color: whether each photo gets an affine colour correction.
    """

    dropout: float = 0.0
    opacity_factor: float = 1.0
    smoothness: float = 0.0
    depth: float = 0.0
    color: bool = False

    @classmethod
    def for_photos(cls, count: int, *, has_color: bool = False) -> Recipe:
        """The recipe for a number of training photos.

        Args:
            count: number of training photos.
            has_color: whether to correct colours at any number of photos.
        """
        if count <= FEW:
            return cls(dropout=0.2, opacity_factor=0.998, smoothness=0.05, color=has_color)
        if count <= SEVERAL:
            return cls(dropout=0.2, depth=0.3, color=True)
        return cls(color=has_color)
