"""The arrays of gradients: sixteen neighbouring Gaussians write or add theirs.

The first view (`fresh`) writes every number, zeros included, so the memory need not be initialised;
the other views add.
"""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline
from zipsplat.render.cpu.geometry import Vec3
from zipsplat.render.cpu.layout import GROUP, FloatArray, Inputs
from zipsplat.render.cpu.shade import COLUMNS
from zipsplat.render.cpu.simd import Floats, load, store, store_columns_3, store_columns_4


class GroupGradients(NamedTuple):
    """Gradients of sixteen Gaussians, zero for those that are not visible."""

    mean: Vec3
    quat: tuple[Floats, Floats, Floats, Floats]
    scale: Vec3
    opacity: Floats


@inline
def add_rows(
    target: FloatArray, row: int, num: int, width: int, used: int, rows: FloatArray, fresh: bool
) -> None:
    """Write or add the first `used` of 48 numbers of `num` rows to rows of `width`."""
    whole = used // GROUP * GROUP
    for i in range(num):
        at = (row + i) * width
        for k in range(0, whole, GROUP):
            value = load(rows, i * COLUMNS + k)
            store(target, at + k, value if fresh else load(target, at + k) + value)
        for k in range(whole, used):
            value = rows[i * COLUMNS + k]
            target[at + k] = value if fresh else target[at + k] + value
        if fresh:
            _zero(target, at + used, width - used)


@inline
def _add(target: FloatArray, at: int, source: FloatArray, num: int, fresh: bool) -> None:
    """Write or add some numbers."""
    for i in range(num):
        target[at + i] = source[i] if fresh else target[at + i] + source[i]


@inline
def _zero(target: FloatArray, at: int, num: int) -> None:
    for i in range(num):
        target[at + i] = 0.0


@inline
def zero_group(gradients: Inputs, row: int, num: int, width: int) -> None:
    """Write zeros for a group without a visible Gaussian, with harmonics of `width` numbers."""
    _zero(gradients.means, row * 3, num * 3)
    _zero(gradients.quats, row * 4, num * 4)
    _zero(gradients.scales, row * 3, num * 3)
    _zero(gradients.opacities, row, num)
    _zero(gradients.sh_coeffs, row * width, num * width)


@inline
def add_group(
    gradients: Inputs, row: int, num: int, v: GroupGradients, small: FloatArray, fresh: bool
) -> None:
    """Write or add the gradients of `num` Gaussians from a row on, except for the harmonics'."""
    store_columns_3(small, 0, v.mean)
    _add(gradients.means, row * 3, small, num * 3, fresh)
    store_columns_4(small, 0, v.quat)
    _add(gradients.quats, row * 4, small, num * 4, fresh)
    store_columns_3(small, 0, v.scale)
    _add(gradients.scales, row * 3, small, num * 3, fresh)
    store(small, 0, v.opacity)
    _add(gradients.opacities, row, small, num, fresh)
