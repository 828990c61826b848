"""Conversion of Gaussians to the six byte arrays of an .spz file and back; see `spz`.

Works block by block on columns that fit the cache, and converts the axes in the same pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import MAX_SH_COEFFS, SplatArrays
from zipsplat.formats._axes import Signs, flip_signs
from zipsplat.formats._blocks import blocks, fill_rows, on_threads, taken
from zipsplat.formats._morton import morton_order
from zipsplat.formats._quaternions import (
    REST_MAX,
    from_smallest_three,
    smallest_three,
    unit_columns,
)

COLOR_SCALE = 0.15 * 255  # byte = dc * 0.15 * 255 + 127.5, so dc reaches +-3.3
_SH_STEP_DEGREE_1, _SH_STEP_REST = 8, 16  # keep 5 and 4 of 8 bits, so that gzip compresses well
_AXES = "RUB"  # of the files we write: right, up, back

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Columns = NDArray[np.float64]


@dataclass(frozen=True)
class Layout:
    """The parameters of a file's layout.

    Args:
        version: 2, 3 or 4.
        num: number of Gaussians, N.
        degree: of the harmonics, 0 to 4.
        fractional_bits: of the positions.
    """

    version: int
    num: int
    degree: int
    fractional_bits: int

    def widths(self) -> list[int]:
        """Bytes per Gaussian in each array."""
        rotation = 3 if self.version == 2 else 4
        return [9, 1, 3, 3, rotation, 3 * ((self.degree + 1) ** 2 - 1)]


def pack(splats: SplatArrays, layout: Layout) -> list[Bytes]:
    """Pack Gaussians to the arrays (N, width) of a file, in Morton order."""
    packed = [np.empty((layout.num, width), np.uint8) for width in layout.widths()]
    signs = _signs(_AXES, splats.sh_coeffs.shape[1])

    def work(rows: slice) -> None:
        parts = _packed_rows(splats.select(rows), layout.fractional_bits, signs)
        for array, part in zip(packed, parts, strict=True):
            array[rows] = part

    on_threads(work, blocks(layout.num))
    order = morton_order(splats.means)  # applied to the packed arrays, which are smaller
    return [taken(array, order) for array in packed]


def unpack(arrays: list[Bytes], layout: Layout, axes: str) -> SplatArrays:
    """Unpack the Gaussians of a file, up to degree 3.

    Args:
        arrays: (N width,) each.
        layout: of the file.
        axes: directions of x, y and z, e.g. "RUB".
    """
    num, num_coeffs = layout.num, min((layout.degree + 1) ** 2, MAX_SH_COEFFS)
    widths = (3, 3, 4, 1, 3 * num_coeffs)
    values = [np.empty((num, width), np.float32) for width in widths]
    tables = [a.reshape(num, w) for a, w in zip(arrays, layout.widths(), strict=True)]
    signs = _signs(axes, num_coeffs)

    def work(rows: slice) -> None:
        _unpack_rows([t[rows] for t in tables], layout, signs, [v[rows] for v in values])

    on_threads(work, blocks(num))
    means, scales, quats, opacities, sh_coeffs = values
    return SplatArrays(means, scales, quats, opacities[:, 0], sh_coeffs.reshape(num, num_coeffs, 3))


def _signs(axes: str, num_coeffs: int) -> Signs:
    """Factors that convert between these axes and ours, right, down and forward."""
    pairs = zip("xyz", "RDF", axes, strict=True)
    return flip_signs("".join(axis for axis, ours, theirs in pairs if ours != theirs), num_coeffs)


@np.errstate(over="ignore")  # colours beyond every byte are clamped
def _packed_rows(splats: SplatArrays, bits: int, signs: Signs) -> list[Bytes]:
    sh_coeffs = splats.sh_coeffs.reshape(len(splats.means), signs.harmonics.size)
    return [
        _pack_positions(splats.means, bits, signs),
        _to_bytes(splats.opacities * 255)[:, None],
        _to_bytes(np.array(sh_coeffs[:, :3].T) * COLOR_SCALE + 127.5).T,
        _to_bytes((np.log(np.maximum(splats.scales, 1e-30)) + 10) * 16),
        _pack_rotations(unit_columns(splats.quats) * signs.quats[:, None]),
        pack_harmonics(sh_coeffs[:, 3:], signs.harmonics[3:]),
    ]


def _unpack_rows(arrays: list[Bytes], layout: Layout, signs: Signs, values: list[Floats]) -> None:
    """Fill means, scales, quats, opacities and sh_coeffs (n, width) of some rows."""
    means, scales, quats, opacities, sh_coeffs = values
    positions, alphas, colors, log_scales, rotations, harmonics = arrays
    unpack_rotations = _unpack_rotations_v2 if layout.version == 2 else _unpack_rotations
    _unpack_positions(positions, layout.fractional_bits, signs, means)
    np.exp(log_scales.astype(np.float32) / 16 - 10, out=scales)
    quats[:] = (unpack_rotations(rotations).astype(np.float32) * signs.quats[:, None]).T
    opacities[:] = alphas / 255
    dc = (np.array(colors.T, np.float32) - 127.5) / COLOR_SCALE
    for channel in range(3):
        sh_coeffs[:, channel] = dc[channel]
    num_rest = sh_coeffs.shape[1] - 3
    rest = harmonics[:, :num_rest].astype(np.float32)
    rest -= 128
    rest *= signs.harmonics[3:] / 128
    fill_rows(sh_coeffs[:, 3:], rest)


def _to_bytes(values: NDArray[np.floating]) -> Bytes:
    packed: Bytes = np.rint(values).clip(0, 255).astype(np.uint8)
    return packed


def _pack_positions(means: Floats, bits: int, signs: Signs) -> Bytes:
    columns = means.T.astype(np.float64, order="C") * (signs.means[:, None] * 2.0**bits)
    np.rint(columns, out=columns)
    fixed = columns.clip(-(1 << 23), (1 << 23) - 1, out=columns).astype("<i4")
    low_bytes = fixed.view(np.uint8).reshape(3, -1, 4)[..., :3]
    return np.asarray(low_bytes.transpose(1, 0, 2).reshape(-1, 9))


def _unpack_positions(data: Bytes, bits: int, signs: Signs, means: Floats) -> None:
    wide = np.zeros((3, len(data), 4), np.uint8)
    for axis in range(3):
        for byte in range(3):  # into the high bytes, so that the shift back extends the sign
            wide[axis, :, byte + 1] = data[:, 3 * axis + byte]
    fixed = wide.view("<i4")[..., 0] >> 8
    means[:] = (fixed.astype(np.float32) * (signs.means[:, None] / 2.0**bits)).T


def _pack_rotations(columns: Columns) -> Bytes:
    """The three smallest of xyzw: sign and 9 bits each, below 2 bits that index the largest."""
    largest, rest = smallest_three(columns[[1, 2, 3, 0]])
    fields = np.rint(np.abs(rest) * (511 / REST_MAX)).clip(0, 511).astype(np.uint32)
    fields |= (rest < 0) * np.uint32(512)
    packed = largest.astype("<u4")
    for column in fields:
        packed = packed << np.uint32(10) | column
    return packed.view(np.uint8).reshape(-1, 4)


def _unpack_rotations(data: Bytes) -> Columns:
    """Quaternions wxyz (4, n)."""
    packed = np.ascontiguousarray(data).view("<u4")[:, 0]
    fields = np.stack((packed >> 20, packed >> 10, packed)) & 1023
    rest = np.take(_FIELD_VALUES, fields)
    return from_smallest_three(packed >> 30, rest)[[3, 0, 1, 2]]


# Of the parts of a rotation: sign and 9 bits.
_FIELD_VALUES = np.where(np.arange(1024) & 512, -1.0, 1.0) * (np.arange(1024) & 511)
_FIELD_VALUES *= REST_MAX / 511


def _unpack_rotations_v2(data: Bytes) -> Columns:
    xyz = data.T / 127.5 - 1
    w = np.sqrt(np.maximum(1 - (xyz * xyz).sum(axis=0, keepdims=True), 0))
    return np.concatenate((w, xyz))


def pack_harmonics(rest: Floats, signs: Floats) -> Bytes:
    """Pack harmonics (n, width), times signs (width,), to bytes around 128.

    They are rounded to multiples of a step, so that they compress well.
    """
    half = np.where(np.arange(rest.shape[1]) < 9, _SH_STEP_DEGREE_1, _SH_STEP_REST) // 2
    scaled = rest * (signs * np.float32(128))
    np.rint(scaled, out=scaled)
    fine = scaled.clip(-256, 256, out=scaled).astype(np.int16)  # bounded for int16
    fine += (128 + half).astype(np.int16)
    fine &= (-2 * half).astype(np.int16)  # down to a multiple of the step, a power of two
    packed: Bytes = fine.clip(0, 255, out=fine).astype(np.uint8)
    return packed
