from __future__ import annotations

import sys

import numpy as np
import pytest

from splatfactory.datasets import augment


def make_image() -> np.ndarray:
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


def test_strong_changes_most_images_and_is_a_function_of_its_seed():
    pytest.importorskip("cv2")
    change = augment.build("strong")
    image = make_image()
    changed = 0
    for seed in range(60):
        first = change(image, np.random.default_rng(seed))
        again = change(image, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, again)
        assert first.shape == image.shape
        assert first.dtype == np.uint8
        changed += not np.array_equal(first, image)
    assert 50 <= changed < 60
    np.testing.assert_array_equal(image, make_image())


def test_steps_happen_as_often_as_in_the_released_recipe(monkeypatch):
    happened = dict.fromkeys((step.__name__ for _, step in augment._STEPS), 0)

    def counting(name):
        def step(image, _rng):
            happened[name] += 1
            return image

        return step

    steps = tuple((share, counting(step.__name__)) for share, step in augment._STEPS)
    monkeypatch.setattr(augment, "_STEPS", steps)
    count, image = 4000, make_image()
    for seed in range(count):
        augment.strong(image, np.random.default_rng(seed))
    recipe = {"_gains": 0.3, "_noise": 0.2, "_blur": 0.3, "_local_contrast": 0.4,
              "_brightness": 0.75, "_gamma": 0.15, "_hue": 0.75, "_tone_curve": 0.2,
              "_shade": 0.5}  # fmt: skip
    assert {name: number / count for name, number in happened.items()} == pytest.approx(
        {name: 0.95 * share for name, share in recipe.items()}, abs=0.03
    )


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
