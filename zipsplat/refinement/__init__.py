"""Optimise a scene of Gaussians against its photos."""

from zipsplat.refinement.loop import refine
from zipsplat.refinement.settings import (
    OnStep,
    ProgressPoint,
    RefinedScene,
    RefinementProgress,
    RefinementSettings,
)

__all__ = [
    "OnStep",
    "ProgressPoint",
    "RefinedScene",
    "RefinementProgress",
    "RefinementSettings",
    "refine",
]
