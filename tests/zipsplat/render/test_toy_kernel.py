"""A toy kernel and its test, to be copied by who writes a real one; `docs/simd.md` explains it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from zipsplat.render import rules
from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.layout import FloatArray
from zipsplat.render.cpu.simd import (
    LANES,
    Floats,
    aligned_empty,
    exp2,
    lane_numbers,
    load,
    maximum,
    minimum,
    select,
    store,
    to_floats,
)

ROOT = Path(__file__).parents[3]
LOG2_E = float(np.log2(np.e))


class Bump(NamedTuple):
    """What the kernel renders; parameters travel together."""

    center: float  # pixels
    sigma: float  # pixels
    opacity: float


@inline
def alpha_at(x: Floats, bump: Bump) -> Floats:
    """Opacity at 16 pixel centres, zero below 1/255."""
    dx = x - bump.center
    q = dx * dx * (-0.5 * LOG2_E / (bump.sigma * bump.sigma))  # exp(−dx² / 2σ²) = 2^q
    alpha = minimum(exp2(maximum(q, -126.0)) * bump.opacity, rules.ALPHA_CLAMP)
    return select(alpha >= rules.ALPHA_MIN, alpha, 0.0)


@kernel
def blend_row(bump: Bump, color: float, row: FloatArray) -> None:
    """Blend a bump over a row of pixels, a multiple of 16 of them."""
    for first in range(0, len(row), LANES):
        x = to_floats(lane_numbers() + first) + 0.5
        alpha = alpha_at(x, bump)
        store(row, first, load(row, first) * (1.0 - alpha) + alpha * color)


def oracle(bump: Bump, color: float, row: np.ndarray) -> np.ndarray:
    """The same in float64, one line per rule."""
    x = np.arange(len(row)) + 0.5
    alpha = bump.opacity * np.exp(-((x - bump.center) ** 2) / (2 * bump.sigma**2))
    alpha = np.minimum(alpha, rules.ALPHA_CLAMP)
    alpha[alpha < rules.ALPHA_MIN] = 0
    return row * (1 - alpha) + alpha * color


BUMPS = [Bump(20.0, 4.0, 1.0), Bump(-3.0, 40.0, 0.5), Bump(40.5, 0.3, 2.0)]


@pytest.mark.parametrize("bump", BUMPS)
def test_a_bump_over_a_row(bump: Bump) -> None:
    row = aligned_empty(48)
    row[:] = np.random.default_rng(0).uniform(size=48)
    expected = oracle(bump, 0.7, row.astype(np.float64))
    blend_row(bump, 0.7, row)
    np.testing.assert_allclose(row, expected, rtol=0, atol=1e-6)


WRONG_ADDRESS = """
import numpy as np
from zipsplat.render.cpu.compiler import kernel
from zipsplat.render.cpu.simd import aligned_empty, load, load_square, load_table, store

@kernel
def wrong_kernel(source, target, index, which):
    if which == 0:
        store(target, 0, load(source, index))
    elif which == 1:
        store(target, index, 1.0)
    elif which == 2:
        store(target, 0, load_table(source, index, 16)[0])
    else:
        store(target, 0, load_square(source, index, 4))

source, target = aligned_empty(256), aligned_empty(16)
for which, (good, bad) in enumerate([(240, 241), (0, -1), (0, 1), (240, 241)]):
    wrong_kernel(source, target, good, which)
    try:
        wrong_kernel(source, target, bad, which)
    except IndexError as error:
        print(error)
"""


def test_wrong_addresses_are_errors_that_quote_the_line(tmp_path: Path) -> None:
    script = tmp_path / "wrong.py"
    script.write_text(WRONG_ADDRESS)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=ROOT,
        env={**os.environ, "ZIPSPLAT_KERNEL_DEBUG": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "outside of its array: wrong.py:9: store(target, 0, load(source, index))",
        "outside of its array: wrong.py:11: store(target, index, 1.0)",
        "outside of its array: wrong.py:13: store(target, 0, load_table(source, index, 16)[0])",
        "outside of its array: wrong.py:15: store(target, 0, load_square(source, index, 4))",
    ]


DIGESTS = "from zipsplat.render.cpu.sources import *; print(sources_digest(PACKAGE / 'ssim.py'))"


def test_checked_kernels_are_cached_apart() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            cwd=ROOT,
            env={**os.environ, "ZIPSPLAT_KERNEL_DEBUG": debug},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for debug in ("", "0", "1")
    }
    assert len(digests) == 2
