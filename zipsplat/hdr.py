"""High dynamic range video as sRGB images.

Signals follow Recommendation ITU-R BT.2100: PQ (absolute light) and HLG (with the system gamma of
1.2 of a display of 1000 cd/m²). A luminance of 203 cd/m², reference white in Report ITU-R BT.2408,
becomes 1. Colours are converted from BT.2020 to BT.709 primaries. The Möbius curve of FFmpeg's
filter `tonemap=mobius:param=0.3:desat=0` compresses luminances up to 1000 cd/m² into [0, 1]: it is
the identity up to 0.3 and maps the peak to 1. It is applied to the largest of the three channels,
which preserves hues. The result has the transfer function of IEC 61966-2-1.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

TRANSFERS = {16: "PQ", 18: "HLG"}  # numbers of ITU-T H.273
_WHITE, _PEAK = 203.0, 1000.0  # cd/m²
_KNEE = 0.3  # of the curve, relative to white
_SYSTEM_GAMMA = 1.2
# BT.2087: BT.709 from BT.2020 primaries, for linear light; and the luminance of BT.2020.
_PRIMARIES = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)


def tone_map(signal: NDArray[np.uint16], transfer: str) -> NDArray[np.uint8]:
    """Tone map an HDR image to sRGB.

    Args:
        signal: (H, W, 3), R'G'B' with BT.2020 primaries, full range.
        transfer: "PQ" or "HLG".

    Returns:
        (H, W, 3).
    """
    light = _lights(transfer)[signal]
    if transfer == "HLG":
        luminance = light @ _LUMINANCE
        light = light * (luminance ** (_SYSTEM_GAMMA - 1))[..., None] * np.float32(_PEAK / _WHITE)
    light = np.maximum(light @ _PRIMARIES.T, 0)
    largest = light.max(axis=-1, keepdims=True)
    light *= _curve(largest) / np.maximum(largest, 1e-6)
    return np.rint(_encoded(light) * 255).astype(np.uint8)


@functools.cache
def _lights(transfer: str) -> Floats:
    """Light of each 16-bit signal: PQ relative to white, HLG in [0, 1] of the scene."""
    signal = np.linspace(0, 1, 1 << 16)
    if transfer == "HLG":
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        bright = (np.exp((np.maximum(signal, 0.5) - c) / a) + b) / 12
        return np.where(signal <= 0.5, signal * signal / 3, bright).astype(np.float32)
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = signal ** (1 / m2)
    light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return (light * (10000 / _WHITE)).astype(np.float32)


def _curve(light: Floats) -> Floats:
    """The identity up to the knee, then s·(x + a)/(x + b): smooth at the knee, 1 at the peak."""
    j, peak = _KNEE, _PEAK / _WHITE
    a = -j * j * (peak - 1) / (j * j - 2 * j + peak)
    b = (j * j - 2 * j * peak + peak) / (peak - 1)
    factor = (b * b + 2 * b * j + j * j) / (b - a)
    bright = np.minimum(factor * (light + a) / (light + b), 1)
    return np.where(light <= j, light, bright).astype(np.float32)


def _encoded(light: Floats) -> Floats:
    """SRGB levels in [0, 1]."""
    curved = 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(light <= 0.0031308, 12.92 * light, curved).clip(0, 1).astype(np.float32)
