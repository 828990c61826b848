"""Random colour augmentation of training images; geometry is unchanged.

`identity` leaves images alone. `strong` is a chain in which every step has its own
probability, after the public training recipe of ZipSplat: channel gains, noise, blur, local
contrast or sharpening, brightness, gamma, hue and saturation, tone curve, soft shade. It needs
OpenCV.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Augmentation = Callable[[Pixels, np.random.Generator], Pixels]

_TOTAL_PROBABILITY = 0.95


def build(name: str) -> Augmentation | None:
    """Look up an augmentation by name; None for `identity`.

    Raises:
        ValueError: if the name is unknown.
        ImportError: if it needs OpenCV, which is not installed.
    """
    if name == "identity":
        return None
    if name != "strong":
        raise ValueError(f"augmentations must be identity or strong, got {name!r}")
    _opencv()
    return strong


def strong(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Augment the colours of an image (H, W, 3)."""
    if rng.random() >= _TOTAL_PROBABILITY:
        return image
    for probability, step in _STEPS:
        if rng.random() < probability:
            image = step(image, rng)
    return image


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "augmentations=strong needs OpenCV: pip install opencv-python-headless"
        ) from error
    return cv2


def _to_uint8(values: npt.NDArray[Any]) -> Pixels:
    levels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels


def _lookup(image: Pixels, curve: npt.NDArray[Any]) -> Pixels:
    """Map levels through a curve of 256 values in [0, 1]."""
    mapped: Pixels = _to_uint8(255 * np.clip(curve, 0, 1))[image]
    return mapped


def _gains(image: Pixels, rng: np.random.Generator) -> Pixels:
    return _to_uint8(image * rng.uniform(0.8, 1.2, 3))


def _noise(image: Pixels, rng: np.random.Generator) -> Pixels:
    if rng.random() < 0.34:
        return _to_uint8(image * rng.uniform(0.9, 1.1, image.shape))
    return _to_uint8(image + rng.normal(0, 255 * rng.uniform(0.01, 0.05), image.shape))


def _blur(image: Pixels, rng: np.random.Generator) -> Pixels:
    kind = rng.choice(3, p=(0.5, 0.25, 0.25))
    if kind == 0:
        return _motion_blur(image, rng)
    size = 2 * int(rng.integers(1, 4)) + 1
    if kind == 1:
        return np.asarray(_opencv().medianBlur(image, size), dtype=np.uint8)
    return np.asarray(_opencv().blur(image, (size, size)))


def _motion_blur(image: Pixels, rng: np.random.Generator) -> Pixels:
    cv2 = _opencv()
    size = 2 * int(rng.integers(1, 8)) + 1
    kernel = np.zeros((size, size), np.float32)
    angle, middle = rng.uniform(0, np.pi), size // 2
    reach = middle * np.array([np.cos(angle), np.sin(angle)])
    start, end = (tuple(int(v) for v in np.rint(middle + sign * reach)) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()))


def _local_contrast(image: Pixels, rng: np.random.Generator) -> Pixels:
    cv2 = _opencv()
    kind = rng.integers(3)
    if kind == 0:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        equalizer = cv2.createCLAHE(clipLimit=rng.uniform(2, 8), tileGridSize=(8, 8))
        lab[..., 0] = equalizer.apply(lab[..., 0])
        return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))
    strength = rng.uniform(0.2, 0.5)
    if kind == 1:
        kernel = np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]], np.float32)
    else:
        kernel = np.array([[-1, -1, 0], [-1, 1, 1], [0, 1, 1]], np.float32)
    return _to_uint8((1 - strength) * image + strength * cv2.filter2D(image, cv2.CV_32F, kernel))


def _brightness(image: Pixels, rng: np.random.Generator) -> Pixels:
    levels = np.linspace(0, 1, 256)
    if rng.random() < 0.5:
        return _lookup(image, levels + rng.uniform(-0.4, -0.1))
    contrast = 1 + rng.uniform(-0.4, 0.4)
    return _lookup(image, levels * contrast + rng.uniform(0.1, 0.2))


def _gamma(image: Pixels, rng: np.random.Generator) -> Pixels:
    return _lookup(image, np.linspace(0, 1, 256) ** rng.uniform(0.3, 1.5))


def _hue(image: Pixels, rng: np.random.Generator) -> Pixels:
    cv2 = _opencv()
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + int(rng.integers(-30, 31))) % 180
    hsv[..., 1:] += np.array([rng.integers(-50, 51), rng.integers(-20, 21)], np.int16)
    hsv[..., 1:] = np.clip(hsv[..., 1:], 0, 255)
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB))


def _tone_curve(image: Pixels, rng: np.random.Generator) -> Pixels:
    """A cubic Bézier curve from black to white with two random handles."""
    low, high = np.clip(rng.normal((0.25, 0.75), 0.35), 0, 1)
    t = np.linspace(0, 1, 256)
    return _lookup(image, 3 * (1 - t) ** 2 * t * low + 3 * (1 - t) * t**2 * high + t**3)


def _shade(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Soft patches, mostly dark, sometimes bright."""
    cv2 = _opencv()
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    low, high = max(1, min(height, width) // 20), max(2, min(height, width) // 4)
    for _ in range(10):
        axes = tuple(int(v) for v in rng.integers(low, high, 2))
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.ellipse(mask, centre, axes, rng.uniform(0, 90), 0, 360, 1.0, -1)
    size = 2 * int(rng.integers(75, 176)) + 1
    mask = cv2.GaussianBlur(mask, (size, size), 0)
    return _to_uint8(image * (1 - rng.uniform(-0.2, 0.8) * mask[..., None]))


_STEPS: tuple[tuple[float, Augmentation], ...] = (
    (0.3, _gains),
    (0.2, _noise),
    (0.3, _blur),
    (0.4, _local_contrast),
    (0.75, _brightness),
    (0.15, _gamma),
    (0.75, _hue),
    (0.2, _tone_curve),
    (0.5, _shade),
)
