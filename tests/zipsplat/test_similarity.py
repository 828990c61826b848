"""Similarities between camera paths, against published numbers and by laws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zipsplat.similarity import align_centres, fit_similarity

STORED = Path(__file__).parents[1] / "golden" / "da3" / "align.npz"


def centres(w2c: np.ndarray) -> np.ndarray:
    """Camera centres −Rᵀt; the stored matrices are rotations to float32 only."""
    return -np.einsum("nji,nj->ni", w2c[:, :3, :3], w2c[:, :3, 3])


@pytest.mark.parametrize("index", range(5))
def test_golden(index: int) -> None:
    with np.load(STORED) as stored:
        given, predicted = (
            centres(stored[f"{name}_w2c{index}"]) for name in ("given", "predicted")
        )
        if f"fails{index}" in stored:
            with pytest.raises(ValueError, match="on a line"):
                align_centres(given, predicted)
            return
        fit = align_centres(given, predicted)
        assert fit.scale == pytest.approx(float(stored[f"scale{index}"]), rel=1e-9)
        np.testing.assert_allclose(fit.rotation, stored[f"rotation{index}"], atol=1e-9)
        np.testing.assert_allclose(fit.translation, stored[f"translation{index}"], atol=1e-9)


def test_exact_points_and_mirrored_ones() -> None:
    generator = np.random.default_rng(0)
    points = generator.standard_normal((6, 3))
    rotation = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    moved = 2.5 * points @ rotation.T + [1, 2, 3]
    fit = fit_similarity(points, moved)
    assert fit.scale == pytest.approx(2.5, rel=1e-12)
    np.testing.assert_allclose(fit.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(fit.apply(points), moved, atol=1e-12)
    mirrored = fit_similarity(points, points * [1, 1, -1])
    assert np.linalg.det(mirrored.rotation) == pytest.approx(1)


def test_outliers_among_many_cameras_do_not_matter() -> None:
    generator = np.random.default_rng(1)
    given = generator.standard_normal((20, 3))
    predicted = 3 * given + generator.standard_normal((20, 3)) * 1e-6
    predicted[4] += 50
    assert fit_similarity(given, predicted).scale != pytest.approx(3, rel=1e-2)
    assert align_centres(given, predicted).scale == pytest.approx(3, rel=1e-5)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_centres_on_a_line_are_refused(count: int) -> None:
    line = np.arange(count)[:, None] * np.array([[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=f"the {count} camera centres lie on a line"):
        align_centres(line, line)
