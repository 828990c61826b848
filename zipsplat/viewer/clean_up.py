"""Cleaning settings of the panel: drop floaters, crop to a box, decimate."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch

from zipsplat import cleaning
from zipsplat.gaussians import Gaussians

Range = tuple[float, float]
_ALL: Range = (0.0, 1.0)


@dataclass(frozen=True)
class CleanUp:
    """Cleaning settings; the defaults keep every Gaussian.

    Args:
        floaters: strength of floater removal, at least 0.
        crop: along x, y and z, the quantiles of the centres between which Gaussians are kept.
        share: of the Gaussians left after merging neighbours, in (0, 1].
    """

    floaters: float = 0.0
    crop: tuple[Range, Range, Range] = (_ALL, _ALL, _ALL)
    share: float = 1.0

    def __call__(self, scene: Gaussians) -> Gaussians:
        """The scene (N,) without floaters, then cropped, then decimated."""
        if self.floaters > 0:
            scene = cleaning.drop_floaters(scene, self.floaters)
        if self.crop != (_ALL, _ALL, _ALL) and scene.num_gaussians:
            scene = self._cropped(scene)
        if self.share < 1 and scene.num_gaussians:
            scene = cleaning.decimate(scene, self.share)
        return scene

    def _cropped(self, scene: Gaussians) -> Gaussians:
        means = scene.means.detach()
        kept = torch.ones(len(means), dtype=torch.bool, device=means.device)
        for axis, (low, high) in enumerate(self.crop):
            place = means[:, axis].argsort().argsort() / max(1, len(means) - 1)
            kept &= (place >= low) & (place <= high)
        return scene.select(kept)


NOTHING = CleanUp()
"""Keeps every Gaussian."""


class LastCleaned:
    """Caches the last cleaned scene, because other settings of the panel reuse it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._source: Gaussians | None = None
        self._choice = NOTHING
        self._result: Gaussians | None = None

    def __call__(self, scene: Gaussians, choice: CleanUp) -> Gaussians:
        """Clean a scene."""
        if choice == NOTHING:
            return scene
        with self._lock:
            if self._result is None or self._source is not scene or self._choice != choice:
                self._result = choice(scene)
                self._source, self._choice = scene, choice
            return self._result
