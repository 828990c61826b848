"""Layout of .spz, byte by byte, and the guards against hostile files."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from tests.zipsplat.formats.scenes import VALUES, as_arrays, scene
from zipsplat.formats import SplatArrays, spz
from zipsplat.formats._spz_arrays import pack_harmonics

MAGIC = 0x5053474E


def one_gaussian() -> SplatArrays:
    return as_arrays(
        [[1.0, 2.0, -0.5]],
        [[np.exp(-2.0), 1.0, np.exp(1.5)]],
        [[0.5, 0.5, -0.5, 0.5]],
        [0.8],
        [[[0.0, 1.0, -1.0], [0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.5]]],
    )


def written(arrays: SplatArrays) -> bytes:
    file = io.BytesIO()
    spz.write(file, arrays)
    return file.getvalue()


def read(data: bytes) -> SplatArrays:
    return spz.read(io.BytesIO(data))


def test_bytes_of_one_gaussian_worked_out_by_hand():
    data = gzip.decompress(written(one_gaussian()))
    assert data[:16] == struct.pack("<IIIBBBB", MAGIC, 3, 1, 1, 12, 0, 0)
    # x = 4096, y = -8192 and z = 2048 of 4096ths: y and z change their sign.
    assert data[16:25] == b"\x00\x10\x00" + b"\x00\xe0\xff" + b"\x00\x08\x00"
    assert data[25] == 204  # 0.8 * 255
    assert list(data[26:29]) == [128, 166, 89]  # dc * 38.25 + 127.5: 127.5, 165.75, 89.25
    assert list(data[29:32]) == [128, 160, 184]  # 16 * (log scale + 10)
    # xyzw = (0.5, 0.5, -0.5, 0.5) after the turn; x is taken as the largest, index 0. The rest is
    # 0.5 / sqrt(0.5) * 511 = 361 each, with a sign bit for z.
    rotation = 361 << 20 | (512 + 361) << 10 | 361
    assert struct.unpack("<I", data[32:36]) == (rotation,)
    # Harmonics -y, z and -x turn to y, -z, -x; 0.5 * 128 = 64 around 128.
    assert list(data[36:]) == [64, 128, 128, 128, 64, 128, 128, 128, 192]


def test_version_2_keeps_three_bytes_of_the_rotation():
    body = gzip.decompress(written(one_gaussian()))
    old = struct.pack("<II", MAGIC, 2) + body[8:32] + bytes([191, 191, 64]) + body[36:]
    got, new = read(gzip.compress(old)), read(written(one_gaussian()))
    # xyz = 0.498, 0.498, -0.498 and so w = 0.506, y and z negated on the way in.
    assert got.quats[0] == pytest.approx([0.506, 0.498, -0.498, 0.498], abs=1e-3)
    for key in ("means", "scales", "opacities", "sh_coeffs"):
        assert np.array_equal(getattr(got, key), getattr(new, key))


def test_far_positions_give_up_fractional_bits():
    arrays = scene(50, 0)
    far = as_arrays(arrays.means * 400, *[getattr(arrays, k) for k in VALUES[1:]])
    data = gzip.decompress(written(far))
    assert data[13] == 11  # for ±4000
    got = read(written(far)).means
    assert np.abs(np.sort(got, axis=0) - np.sort(far.means, axis=0)).max() <= 2**-12 + 2**-13


def test_coordinates_out_of_range_are_pulled_in(caplog):
    arrays = one_gaussian()
    arrays.means[0] = (9e6, 9e5, 0)
    got = spz.read(io.BytesIO(written(arrays)))
    np.testing.assert_allclose(got.means[0], [8388607, 838860.7, 0], rtol=1e-6)
    assert "1 of 1 Gaussians lie farther out" in caplog.text


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ((MAGIC, 1, 1, 0, 12, 0, 0), "version 1 is not supported"),
        ((MAGIC, 5, 1, 0, 12, 0, 0), "version 5 is not supported"),
        ((MAGIC + 1, 3, 1, 0, 12, 0, 0), "not an SPZ file"),
        ((MAGIC, 3, 1, 7, 12, 0, 0), "SH degree 7"),
        ((MAGIC, 3, 1, 0, 40, 0, 0), "40 bits"),
    ],
)
def test_headers_that_cannot_be(header: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        read(gzip.compress(struct.pack("<IIIBBBB", *header) + bytes(100)))


def test_a_wrong_checksum_is_noticed():
    data = bytearray(written(scene(40, 1)))
    data[-6] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        read(bytes(data))


@pytest.mark.parametrize("trailing", [False, True])
def test_a_bomb_is_refused_before_it_unpacks(trailing: bool):
    num = 0 if trailing else 5_000_000
    header = struct.pack("<IIIBBBB", MAGIC, 3, num, 0, 12, 0, 0)
    bomb = gzip.compress(header + bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="damaged SPZ file"):
            read(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def version_4(arrays: SplatArrays) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    body = gzip.decompress(written(arrays))
    num, degree = struct.unpack("<IB", body[8:13])
    sizes = [9 * num, num, 3 * num, 3 * num, 4 * num, 3 * num * ((degree + 1) ** 2 - 1)]
    ends = np.cumsum([16, *sizes])
    streams = [body[a:b] for a, b in pairwise(ends) if b > a]
    packed = [zstandard.compress(stream) for stream in streams]
    header = struct.pack("<II", MAGIC, 4) + body[8:15] + bytes([len(streams)])
    table = b"".join(
        struct.pack("<QQ", len(a), len(b)) for a, b in zip(packed, streams, strict=True)
    )
    return header + struct.pack("<I12x", 32) + table + b"".join(packed)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_version_4_reads_as_version_3(degree: int):
    arrays = scene(60, degree)
    got, wanted = read(version_4(arrays)), read(written(arrays))
    for key in VALUES:
        assert np.array_equal(getattr(got, key), getattr(wanted, key))


def test_damaged_version_4_is_refused():
    data = version_4(scene(60, 1))
    for size in range(0, len(data), 5):
        with pytest.raises(ValueError, match="SPZ"):
            read(data[:size])
    wrong = bytearray(data)
    wrong[40] ^= 1  # the unpacked size of the first stream
    with pytest.raises(ValueError, match="wrong size"):
        read(bytes(wrong))


def test_version_4_without_zstandard_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    data = version_4(scene(5, 0))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ImportError, match=r"zipsplat\[spz4\]"):
        read(data)


def test_harmonics_are_rounded_to_the_nearest_step():
    """Against the rule itself in float64: to 1/128, then to multiples of 8 or 16 around 128."""
    values = np.concatenate((np.arange(-1.25, 1.25, 1 / 512), [-1e30, -9, 9, 1e30]))
    rest = np.repeat(values.astype(np.float32)[:, None, None], 15, axis=1).repeat(3, axis=2)
    fine = np.rint(np.float64(rest) * 128) + 128
    step = np.where(np.arange(15) < 3, 8, 16)[:, None]
    wanted = (np.floor(fine / step + 0.5) * step).clip(0, 255).astype(np.uint8)
    packed = pack_harmonics(rest.reshape(len(rest), 45), np.ones(45, np.float32))
    np.testing.assert_array_equal(packed.reshape(wanted.shape), wanted)
