"""Layout of .splat, byte by byte."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from tests.zipsplat.formats.scenes import as_arrays
from zipsplat.formats import splat


def test_bytes_of_two_gaussians_worked_out_by_hand():
    arrays = as_arrays(
        [[1, 2, 3], [4, 5, 6]],
        [[0.5, 0.25, 0.125], [1, 2, 4]],
        [[1, 0, 0, 0], [0.5, -0.5, 0.5, -0.5]],
        [0.2, 1.0],
        [[[0, 0, 0]], [[1.7724538509, -1.7724538509, 3]]],
    )
    file = io.BytesIO()
    splat.write(file, arrays)
    large = struct.pack("<6f", 4, 5, 6, 1, 2, 4) + bytes([255, 0, 255, 255, 192, 64, 192, 64])
    small = struct.pack("<6f", 1, 2, 3, 0.5, 0.25, 0.125) + bytes(
        [128, 128, 128, 51, 255, 128, 128, 128]
    )
    assert file.getvalue() == large + small  # the more important one first


def test_a_length_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"32 bytes per Gaussian, got 33"):
        splat.read(io.BytesIO(bytes(33)))


def test_a_zero_quaternion_is_not_a_rotation():
    record = struct.pack("<6f", 0, 0, 0, 1, 1, 1) + bytes([0, 0, 0, 255, 128, 128, 128, 128])
    assert np.array_equal(splat.read(io.BytesIO(record)).quats, [[1, 0, 0, 0]])
