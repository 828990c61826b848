"""Harmonious colours: each world samples its own palette."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Color = npt.NDArray[np.float32]  # (3,) sRGB in [0, 1]


def hsv(hue: float, saturation: float, value: float) -> Color:
    """An sRGB colour from hue (turns), saturation and value in [0, 1]."""
    clipped = (hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))
    return np.array(colorsys.hsv_to_rgb(*clipped), dtype=np.float32)


@dataclass(frozen=True)
class Palette:
    """A few hues with common saturation and brightness."""

    hues: tuple[float, ...]
    saturation: float
    brightness: float

    @staticmethod
    def sample(rng: np.random.Generator) -> Palette:
        """Sample a palette with a classical harmony: analogous, complementary, triadic or free."""
        # Real places are mostly warm or blue; uniform hues would make a third of them green and
        # pink.
        base = rng.choice([rng.uniform(), rng.normal(0.08, 0.04), rng.normal(0.58, 0.05), 0.1])
        offsets = {  # turns of the colour wheel
            0: (0.0, 0.06, -0.07, 0.1),
            1: (0.0, 0.5, 0.04, 0.46),
            2: (0.0, 1 / 3, 2 / 3, 0.05),
            3: tuple(rng.uniform(0, 1, 4)),
        }[int(rng.integers(4))]
        return Palette(
            tuple(float(base + offset) % 1.0 for offset in offsets),
            float(rng.beta(1.6, 2.6) * 0.8),  # mostly muted, rarely vivid
            float(rng.uniform(0.65, 1.0)),
        )

    def any(self, rng: np.random.Generator) -> Color:
        """A palette colour of typical strength."""
        hue = self.hues[int(rng.integers(len(self.hues)))] + rng.normal(0, 0.015)
        value = self.brightness * rng.uniform(0.45, 1.0)
        return hsv(hue, self.saturation * rng.uniform(0.6, 1.15), value)

    def accent(self, rng: np.random.Generator) -> Color:
        """A strong colour."""
        hue = self.hues[int(rng.integers(len(self.hues)))]
        return hsv(hue, rng.uniform(0.45, 0.9), rng.uniform(0.5, 0.95))

    def pale(self, rng: np.random.Generator) -> Color:
        """A light colour, as on walls."""
        hue = self.hues[int(rng.integers(len(self.hues)))]
        return hsv(hue, rng.beta(1.2, 4.0) * (0.3 + self.saturation), rng.uniform(0.75, 0.97))

    def dark(self, rng: np.random.Generator) -> Color:
        """A deep colour."""
        hue = self.hues[int(rng.integers(len(self.hues)))]
        return hsv(hue, rng.uniform(0.2, 0.7), rng.uniform(0.1, 0.32))

    def neutral(self, rng: np.random.Generator) -> Color:
        """A grey with a slight tint."""
        return hsv(self.hues[0], rng.uniform(0.0, 0.12), rng.uniform(0.25, 0.85))


def wood(rng: np.random.Generator) -> Color:
    """A brown of timber, from birch to wenge."""
    return hsv(rng.uniform(0.045, 0.11), rng.uniform(0.3, 0.65), rng.uniform(0.28, 0.85))


def stone(rng: np.random.Generator) -> Color:
    """A grey, beige or reddish rock colour."""
    return hsv(rng.uniform(0.02, 0.14), rng.uniform(0.03, 0.35), rng.uniform(0.35, 0.85))


def leaf(rng: np.random.Generator) -> Color:
    """A green of plants, or sometimes an autumn colour."""
    if rng.uniform() < 0.12:
        return hsv(rng.uniform(0.02, 0.13), rng.uniform(0.6, 0.9), rng.uniform(0.5, 0.85))
    return hsv(rng.uniform(0.19, 0.36), rng.uniform(0.3, 0.68), rng.uniform(0.28, 0.6))


def earth(rng: np.random.Generator) -> Color:
    """A soil or sand colour."""
    return hsv(rng.uniform(0.05, 0.13), rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.8))
