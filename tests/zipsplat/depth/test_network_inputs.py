"""Images at the size of Depth Anything 3, against published pixels and OpenCV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zipsplat import Camera, Pose
from zipsplat.depth import resampling
from zipsplat.depth.network_inputs import DepthPreprocessor
from zipsplat.depth.resampling import nearest_multiple, resample, scaled_size

STORED = Path(__file__).parents[2] / "golden" / "da3" / "preprocess.npz"


def image(height: int, width: int) -> np.ndarray:
    """The image of the golden rule."""
    y, x, c = np.ogrid[:height, :width, :3]
    return ((3 * y + 5 * x + 40 * c + (x * y) // 16) % 256).astype(np.uint8)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


@pytest.fixture(params=["with OpenCV", "without"])
def has_opencv(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether OpenCV is used where it may be."""
    if request.param == "without":
        monkeypatch.setattr(resampling, "_opencv", lambda: None)
        return False
    pytest.importorskip("cv2")
    return True


@pytest.mark.parametrize("index", range(8))
def test_golden(index: int, has_opencv: bool) -> None:
    with np.load(STORED) as stored:
        height, width = (int(side) for side in stored[f"size{index}"])
        K = torch.from_numpy(stored[f"K{index}"])
        camera = Camera.from_K(K, width, height)[None]
        poses = Pose.identity((1,))
        found = DepthPreprocessor(504)([as_tensor(image(height, width))], camera, poses)
        assert found.images.shape[-2:] == tuple(stored[f"out_size{index}"])
        levels = (found.images[0] * 255).round().to(torch.uint8).numpy()
        assert levels.shape == tuple(stored[f"pixels{index}__shape"])
        got = levels.ravel()[:: int(stored[f"pixels{index}__stride"])].astype(int)
        difference = np.abs(got - stored[f"pixels{index}"])
        assert difference.max() <= (0 if has_opencv else 1)
        assert (difference > 0).mean() <= 0.001
        assert found.cameras is not None
        np.testing.assert_allclose(found.cameras.K[0], stored[f"K_out{index}"], rtol=1e-6)
        back = found.in_input_pixels(found.cameras)
        torch.testing.assert_close(back.packed(), camera.packed())


@pytest.mark.parametrize(
    ("before", "after"),
    [((100, 200), (50, 100)), ((90, 300), (30, 100)), ((400, 301), (133, 100)),
     ((61, 83), (98, 140)), ((335, 504), (336, 504)), ((64, 64), (32, 64)), ((60, 90), (20, 45)),
     ((822, 1236), (335, 504)), ((284, 504), (280, 504))],
)  # fmt: skip
def test_as_opencv(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int]
) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(0).integers(0, 256, (*before, 3)).astype(np.uint8)
    grows = after[0] > before[0] or after[1] > before[1]
    kernel = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    wanted = cv2.resize(pixels, after[::-1], interpolation=kernel).astype(int)
    monkeypatch.setattr(resampling, "_opencv", lambda: None)
    difference = np.abs(resample(pixels, *after).astype(int) - wanted)
    assert difference.max() <= (1 if grows else 0)
    assert (difference > 0).mean() <= 1e-4


def test_sizes() -> None:
    assert scaled_size(360, 640, 504) == (284, 504)  # 283.5 goes to even
    assert [nearest_multiple(side, 14) for side in (284, 7, 20, 21, 22)] == [280, 14, 14, 28, 28]


def test_images_of_the_asked_size_are_left_alone() -> None:
    exact = torch.rand(2, 3, 28, 42)
    for prepare in (DepthPreprocessor(42), DepthPreprocessor((28, 42))):
        assert torch.equal(prepare(exact).images, exact)
    assert not torch.equal(DepthPreprocessor(56)(exact).images[..., :28, :42], exact)


def test_different_shapes_share_their_middle() -> None:
    wide, high = torch.rand(3, 40, 80), torch.rand(3, 80, 80)
    cameras = torch.stack([Camera.from_focal(50.0, w=80, h=h) for h in (40, 80)])
    found = DepthPreprocessor(56)([wide, high], cameras, Pose.identity((2,)))
    assert found.images.shape == (2, 3, 28, 56)
    assert found.cameras is not None
    assert found.cameras.c.tolist() == [[28, 14], [28, 14]]
    assert found.cameras.f.tolist() == [[35, 35], [35, 35]]
    torch.testing.assert_close(found.in_input_pixels(found.cameras).packed(), cameras.packed())


def test_a_given_shape_is_cut_out_first() -> None:
    cameras = Camera.from_focal(50.0, w=100, h=80)[None]
    found = DepthPreprocessor((28, 28))([torch.rand(3, 80, 100)], cameras, Pose.identity((1,)))
    assert found.cameras is not None
    assert found.cameras.packed().tolist() == [[28, 28, 17.5, 17.5, 14, 14]]
    torch.testing.assert_close(found.in_input_pixels(found.cameras).packed(), cameras.packed())


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="multiples of 14, got 500"):
        DepthPreprocessor(500)
    with pytest.raises(ValueError, match="one scene at a time, got 2"):
        DepthPreprocessor(28)(torch.rand(2, 1, 3, 28, 28))
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        DepthPreprocessor(28)([torch.rand(3, 28, 28) * 255])
