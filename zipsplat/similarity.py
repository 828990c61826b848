"""The similarity transform between two camera paths: rotation, translation and scale.

Letters: n cameras.

The fit is Umeyama's ("Least-squares estimation of transformation parameters between two point
patterns", 1991) over camera centres. From ten cameras on, fits to random halves select the inliers
(Fischler and Bolles, "Random sample consensus", 1981), with the constants of Depth Anything 3's
alignment of predicted to given poses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ROBUST_FROM = 10
"""Number of cameras from which outliers are rejected."""
ROUNDS = 10
MIN_CENTRES = 3
SEED = 42
RANK_TOLERANCE = 16 * np.finfo(np.float64).eps
"""Least second singular value relative to the first; below it, points are collinear."""


@dataclass(frozen=True)
class Similarity:
    """Maps points x of one frame to another: scale · R x + t.

    Args:
        scale: above 0.
        rotation: (3, 3) R.
        translation: (3,) t.
    """

    scale: float
    rotation: Floats
    translation: Floats

    def apply(self, points: Floats) -> Floats:
        """Points (n, 3) in the other frame."""
        moved: Floats = self.scale * points @ self.rotation.T + self.translation
        return moved


def fit_similarity(source: Floats, target: Floats) -> Similarity:
    """The similarity that maps points to others with the least squared error.

    Args:
        source: (n, 3).
        target: (n, 3).

    Raises:
        ValueError: if the points lie on a line or in one place, so that a rotation is free.
    """
    mean_source, mean_target = source.mean(axis=0), target.mean(axis=0)
    from_source, from_target = source - mean_source, target - mean_target
    variance = np.square(from_source).sum() / len(source)
    u, singular, vt = np.linalg.svd(from_target.T @ from_source / len(source))
    if singular[1] <= RANK_TOLERANCE * singular[0]:
        raise ValueError(
            f"the {len(source)} camera centres lie on a line or in one place; three that do not "
            "are needed to find the scale"
        )
    signs = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        signs[-1] = -1
    rotation = u @ np.diag(signs) @ vt
    scale = float(singular @ signs / variance)
    return Similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def align_centres(given: Floats, predicted: Floats) -> Similarity:
    """The similarity from given to predicted camera centres, robust if there are many.

    Args:
        given: (n, 3).
        predicted: (n, 3).

    Raises:
        ValueError: as `fit_similarity`.
    """
    fit = fit_similarity(given, predicted)
    if len(given) < ROBUST_FROM:
        return fit
    between = np.linalg.norm(fit.apply(given)[:, None] - predicted[None], axis=-1)
    threshold = np.median(between.min(axis=1))
    generator = np.random.default_rng(SEED)
    best, best_score = None, (-1, -np.inf)
    for _ in range(ROUNDS):
        size = max(MIN_CENTRES, len(given) // 2)
        chosen = generator.choice(len(given), size, replace=False)
        try:
            candidate = fit_similarity(given[chosen], predicted[chosen])
        except ValueError:
            continue
        errors = np.linalg.norm(candidate.apply(given) - predicted, axis=1)
        inliers = errors <= threshold
        mean_error = errors[inliers].mean() if inliers.any() else np.inf
        score = (int(inliers.sum()), -float(mean_error))
        if score > best_score:
            best, best_score = inliers, score
    if best is not None and best.sum() >= MIN_CENTRES:
        return fit_similarity(given[best], predicted[best])
    return fit
