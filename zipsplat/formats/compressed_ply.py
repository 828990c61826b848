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
from zipsplat.formats._blocks import blocks, on_threads
from zipsplat.formats._morton import morton_order
from zipsplat.formats._ply_elements import (
    comment_lines,
    has_property,
    read_elements,
    read_header,
)
from zipsplat.formats._quaternions import REST_MAX, from_smallest_three, smallest_three, unit
from zipsplat.sh_constants import SH_C0

_CHUNK = 256
_MAX_LOG_SCALE = 20.0  # of the peers: beyond, one huge Gaussian would coarsen its whole chunk
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
Words = NDArray[np.uint32]


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write the Gaussians, sorted along a space-filling curve so that chunks are small.

    Log-scales are clamped to ±20 and the harmonics of degree 1 and more to ±4.
    """
    order = morton_order(splats.means)
    base = replace(splats, sh_coeffs=splats.sh_coeffs[:, :1]).select(order)
    parts = on_threads(lambda rows: _packed(base.select(rows)), blocks(len(order)))
    ranges, words = (np.concatenate(part) for part in zip(*parts, strict=True))
    rest = splats.sh_coeffs[:, 1:]
    packed = on_threads(lambda rows: _pack_harmonics(rest[rows]), blocks(len(order)))
    harmonics = np.take(np.concatenate(packed), order, axis=0)  # of bytes, a quarter to move about
    file.write(_header(splats, len(ranges), harmonics.shape[1]))
    file.write(ranges.data)
    file.write(words.data)
    file.write(harmonics.data)


def _packed(splats: SplatArrays) -> tuple[NDArray[np.float32], Words]:
    """Ranges (chunks, 18) and words (N, 4) of whole chunks of a file."""
    log_scales = np.log(np.maximum(splats.scales, _MIN_SCALE)).clip(max=_MAX_LOG_SCALE)
    rgb = splats.sh_coeffs[:, 0] * np.float64(SH_C0) + 0.5
    positions, position_ranges = _within_chunks(splats.means)
    scales, scale_ranges = _within_chunks(log_scales)
    colors, color_ranges = _within_chunks(rgb)
    rgba = np.concatenate((colors, splats.opacities[:, None]), axis=1, dtype=np.float64)
    words = (
        _join(positions, (11, 10, 11)),
        _pack_rotations(splats.quats),
        _join(scales, (11, 10, 11)),
        _join(rgba, (8, 8, 8, 8)),
    )
    ranges = np.concatenate((position_ranges, scale_ranges, color_ranges), axis=1)
    return ranges.astype("<f4"), np.stack(words, axis=1).astype("<u4")


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
    rgba = _split(vertices["packed_color"], (8, 8, 8, 8))
    with np.errstate(over="ignore", invalid="ignore"):  # damaged ranges; left out later
        has_colors = set(_RANGES) <= _names(chunks)
        rgb = _between(rgba[:, :3], chunks, 12) if has_colors else rgba[:, :3]
        scales = np.exp(_between(_split(vertices["packed_scale"], (11, 10, 11)), chunks, 6))
        means = _between(_split(vertices["packed_position"], (11, 10, 11)), chunks, 0)
        dc = ((rgb[:, None] - 0.5) / SH_C0).astype(np.float32)
        sh_coeffs = np.concatenate((dc, _unpack_harmonics(sh)), axis=1)
        return SplatArrays(
            means=means.astype(np.float32),
            scales=scales.astype(np.float32),
            quats=_unpack_rotations(vertices["packed_rotation"]),
            opacities=rgba[:, 3].astype(np.float32),
            sh_coeffs=sh_coeffs,
            note=header.note,
            antialiased=header.antialiased,
        )


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
    # The first files of this format have no ranges of colours: these span 0 to 1.
    if not set(_RANGES[:12]) <= _names(chunks) or kinds[0] != {"<f4"}:
        raise ValueError("this .ply is not a compressed one: it has no ranges of chunks")
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


def _within_chunks(values: NDArray[np.floating]) -> tuple[Floats, NDArray[np.float32]]:
    """Values (N, 3) as fractions of their chunk's range, and the ranges (chunks, 6) min max."""
    starts = np.arange(0, len(values), _CHUNK)
    if not len(starts):
        return np.empty((0, 3)), np.empty((0, 6), np.float32)
    low = np.minimum.reduceat(values, starts).astype(np.float32)
    high = np.maximum.reduceat(values, starts).astype(np.float32)
    chunk_of = np.arange(len(values)) // _CHUNK
    fractions = _normalise(values.astype(np.float64), low[chunk_of], high[chunk_of])
    return fractions, np.concatenate((low, high), axis=1)


def _normalise(values: Floats, low: NDArray[np.floating], high: NDArray[np.floating]) -> Floats:
    extent = np.subtract(high, low, dtype=np.float64)
    return np.asarray((values - low) / np.where(extent > 0, extent, 1), np.float64).clip(0, 1)


def _between(fractions: Floats, chunks: NDArray[Any], first: int) -> Floats:
    """Fractions (N, 3) of the ranges whose names start at `_RANGES[first]`."""
    chunk_of = np.arange(len(fractions)) // _CHUNK
    ends = np.stack([chunks[name] for name in _RANGES[first : first + 6]], axis=1)[chunk_of]
    return np.asarray(ends[:, :3] * (1 - fractions) + ends[:, 3:] * fractions, np.float64)


def _join(fractions: Floats, bits: tuple[int, ...]) -> Words:
    """Numbers in [0, 1] (N, len(bits)) as one word each row, the first in the highest bits."""
    word: Words = np.zeros(len(fractions), np.uint32)
    for column, width in zip(fractions.T, bits, strict=True):
        steps = np.rint(column.clip(0, 1) * ((1 << width) - 1)).astype(np.uint32)
        word = word << np.uint32(width) | steps
    return word


def _split(words: Words, bits: tuple[int, ...]) -> Floats:
    """Inverse of `_join`."""
    columns = []
    for width in reversed(bits):
        largest = np.uint32((1 << width) - 1)
        columns.append((words & largest) / largest)
        words = words >> np.uint32(width)
    return np.stack(columns[::-1], axis=1).astype(np.float64)


def _pack_rotations(quats: NDArray[np.float32]) -> Words:
    largest, rest = smallest_three(unit(quats))
    words = _join(rest / (2 * REST_MAX) + 0.5, (10, 10, 10))
    words |= largest.astype(np.uint32) << np.uint32(30)
    return words


def _unpack_rotations(words: Words) -> NDArray[np.float32]:
    rest = (_split(words, (10, 10, 10)) - 0.5) * (2 * REST_MAX)
    return from_smallest_three((words >> np.uint32(30)).astype(np.int64), rest).astype(np.float32)


def _pack_harmonics(rest: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Harmonics (N, S - 1, 3) as bytes, channel by channel (N, 3 (S - 1))."""
    num, width = len(rest), 3 * rest.shape[1]
    steps = rest.reshape(num, width) * np.float32(1 / _SH_RANGE)
    steps += np.float32(0.5)
    steps *= np.float32(256)
    packed: NDArray[np.uint8] = steps.clip(0, 255, out=steps).astype(np.uint8)
    return np.asarray(packed.reshape(rest.shape).transpose(0, 2, 1).reshape(num, width))


def _unpack_harmonics(sh: NDArray[Any]) -> NDArray[np.float32]:
    """Inverse of `_pack_harmonics`, each byte standing for the middle of its step."""
    names = _harmonic_names(len(_names(sh)))
    if not names:
        return np.empty((len(sh), 0, 3), np.float32)
    from numpy.lib.recfunctions import structured_to_unstructured  # imports numpy.ma: a slow start

    packed = structured_to_unstructured(sh[list(names)])
    steps = packed.reshape(len(sh), 3, len(names) // 3).transpose(0, 2, 1)
    values: NDArray[np.float32] = (steps + np.float32(0.5)) * np.float32(_SH_RANGE / 256)
    values -= np.float32(_SH_RANGE / 2)
    return values


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
