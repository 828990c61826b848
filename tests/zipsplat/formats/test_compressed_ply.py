"""Layout of .compressed.ply, word by word."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from tests.zipsplat.formats.scenes import as_arrays, scene
from zipsplat.formats import SplatArrays, compressed_ply


def written(arrays: SplatArrays) -> bytes:
    file = io.BytesIO()
    compressed_ply.write(file, arrays)
    return file.getvalue()


def test_words_of_two_gaussians_worked_out_by_hand():
    half = 1.7724538509055159  # the coefficient of one half
    arrays = as_arrays(
        [[0, 0, 0], [2, 4, 8]],
        [[1, 1, 1], [np.e, np.e, np.e]],
        [[1, 0, 0, 0], [0.5, -0.5, 0.5, -0.5]],
        [0, 1],
        [
            [[-half, -half, -half], [0, 1, 2], [-4, 3.99, 9], [0, 0, 0]],
            [[half, half, half], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
        ],
    )
    header, body = written(arrays).split(b"end_header\n")
    assert header.splitlines()[2] == b"element chunk 1"
    ranges = struct.unpack("<18f", body[:72])
    assert ranges == pytest.approx((0, 0, 0, 2, 4, 8, 0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1), abs=1e-6)
    first, second = struct.unpack("<4I", body[72:88]), struct.unpack("<4I", body[88:104])
    # No rotation: w is the largest (0), the others are zero, in the middle of 0..1023.
    assert first == (0, 512 << 20 | 512 << 10 | 512, 0, 0)
    # w is taken as the largest of four equal ones; x, y, z = -0.5, 0.5, -0.5 in ±0.7071.
    rotation = 150 << 20 | 873 << 10 | 150
    assert second == (0xFFFFFFFF, rotation, 0xFFFFFFFF, 0xFFFFFFFF)
    # (v / 8 + 0.5) * 256, red of all harmonics first: 0, -4, 0; 1, 3.99, 0; 2, 9 (clamped), 0.
    assert list(body[104:113]) == [128, 0, 128, 160, 255, 128, 192, 255, 128]


def test_sorting_into_chunks_makes_positions_finer():
    arrays = scene(1000, 0, cells=10)
    got = compressed_ply.read(io.BytesIO(written(arrays)))
    order = [np.lexsort(np.floor(each.means.T / 2)) for each in (got, arrays)]
    error = np.abs(got.means[order[0]] - arrays.means[order[1]])[:, [0, 2]]
    # In random order each chunk would span all 20 units and the median be a quarter of a step.
    assert np.median(error) < 0.8 * 20 / 2047 / 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"element chunk 2", b"element chunk 1", "too few for 300"),
        (b"float min_x", b"float mim_x", "no chunk ranges"),
        (b"uint packed_color", b"uint packed_colas", "no packed Gaussians"),
        (b"uchar f_rest_8", b"uchar f_rest_9", "harmonics"),
        (b"uint packed_scale", b"float packed_scale", "no packed Gaussians"),
    ],
)
def test_layouts_that_cannot_be(old: bytes, new: bytes, message: str):
    data = written(scene(300, 1))
    assert old in data
    with pytest.raises(ValueError, match=message):
        compressed_ply.read(io.BytesIO(data.replace(old, new)))
