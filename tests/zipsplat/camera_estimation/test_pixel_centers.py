"""Where something lies in a photo is where its pixels are, from the lens to half-size views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.camera_estimation.capture import Lens
from zipsplat.camera_estimation.colmap import undistort, undistort_points
from zipsplat.camera_estimation.undistortion import shrunk, to_bytes, to_image
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages
from zipsplat.refinement.views import views_of

WIDTH, HEIGHT = 212, 120
SPOTS = [(40.3, 31.8), (106.0, 60.0), (171.6, 88.1)]
TOLERANCE = 0.05  # pixels; half a pixel is what goes wrong


def spot(x: float, y: float) -> Tensor:
    """(3, H, W): a soft spot around (x, y), where the first pixel's centre is (0.5, 0.5)."""
    columns, rows = torch.arange(WIDTH) + 0.5 - x, torch.arange(HEIGHT) + 0.5 - y
    bright = torch.exp(-(columns**2 + rows[:, None] ** 2) / (2 * 4.0**2))
    return bright.expand(3, HEIGHT, WIDTH)


def center(image: Tensor) -> Tensor:
    """(2,) centroid of an image of a spot."""
    bright = image.mean(dim=0)
    height, width = bright.shape
    x = (bright.sum(dim=0) * (torch.arange(width) + 0.5)).sum()
    y = (bright.sum(dim=1) * (torch.arange(height) + 0.5)).sum()
    return torch.stack((x, y)) / bright.sum()


@pytest.mark.parametrize("place", SPOTS)
def test_straight_images_agree_with_straight_points(place: tuple[float, float]) -> None:
    pytest.importorskip("pycolmap")
    lens = Lens("SIMPLE_RADIAL", WIDTH, HEIGHT, (150.0, WIDTH / 2, HEIGHT / 2, -0.03))
    pixels, pinhole = undistort(to_bytes(spot(*place)), lens)
    wanted = undistort_points(np.array([place], np.float32), lens, pinhole)[0]
    found = center(to_image(pixels))
    np.testing.assert_allclose(found.numpy(), wanted, atol=TOLERANCE)


@pytest.mark.parametrize("place", SPOTS)
@pytest.mark.parametrize("max_side", [160, 106])
def test_smaller_images_agree_with_their_cameras(place: tuple[float, float], max_side: int) -> None:
    camera = Camera.from_focal(torch.tensor([150.0]), w=WIDTH, h=HEIGHT)
    ray = torch.tensor([[(place[0] - WIDTH / 2) / 150, (place[1] - HEIGHT / 2) / 150, 1.0]])
    photos = PosedImages((spot(*place),), camera, Pose.identity((1,)), ("spot",))
    small = photos.resized(max_side)
    wanted = small.cameras[0].project(ray)[0]
    torch.testing.assert_close(center(small.images[0]), wanted, atol=TOLERANCE, rtol=0)
    as_bytes = to_image(shrunk(to_bytes(spot(*place)), max_side))
    torch.testing.assert_close(center(as_bytes), wanted, atol=TOLERANCE, rtol=0)
    (view,) = views_of(small, [0], torch.device("cpu"))
    half = view.halved()
    seen = (half.K @ ray[0])[:2]
    torch.testing.assert_close(center(half.image), seen, atol=TOLERANCE, rtol=0)
