from __future__ import annotations

import sys

import numpy as np
import pytest

from splatfactory.datasets import augment


def picture() -> np.ndarray:
    y, x = np.mgrid[:96, :128]
    return np.stack([x * 2, y * 2, (x + y) % 256], -1).astype(np.uint8)


def test_identity_is_nothing():
    assert augment.build("identity") is None


def test_unknown_names_and_missing_opencv_are_explained(monkeypatch):
    with pytest.raises(ValueError, match="identity or strong, got 'weak'"):
        augment.build("weak")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match="pip install opencv"):
        augment.build("strong")


def test_strong_changes_most_pictures_and_is_a_function_of_its_seed():
    pytest.importorskip("cv2")
    change = augment.build("strong")
    image = picture()
    changed = 0
    for seed in range(60):
        first = change(image, np.random.default_rng(seed))
        again = change(image, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, again)
        assert first.shape == image.shape
        assert first.dtype == np.uint8
        changed += not np.array_equal(first, image)
    assert 50 <= changed < 60
    np.testing.assert_array_equal(image, picture())


@pytest.mark.parametrize("step", [step for _, step in augment._STEPS], ids=lambda s: s.__name__)
def test_every_step_is_photometric(step):
    """Colours change, and what is dark stays, on the whole, darker than what is bright."""
    pytest.importorskip("cv2")
    image = np.full((96, 128, 3), 60, np.uint8)
    image[:, 64:] = (180, 170, 160)
    changed = 0
    for seed in range(10):
        result = step(image, np.random.default_rng(seed))
        assert result.shape == image.shape
        assert result.dtype == np.uint8
        changed += not np.array_equal(result, image)
        assert result[:, :48].mean() <= result[:, 80:].mean()
    assert changed >= 5
