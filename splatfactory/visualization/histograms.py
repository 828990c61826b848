"""Histograms of two groups of numbers, without a plotting library."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

BLUE, ORANGE, GREY = (52, 101, 164), (232, 131, 32), (120, 120, 120)
NUM_BINS = 32


def histogram(
    first: Tensor, second: Tensor, low: float, high: float, size: tuple[int, int] = (192, 288)
) -> npt.NDArray[np.uint8]:
    """Fraction of numbers per bin: activated in blue, others in orange.

    Args:
        first: (P,) activated numbers.
        second: (Q,) the others.
        low: left end of the axis; numbers outside count in the outermost bins.
        high: right end.
        size: height and width in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    from PIL import Image, ImageDraw

    height, width = size
    image = Image.new("RGB", (width, height), (255, 255, 255))
    painter = ImageDraw.Draw(image)
    floor = height - 16
    step = width / NUM_BINS
    groups = [(_shares(values, low, high), color) for values, color in
              ((first, BLUE), (second, ORANGE))]  # fmt: skip
    top = max(float(shares.max()) for shares, _ in groups) or 1.0
    for offset, (shares, color) in enumerate(groups):
        for place, share in enumerate(shares):
            left = int(place * step + offset * step / 2)
            bar = int((floor - 16) * share / top)
            painter.rectangle((left, floor - bar, int(left + step / 2) - 1, floor), fill=color)
    painter.line((0, floor, width, floor), fill=GREY)
    painter.text((2, floor + 2), f"{low:g}", fill=GREY)
    painter.text((width - 30, floor + 2), f"{high:g}", fill=GREY)
    painter.text((2, 2), f"activated {len(first)}", fill=BLUE)
    painter.text((width // 2, 2), f"other {len(second)}", fill=ORANGE)
    return np.asarray(image)


def _shares(values: Tensor, low: float, high: float) -> npt.NDArray[np.float64]:
    numbers = np.clip(values.detach().float().cpu().numpy(), low, high)
    counts, _ = np.histogram(numbers, bins=NUM_BINS, range=(low, high))
    return counts / max(1, len(numbers))
