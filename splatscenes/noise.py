"""Reproducible value noise, the grain of every generated surface."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from splatscenes._compile import inlined, kernel

FloatArray = npt.NDArray[np.float32]


@inlined
def lattice_value(x: int, y: int, z: int, seed: int) -> float:
    """A pseudo-random number in [0, 1) from four integers (32-bit integer hash)."""
    # Large odd multipliers; all that matters is that neighbouring lattice points decorrelate.
    h = (x * 374761393 + y * 668265263 + z * 1442695041 + seed * 1911520717) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 739982445) & 0xFFFFFFFF
    h = ((h ^ (h >> 12)) * 695872825) & 0xFFFFFFFF
    return float(h ^ (h >> 15)) / 4294967296.0


@inlined
def noise3(x: float, y: float, z: float, seed: int) -> float:
    """Smooth value noise in [0, 1) at a point of space, one lattice cell per unit."""
    x0, y0, z0 = math.floor(x), math.floor(y), math.floor(z)
    i, j, k = int(x0), int(y0), int(z0)
    fx, fy, fz = x - x0, y - y0, z - z0
    # Smoothstep weights, so that the noise has no creases at cell borders.
    fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
    value = 0.0
    for corner in range(8):
        a, b, c = corner & 1, (corner >> 1) & 1, corner >> 2
        weight = (fx if a else 1 - fx) * (fy if b else 1 - fy) * (fz if c else 1 - fz)
        value += weight * lattice_value(i + a, j + b, k + c, seed)
    return value


@kernel
def _add_smooth(out: FloatArray, table: FloatArray, amplitude: float) -> None:
    rows, columns = out.shape
    nv, nu = table.shape
    cell = np.empty(columns, dtype=np.int64)
    part = np.empty(columns, dtype=np.float32)
    for column in range(columns):
        x = (column + 0.5) / columns * nu
        cell[column] = int(x)
        fx = x - int(x)
        part[column] = fx * fx * (3 - 2 * fx)
    line = np.empty(nu + 1, dtype=np.float32)  # the table interpolated to one row of texels
    for row in range(rows):
        y = (row + 0.5) / rows * nv
        j = int(y)
        fy = y - j
        fy = fy * fy * (3 - 2 * fy)
        for i in range(nu + 1):
            low, high = table[j, i % nu], table[(j + 1) % nv, i % nu]
            line[i] = amplitude * (low + fy * (high - low))
        for column in range(columns):
            left, right = line[cell[column]], line[cell[column] + 1]
            out[row, column] += left + part[column] * (right - left)


def fractal(
    size: int, cells: tuple[int, int], octaves: int, rng: np.random.Generator, gain: float = 0.5
) -> FloatArray:
    """Fractal noise (size, size) in [0, 1] that tiles seamlessly.

    Args:
        size: side in texels.
        cells: lattice cells along u and v in the coarsest octave; unequal numbers give grain.
        octaves: number of layers, each twice as fine; layers finer than a texel are skipped.
        rng: random generator.
        gain: amplitude of a layer relative to the previous one.
    """
    finest = max(1, int(math.log2(size / max(cells))))
    out = np.zeros((size, size), dtype=np.float32)
    amplitudes = gain ** np.arange(min(octaves, finest))
    for octave, amplitude in enumerate(amplitudes / amplitudes.sum()):
        table = rng.random((cells[1] << octave, cells[0] << octave), dtype=np.float32)
        _add_smooth(out, table, amplitude)
    return out


@kernel
def _fill_cells(
    points: FloatArray, side: int, nearest: FloatArray, border: FloatArray, label: FloatArray
) -> None:
    size = nearest.shape[0]
    near = np.empty(
        (9, 3), dtype=np.float32
    )  # the points of the 3 × 3 neighbourhood, unwrapped across the seam
    for cell in range(side * side):
        i, j = cell % side, cell // side
        for k in range(9):
            a, b = i + k % 3 - 1, j + k // 3 - 1
            point = (b % side) * side + a % side
            near[k, 0] = points[point, 0] + math.floor(a / side)
            near[k, 1] = points[point, 1] + math.floor(b / side)
            near[k, 2] = point
        for row in range((j * size + side - 1) // side, ((j + 1) * size + side - 1) // side):
            for column in range((i * size + side - 1) // side, ((i + 1) * size + side - 1) // side):
                x, y = (column + 0.5) / size, (row + 0.5) / size
                first, second, mine = 9.0, 9.0, 0  # beyond any squared distance in the unit square
                for k in range(9):
                    dx, dy = near[k, 0] - x, near[k, 1] - y
                    distance = dx * dx + dy * dy
                    if distance < first:
                        first, second, mine = distance, first, k
                    elif distance < second:
                        second = distance
                nearest[row, column] = math.sqrt(first)
                border[row, column] = math.sqrt(second) - math.sqrt(first)
                label[row, column] = near[mine, 2]


def cells(
    size: int, side: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Tileable Worley noise: cells of side² (at least 9) scattered points.

    Returns:
        Distance to the nearest point, its difference to the second nearest, index of the point;
        each (size, size), lengths in units of the texture's side.
    """
    side = max(side, 3)  # with fewer, a cell would be its own neighbour
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    # 0.05 from the cell's sides: nearly coincident points would make slivers.
    points = ((grid + rng.uniform(0.05, 0.95, grid.shape)) / side).astype(np.float32)
    planes = [np.empty((size, size), dtype=np.float32) for _ in range(3)]
    _fill_cells(points, side, *planes)
    return planes[0], planes[1], planes[2]
