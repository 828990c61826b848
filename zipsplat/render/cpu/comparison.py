"""L1 and SSIM of images, and their gradients: `l1_ssim` on several threads."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from zipsplat import ssim
from zipsplat.render.cpu.l1_ssim import (
    WINDOW,
    Constants,
    Outcome,
    Truth,
    Weights,
    compare,
    compare_floats,
    measure,
    row_pitch,
)
from zipsplat.render.cpu.layout import FloatArray
from zipsplat.render.cpu.memory import empty
from zipsplat.render.cpu.pool import run

_PARTS_PER_THREAD = 2  # few, since each part recomputes ten rows of the one above


@functools.cache
def _constants() -> Constants:
    w0, w1, w2, w3, w4, w5 = ssim.window_weights()[: ssim.RADIUS + 1]
    return Constants(w0, w1, w2, w3, w4, w5, ssim.C1, ssim.C2, ssim.UNBIAS)


def truth_of(images: FloatArray, num_threads: int) -> Truth:
    """Copy true images, and compute what depends on them alone.

    Args:
        images: (P, H, W), both sides of at least 11.
        num_threads: number of threads.
    """
    num, height, width = images.shape
    pitch, window_pitch = row_pitch(width), row_pitch(width - WINDOW + 1)
    planes = np.zeros((num, height, pitch), np.float32)
    planes[:, :, :width] = images
    num_rows = num * (height - WINDOW + 1)
    means, spreads = (np.ones(num_rows * window_pitch, np.float32) for _ in range(2))
    truth = Truth(planes.reshape(-1), means, spreads, height, width, pitch, window_pitch)

    def measure_planes(first: int, last: int) -> None:
        measure(truth, _constants(), first, last, np.empty(2 * width))

    run(measure_planes, [(plane, plane + 1) for plane in range(num)], num_threads)
    return truth


def compare_images(truth: Truth, images: FloatArray, weights: Weights, num_threads: int) -> Outcome:
    """Errors and gradients of images, the same for any number of threads.

    Args:
        truth: the true images.
        images: P · H · W numbers.
        weights: what the gradients of Σ |e| and Σ (1 − SSIM) are multiplied by.
        num_threads: number of threads.
    """
    num_rows = len(images) // truth.width
    num_planes = num_rows // truth.height
    outcome = Outcome(
        empty(len(images)),
        np.empty(num_rows),
        np.empty(num_planes * (truth.height - WINDOW + 1)),
    )

    def compare_rows(first: int, last: int) -> None:
        work = empty(compare_floats(truth.width))
        compare(truth, images, weights, _constants(), first, last, outcome, work)

    num_parts = 1 if num_threads == 1 else _PARTS_PER_THREAD * num_threads
    edges = np.linspace(0, num_rows, num_parts + 1).astype(int).tolist()
    run(compare_rows, itertools.pairwise(edges), num_threads)
    return outcome
