from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splatfactory.datasets import depth_codec
from splatfactory.datasets.depth_codec import EncodedDepth

CASES = ("allinvalid", "const", "holes", "outliers", "smooth", "twovals")


@pytest.fixture(scope="module")
def cases(request):
    path = Path(__file__).parents[2] / "golden" / "data" / "expected" / "depth_codec.npz"
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("case", CASES)
def test_encodes_as_the_released_data(cases, case):
    codes, near, far = depth_codec.quantize(cases[f"{case}/in"])
    np.testing.assert_array_equal(codes, cases[f"{case}/u8"])
    np.testing.assert_allclose([near, far], cases[f"{case}/range"], rtol=1e-6)
    stored = depth_codec.encode(cases[f"{case}/in"])
    np.testing.assert_array_equal(depth_codec.decode_codes(stored.data), cases[f"{case}/u8"])


@pytest.mark.parametrize("case", CASES)
def test_decodes_released_maps(cases, case):
    stored = EncodedDepth(cases[f"{case}/webp"].tobytes(), *cases[f"{case}/range"].tolist())
    depth = depth_codec.decode(stored)
    np.testing.assert_allclose(depth, cases[f"{case}/out"], rtol=1e-5)
    np.testing.assert_array_equal(depth == -1, cases[f"{case}/out"] == -1)


def test_round_trip_error_is_half_a_step():
    depth = np.exp(np.random.default_rng(0).uniform(0, np.log(100), (60, 80)))
    depth = depth.astype(np.float32)
    again = depth_codec.decode(depth_codec.encode(depth))
    known = again > 0
    assert known.mean() > 0.99
    step = 100 ** (1 / 254) - 1
    assert np.abs(again[known] / depth[known] - 1).max() < 0.51 * step


def test_zero_and_non_finite_depths_are_unknown():
    depth = np.full((8, 8), 2.0)
    depth[0, :4] = [0.0, np.nan, np.inf, -3.0]
    depth[4:] = 3.0
    again = depth_codec.decode(depth_codec.encode(depth))
    np.testing.assert_array_equal(again[0, :4], -1)
    np.testing.assert_allclose(again[1:4], 2.0, rtol=1e-6)


def test_accepts_single_channel_images_of_other_writers():
    codes = np.arange(64, dtype=np.uint8).reshape(8, 8)
    buffer = io.BytesIO()
    Image.fromarray(codes).save(buffer, "PNG")
    np.testing.assert_array_equal(depth_codec.decode_codes(buffer.getvalue()), codes)


def test_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match=r"must be \(H, W\)"):
        depth_codec.encode(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match="positive"):
        depth_codec.lookup_table(-1.0, 2.0)
    with pytest.raises(ValueError, match="finite"):
        depth_codec.lookup_table(1.0, float("nan"))


@pytest.mark.parametrize("has_opencv", [True, False])
def test_samples_are_pixels_of_the_whole_map(monkeypatch, has_opencv):
    if has_opencv:
        pytest.importorskip("cv2")
    else:
        monkeypatch.setattr(depth_codec, "opencv", lambda: None)
    depth = np.random.default_rng(0).uniform(1, 4, (20, 30))
    depth[3:9, 4:20] = 0
    encoded = depth_codec.encode(depth)
    rows, columns = np.array([0, 3, 8, 19, 19]), np.array([29, 5, 0])
    sample = depth_codec.sample(encoded, (20, 30), rows, columns)
    np.testing.assert_array_equal(sample, depth_codec.decode(encoded)[rows[:, None], columns])
    assert (sample == depth_codec.INVALID).any()


@pytest.mark.parametrize(("rows", "columns"), [([0, 20], [0]), ([-1], [0]), ([0], [30])])
def test_there_are_no_samples_outside_of_a_map(rows, columns):
    encoded = depth_codec.encode(np.ones((20, 30)))
    with pytest.raises(ValueError, match="outside a map of size"):
        depth_codec.sample(encoded, (20, 30), np.array(rows), np.array(columns))
