"""Files of the fast ways, bit for bit those of the plain formulas, a row of Gaussians at a time."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from tests.zipsplat.formats.scenes import VALUES, scene
from zipsplat.formats import FORMATS, SplatArrays, _blocks
from zipsplat.formats._axes import with_flipped
from zipsplat.formats._ply_elements import find_rows, read_header
from zipsplat.sh_constants import SH_C0

REST_MAX = np.sqrt(0.5)
CASES = [(1, 0), (255, 1), (257, 2), (700, 3), (1025, 0)]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "BLOCK_ROWS", 512)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")


def some(num: int, degree: int) -> SplatArrays:
    """With equal parts of quaternions, a zero one, and places that share a Morton cell."""
    splats = scene(num, degree, seed=num, cells=11)
    splats.quats[: num // 3] = np.sign(splats.quats[: num // 3])
    splats.quats[num // 2] = 0
    splats.means[num // 2 :] *= np.float32(1e-4)
    return splats


def morton_order(means: np.ndarray) -> list[int]:
    low = means.min(axis=0).astype(np.float64)
    extent = means.max(axis=0) - low
    cells = ((means - low) / np.where(extent > 0, extent, 1) * 1023).astype(int)

    def code(cell: np.ndarray) -> int:
        return sum(
            (int(cell[axis]) >> bit & 1) << (3 * bit + axis)
            for bit in range(10)
            for axis in range(3)
        )

    codes = [code(cell) for cell in cells]
    return sorted(range(len(means)), key=codes.__getitem__)


def smallest_three(quat: np.ndarray) -> tuple[int, np.ndarray]:
    values = quat.astype(np.float64)
    values = values / np.abs(values).max()
    a, b, c, d = values * values
    values = values / np.sqrt(a + b + c + d)
    largest = int(np.abs(values).argmax())
    return largest, np.delete(values, largest) * (-1 if values[largest] < 0 else 1)


def unzeroed(quat: np.ndarray) -> np.ndarray:
    return quat if quat.any() else np.array([1, 0, 0, 0], np.float32)


def spz_row(splats: SplatArrays, row: int) -> list[bytes]:
    x, y, z = (int(v) for v in np.rint(splats.means[row].astype(np.float64) * 4096))
    largest, rest = smallest_three(unzeroed(splats.quats[row])[[1, 2, 3, 0]])
    word = largest
    for value in rest:
        word = word << 10 | int(value < 0) << 9 | int(np.rint(abs(value) * (511 / REST_MAX)))
    steps = np.where(np.arange(len(splats.sh_coeffs[row]) - 1) < 3, 8, 16)[:, None]
    fine = np.rint(splats.sh_coeffs[row, 1:] * np.float32(128)).astype(int) + 128 + steps // 2
    return [
        b"".join(value.to_bytes(3, "little", signed=True) for value in (x, y, z)),
        as_bytes(splats.opacities[row] * 255),
        as_bytes(splats.sh_coeffs[row, 0] * (0.15 * 255) + 127.5),
        as_bytes((np.log(splats.scales[row]) + 10) * 16),
        struct.pack("<I", word),
        as_bytes(fine // steps * steps),
    ]


def as_bytes(values: np.ndarray) -> bytes:
    return np.rint(values).clip(0, 255).astype(np.uint8).tobytes()


@pytest.mark.parametrize(("num", "degree"), CASES)
def test_spz(num: int, degree: int) -> None:
    splats = some(num, degree)
    turned = with_flipped(splats, "yz")
    rows = [spz_row(turned, row) for row in morton_order(splats.means)]
    wanted = b"".join(b"".join(arrays) for arrays in zip(*rows, strict=True))
    file = io.BytesIO()
    FORMATS["spz"].write(file, splats)
    assert gzip.decompress(file.getvalue())[16:] == wanted


@pytest.mark.parametrize(("num", "degree"), [(700, 0), (700, 1), (1025, 3)])
def test_spz_is_at_most_as_large_as_gzip_makes_it(num: int, degree: int) -> None:
    """Positions and colours at level 6, the other arrays by the frequencies of their bytes."""
    splats = scene(num, degree, cells=11)
    file = io.BytesIO()
    FORMATS["spz"].write(file, splats)
    body = gzip.decompress(file.getvalue())
    widths = [16 + 9 * num, num, 3 * num, 3 * num, 4 * num, 3 * num * ((degree + 1) ** 2 - 1)]
    ends = np.cumsum(widths)
    plain, frequencies = zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY
    strategies = (plain, frequencies, plain, frequencies, frequencies, frequencies)
    size = 18 + 2  # head, tail and the end of the stream
    for end, width, strategy in zip(ends, widths, strategies, strict=True):
        packer = zlib.compressobj(6, zlib.DEFLATED, -15, 8, strategy)
        part = packer.compress(body[end - width : end]) + packer.flush(zlib.Z_SYNC_FLUSH)
        size += len(part)
    assert len(file.getvalue()) <= size


def join(fractions: np.ndarray, bits: tuple[int, ...]) -> int:
    word = 0
    for fraction, width in zip(fractions, bits, strict=True):
        word = word << width | int(np.rint(np.clip(fraction, 0, 1) * ((1 << width) - 1)))
    return word


def fractions_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = values.min(axis=0).astype(np.float32), values.max(axis=0).astype(np.float32)
    extent = high.astype(np.float64) - low
    fractions = (values.astype(np.float64) - low) / np.where(extent > 0, extent, 1)
    return fractions, np.concatenate((low, high))


@pytest.mark.parametrize(("num", "degree"), CASES)
def test_compressed_ply(num: int, degree: int) -> None:
    splats = some(num, degree)
    order = morton_order(splats.means)
    ranges, words = [], []
    for first in range(0, num, 256):
        chunk = splats.select(np.array(order[first : first + 256]))
        positions, position_range = fractions_of(chunk.means)
        scales, scale_range = fractions_of(np.log(chunk.scales))
        colors, color_range = fractions_of(chunk.sh_coeffs[:, 0].astype(np.float64) * SH_C0 + 0.5)
        ranges.append(np.concatenate((position_range, scale_range, color_range)))
        for row, quat in enumerate(chunk.quats):
            largest, rest = smallest_three(unzeroed(quat))
            rgba = np.append(colors[row], np.float64(chunk.opacities[row]))
            words += [
                join(positions[row], (11, 10, 11)),
                largest << 30 | join(rest / (2 * REST_MAX) + 0.5, (10, 10, 10)),
                join(scales[row], (11, 10, 11)),
                join(rgba, (8, 8, 8, 8)),
            ]
    rest = splats.sh_coeffs[order, 1:].transpose(0, 2, 1)
    harmonics = np.floor((rest / np.float32(8) + np.float32(0.5)) * 256).clip(0, 255)
    wanted = np.array(ranges, "<f4").tobytes() + np.array(words, "<u4").tobytes()
    file = io.BytesIO()
    FORMATS["compressed_ply"].write(file, splats)
    body = file.getvalue().partition(b"end_header\n")[2]
    assert body == wanted + harmonics.astype(np.uint8).tobytes()


@pytest.mark.parametrize(("num", "degree"), CASES)
def test_ply(num: int, degree: int) -> None:
    splats = some(num, degree)
    rows = []
    for row in range(num):
        opacity = np.clip(splats.opacities[row], np.float32(1e-6), np.float32(1) - np.float32(1e-6))
        parts = (
            splats.means[row],
            np.zeros(3),
            splats.sh_coeffs[row, 0],
            *(splats.sh_coeffs[row, 1:, channel] for channel in range(3)),
            [np.log(np.float64(opacity / (np.float32(1) - opacity)))],
            np.log(splats.scales[row].astype(np.float64)),
            splats.quats[row],
        )
        rows.append(np.concatenate(parts).astype("<f4").tobytes())
    file = io.BytesIO()
    FORMATS["ply"].write(file, splats)
    assert file.getvalue().partition(b"end_header\n")[2] == b"".join(rows)


@pytest.mark.parametrize("degree", [1, 3])
@pytest.mark.parametrize(("name", "element"), [("ply", "vertex"), ("compressed_ply", "sh")])
def test_properties_may_have_any_order(name: str, element: str, degree: int) -> None:
    file = io.BytesIO()
    FORMATS[name].write(file, some(700, degree))
    file.seek(0)
    header = read_header(file)
    head, rows = file.getvalue()[: file.tell()].decode(), find_rows(file, header)[element]
    lines = [f"property {_type(rows.dtype[n])} {n}\n" for n in rows.dtype.names or ()]
    order = np.random.default_rng(degree).permutation(len(lines))
    shuffled = head.replace("".join(lines), "".join(lines[i] for i in order))
    assert shuffled != head
    table = rows.read(file)
    columns = np.ascontiguousarray(table).view(rows.dtype[0]).reshape(len(table), -1)[:, order]
    data = bytearray(file.getvalue())
    data[rows.start : rows.start + table.nbytes] = columns.tobytes()
    got = FORMATS[name].read(io.BytesIO(shuffled.encode() + data[len(head) :]))
    wanted = FORMATS[name].read(io.BytesIO(file.getvalue()))
    for key in VALUES:
        assert np.array_equal(getattr(got, key), getattr(wanted, key)), key


def _type(dtype: np.dtype[np.void]) -> str:
    return "float" if dtype == np.float32 else "uchar"


@pytest.mark.parametrize("name", ["ply", "spz", "compressed_ply"])
@pytest.mark.parametrize(("num", "degree"), CASES)
def test_reading_does_not_depend_on_blocks_and_threads(
    name: str, num: int, degree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO()
    FORMATS[name].write(file, replace(some(num, degree), note="a"))
    blocked = FORMATS[name].read(io.BytesIO(file.getvalue()))
    monkeypatch.setattr(_blocks, "BLOCK_ROWS", 1 << 20)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole = FORMATS[name].read(io.BytesIO(file.getvalue()))
    for key in VALUES:
        assert np.array_equal(getattr(blocked, key), getattr(whole, key)), key
