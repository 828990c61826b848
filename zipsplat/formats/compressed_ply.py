"""PlayCanvas's compressed PLY: 16 bytes per Gaussian, and 3 more per harmonic.

Runs of 256 neighbours form a chunk that stores the range of their positions, log-scales and
colours; each Gaussian then holds four 32-bit words relative to it: position and scale with
11-10-11 bits, colour and opacity with 8-8-8-8, and the three smallest parts of its quaternion with
10 bits each. Described by the PlayCanvas user manual and by the files of its own tools.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import Format, SplatArrays, SplatTolerance
from zipsplat.formats._blocks import blocks, fill_rows, on_threads, taken
from zipsplat.formats._morton import morton_order
from zipsplat.formats._ply_elements import (
    comment_lines,
    has_property,
    read_elements,
    read_header,
)
from zipsplat.formats._quaternions import (
    REST_MAX,
    from_smallest_three,
    smallest_three,
    unit_columns,
)
from zipsplat.sh_constants import SH_C0

_CHUNK = 256
_MAX_LOG_SCALE = 20.0  # as other tools; beyond, one huge Gaussian would coarsen its whole chunk
_MIN_SCALE = np.float32(np.exp(-_MAX_LOG_SCALE))
_SH_RANGE = 8.0  # harmonics from -4 to 4
_RANGES = tuple(
    f"{end}_{field}"
    for fields in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for field in fields
)
_WORDS = ("packed_position", "packed_rotation", "packed_scale", "packed_color")

Floats = NDArray[np.float64]
Columns = list[NDArray[Any]]
Words = NDArray[np.uint32]


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write the Gaussians, sorted along a space-filling curve so that chunks are small.

    Log-scales are clamped to ±20 and the harmonics of degree 1 and more to ±4.
    """
    num, num_rest = len(splats.means), 3 * (splats.sh_coeffs.shape[1] - 1)
    base = replace(splats, sh_coeffs=np.ascontiguousarray(splats.sh_coeffs[:, :1]))
    order = morton_order(splats.means)
    ranges = np.empty((-(-num // _CHUNK), 18), "<f4")
    words = np.empty((num, 4), "<u4")
    harmonics = np.empty((num, num_rest), np.uint8)

    def work(rows: slice) -> None:
        words[rows], ranges[_chunks(rows)] = _packed(base.select(order[rows]))
        _pack_harmonics(splats.sh_coeffs[rows], harmonics[rows])

    on_threads(work, blocks(num))
    file.write(_header(splats, len(ranges), num_rest))
    file.write(ranges.data)
    file.write(words.data)
    file.write(taken(harmonics, order).data)  # bytes are cheaper to reorder


def _packed(splats: SplatArrays) -> tuple[Words, NDArray[np.float32]]:
    """Words (n, 4) and ranges (chunks, 18) of whole chunks."""
    log_scales = np.log(np.maximum(splats.scales, _MIN_SCALE)).clip(max=_MAX_LOG_SCALE)
    rgb = splats.sh_coeffs[:, 0].T.astype(np.float64, order="C") * SH_C0 + 0.5
    positions, position_ranges = _within_chunks(splats.means.T)
    scales, scale_ranges = _within_chunks(log_scales.T)
    colors, color_ranges = _within_chunks(rgb)
    words = (
        _join([*positions], (11, 10, 11)),
        _pack_rotations(splats.quats),
        _join([*scales], (11, 10, 11)),
        _join([*colors, splats.opacities], (8, 8, 8, 8)),
    )
    return np.stack(words, axis=1), np.concatenate((position_ranges, scale_ranges, color_ranges)).T


def read(file: BinaryIO) -> SplatArrays:
    """Read a compressed PLY.

    Raises:
        ValueError: if it is damaged, or another kind of PLY.
    """
    header = read_header(file)
    elements = read_elements(file, header)
    empty = np.empty(0, np.dtype([]))
    chunks, vertices = (elements.get(name, empty) for name in ("chunk", "vertex"))
    sh = elements.get("sh", np.empty(len(vertices), empty.dtype))
    _require_layout(chunks, vertices, sh)
    ranges = _RANGES if set(_RANGES) <= _names(chunks) else _RANGES[:12]
    ends = np.stack([chunks[name] for name in ranges])
    num, num_coeffs = len(vertices), 1 + len(_names(sh)) // 3
    scene = SplatArrays(
        means=np.empty((num, 3), np.float32),
        scales=np.empty((num, 3), np.float32),
        quats=np.empty((num, 4), np.float32),
        opacities=np.empty(num, np.float32),
        sh_coeffs=np.empty((num, num_coeffs, 3), np.float32),
        note=header.note,
        antialiased=header.antialiased,
    )

    def work(rows: slice) -> None:
        _unpack_rows(vertices[rows], ends[:, _chunks(rows)], scene.select(rows))
        _unpack_harmonics(sh[rows], scene.sh_coeffs[rows])

    on_threads(work, blocks(num))
    return scene


def _unpack_rows(vertices: NDArray[Any], ends: NDArray[np.float32], scene: SplatArrays) -> None:
    """Fill all but the higher harmonics of some rows, with the ranges (12 or 18, chunks)."""
    positions, scales = (
        _split(vertices[name], (11, 10, 11)) for name in ("packed_position", "packed_scale")
    )
    *rgb, opacities = _split(vertices["packed_color"], (8, 8, 8, 8))
    with np.errstate(over="ignore", invalid="ignore"):  # damaged ranges; left out later
        colors = _between(rgb, ends[12:]) if len(ends) > 12 else rgb
        _fill(scene.means, _between(positions, ends[:6]))
        _fill(scene.scales, [np.exp(column) for column in _between(scales, ends[6:12])])
        _fill(scene.sh_coeffs[:, 0], [(column - 0.5) / SH_C0 for column in colors])
    scene.opacities[:] = opacities
    scene.quats[:] = _unpack_rotations(vertices["packed_rotation"]).T


def _fill(rows: NDArray[np.float32], columns: Columns) -> None:
    for index, column in enumerate(columns):
        rows[:, index] = column


def _header(splats: SplatArrays, num_chunks: int, num_rest: int) -> bytes:
    num = len(splats.means)
    lines = ["ply", "format binary_little_endian 1.0", *comment_lines(splats)]
    lines += [f"element chunk {num_chunks}"]
    lines += [f"property float {name}" for name in _RANGES]
    lines += [f"element vertex {num}", *(f"property uint {name}" for name in _WORDS)]
    if num_rest:
        lines += [f"element sh {num}"]
        lines += [f"property uchar {name}" for name in _harmonic_names(num_rest)]
    return "\n".join([*lines, "end_header\n"]).encode("ascii")


def _harmonic_names(num: int) -> tuple[str, ...]:
    return tuple(f"f_rest_{i}" for i in range(num))


def _require_layout(chunks: NDArray[Any], vertices: NDArray[Any], sh: NDArray[Any]) -> None:
    kinds = [{dtype.str for dtype in _dtypes(table)} for table in (chunks, vertices, sh)]
    # Early files of this format have no colour ranges: colours span 0 to 1.
    if not set(_RANGES[:12]) <= _names(chunks) or kinds[0] != {"<f4"}:
        raise ValueError("this is not a compressed .ply: it has no chunk ranges")
    if not set(_WORDS) <= _names(vertices) or kinds[1] != {"<u4"}:
        raise ValueError("this compressed .ply has no packed Gaussians")
    if len(chunks) * _CHUNK < len(vertices):
        raise ValueError(
            f"this compressed .ply has {len(chunks)} chunks, too few for {len(vertices)} Gaussians"
        )
    num_rest = len(_names(sh))
    expected = set(_harmonic_names(num_rest))
    if num_rest not in (0, 9, 24, 45) or _names(sh) != expected or not kinds[2] <= {"|u1"}:
        raise ValueError(f"this compressed .ply has harmonics that cannot be read: {num_rest}")
    if len(sh) != len(vertices):
        raise ValueError(f"this compressed .ply has {len(sh)} harmonics, {len(vertices)} Gaussians")


def _names(table: NDArray[Any]) -> set[str]:
    return set(table.dtype.names or ())


def _dtypes(table: NDArray[Any]) -> list[np.dtype[np.void]]:
    return [table.dtype[name] for name in table.dtype.names or ()]


def _chunks(rows: slice) -> slice:
    """The chunks of whole blocks of rows."""
    return slice(rows.start // _CHUNK, -(-rows.stop // _CHUNK))


def _within_chunks(columns: NDArray[np.floating]) -> tuple[Floats, NDArray[np.float32]]:
    """Columns (3, n) as fractions of their chunk's range, and the ranges (6, chunks), min and max.

    All chunks except the last are whole.
    """
    num = columns.shape[1]
    columns = np.ascontiguousarray(columns)  # NumPy is slow on rows of three
    if num % _CHUNK:
        columns = np.pad(columns, ((0, 0), (0, -num % _CHUNK)), "edge")
    runs = columns.reshape(3, -1, _CHUNK)
    low, high = (ends(axis=2, keepdims=True).astype(np.float32) for ends in (runs.min, runs.max))
    fractions = runs - low.astype(np.float64)
    extent = high - low.astype(np.float64)
    fractions /= np.where(extent > 0, extent, 1)
    return fractions.reshape(3, -1)[:, :num], np.concatenate((low, high))[..., 0]


def _between(fractions: Columns, ends: NDArray[np.float32]) -> Columns:
    """Three columns (n,) of fractions of their chunks' ranges (6, chunks) as values."""
    num = len(fractions[0])
    spread = np.repeat(ends.astype(np.float64), _CHUNK, axis=1)[:, :num]
    return [
        low * (1 - column) + high * column
        for column, low, high in zip(fractions, spread[:3], spread[3:], strict=True)
    ]


def _join(columns: Columns, bits: tuple[int, ...]) -> Words:
    """Pack columns of values in [0, 1] to one word per row, the first in the highest bits."""
    word: Words = np.zeros(len(columns[0]), np.uint32)
    for column, width in zip(columns, bits, strict=True):
        steps = column.clip(0, 1) * np.float64((1 << width) - 1)
        # By way of signed integers, which processors convert several at a time.
        whole = np.rint(steps, out=steps).astype(np.int32).view(np.uint32)
        word = word << np.uint32(width) | whole
    return word


def _split(words: Words, bits: tuple[int, ...]) -> Columns:
    """Inverse of `_join`."""
    columns = []
    for width in reversed(bits):
        largest = (1 << width) - 1
        whole = (words & np.uint32(largest)).view(np.int32)
        columns.append(whole.astype(np.float64) / largest)
        words = words >> np.uint32(width)
    return columns[::-1]


def _pack_rotations(quats: NDArray[np.float32]) -> Words:
    largest, rest = smallest_three(unit_columns(quats))
    words = _join([*(rest / (2 * REST_MAX) + 0.5)], (10, 10, 10))
    words |= largest.astype(np.uint32) << np.uint32(30)
    return words


def _unpack_rotations(words: Words) -> Floats:
    """Quaternions (4, n)."""
    rest = (np.stack(_split(words, (10, 10, 10))) - 0.5) * (2 * REST_MAX)
    return from_smallest_three(words >> np.uint32(30), rest)


@np.errstate(over="ignore")  # colours beyond every byte are clamped
def _pack_harmonics(sh_coeffs: NDArray[np.float32], packed: NDArray[np.uint8]) -> None:
    """Fill bytes (n, 3 (S - 1)), channel after channel, from harmonics (n, S, 3)."""
    num, num_coeffs, _ = sh_coeffs.shape
    # Whole rows, with the colour, because NumPy is slow on parts of rows.
    steps = sh_coeffs * np.float32(256 / _SH_RANGE)
    steps += np.float32(128)
    whole = steps.clip(0, 255, out=steps).astype(np.uint8)
    packed.reshape(num, 3, num_coeffs - 1)[:] = whole[:, 1:].transpose(0, 2, 1)


def _unpack_harmonics(sh: NDArray[Any], sh_coeffs: NDArray[np.float32]) -> None:
    """Fill all harmonics (n, S, 3) except the first; each byte means the middle of its step.

    Inverse of `_pack_harmonics`, for properties in any order.
    """
    num = sh_coeffs.shape[1] - 1
    if not num:
        return
    index = {name: place for place, name in enumerate(sh.dtype.names or ())}
    by_name = np.array([index[name] for name in _harmonic_names(3 * num)])
    table = sh.view(np.uint8).reshape(len(sh), 3 * num)
    packed = np.take(table, by_name.reshape(3, num).T.reshape(-1), axis=1, mode="clip")
    steps = packed + np.float32(0.5)
    steps *= np.float32(_SH_RANGE / 256)
    steps -= np.float32(_SH_RANGE / 2)
    fill_rows(sh_coeffs.reshape(len(sh), 3 + 3 * num)[:, 3:], steps)


PLUGIN = Format(
    name="compressed_ply",
    suffixes=(".compressed.ply",),
    read=read,
    write=write,
    tolerance=SplatTolerance(
        position=10 / 1023,
        log_scale=_MAX_LOG_SCALE / 1023,
        rotation_deg=0.28,
        opacity=0.5 / 255,
        dc=1 / 255 / SH_C0,
        sh=_SH_RANGE / 512,
    ),
    recognise=lambda head: has_property(head, "packed_position") is True,
)
