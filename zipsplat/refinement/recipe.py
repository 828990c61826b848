"""Regularization by number of photos: it helps with few and harms with many.

Thresholds and weights were measured.
"""

from __future__ import annotations

from dataclasses import dataclass

FEW, SEVERAL = 6, 12  # photos to train with


@dataclass(frozen=True)
class Recipe:
    """What is added to the loss on pictures.

    Args:
        dropout: largest share of the Gaussians that is left out of a picture at random; the share
            grows from 0 to it. Source: Park et al., "DropGaussian", 2025.
        opacity_factor: all opacities are multiplied by this after each step.
        smoothness: weight of the smoothness of the inverse depth.
        depth: weight of the depth that stereo found, in the first half.
        color: whether each photo gets an affine colour correction.
    """

    dropout: float = 0.0
    opacity_factor: float = 1.0
    smoothness: float = 0.0
    depth: float = 0.0
    color: bool = False

    @classmethod
    def for_photos(cls, count: int, *, has_color: bool = False) -> Recipe:
        """The recipe for a number of photos to train with.

        Args:
            count: of the photos.
            has_color: wants the colour correction whatever the number.
        """
        if count <= FEW:
            return cls(dropout=0.2, opacity_factor=0.998, smoothness=0.05, color=has_color)
        if count <= SEVERAL:
            return cls(dropout=0.2, depth=0.3, color=True)
        return cls(color=has_color)
