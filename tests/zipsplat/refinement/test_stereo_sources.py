"""Which views are compared by stereo."""

from __future__ import annotations

import numpy as np
import torch

from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages, SparsePoints
from zipsplat.refinement.stereo_sources import NUM_SOURCES, choose_sources

FOCAL, WIDTH, HEIGHT = 96.0, 32, 24


def photos_from(poses: Pose) -> PosedImages:
    """Empty photos of a narrow field of view; the first sees nine points at depth 1."""
    (V,) = poses.shape
    cameras = Camera.from_focal(torch.full((V,), FOCAL), w=WIDTH, h=HEIGHT)
    x, y = np.meshgrid([-0.1, 0.0, 0.1], [-0.1, 0.0, 0.1])
    local = torch.from_numpy(np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3)).float()
    num = len(local)
    points = SparsePoints(
        positions=poses[0].transform(local).numpy(),
        colors=np.zeros((num, 3), np.float32),
        errors=np.zeros(num, np.float32),
        offsets=np.arange(num + 1),
        views=np.zeros(num, np.int64),
        pixels=cameras[0].project(local).numpy(),
    )
    images = tuple(torch.zeros(3, HEIGHT, WIDTH) for _ in range(V))
    return PosedImages(images, cameras, poses, tuple(f"{view}.png" for view in range(V)), points)


def test_sources_have_triangulation_angles_near_six_degrees() -> None:
    degrees = [0.0, 0.5, 5.0, 7.0, 20.0, 60.0, 1.0, 90.0, 6.0]
    photos = photos_from(Pose.orbit(torch.zeros(3), 1.0, degrees))
    chosen = choose_sources(photos, 0)
    assert chosen[:2] == [8, 2]
    assert set(chosen) == {8, 2, 3, 4, 6, 1}
    assert len(chosen) == NUM_SOURCES


def test_all_of_the_image_has_a_source() -> None:
    # The image is 1/3 wide. Seven cameras see its right half alone, under better angles than the
    # one that sees the left half.
    right = [0.130 + 0.002 * index for index in range(7)]
    centers = torch.zeros(9, 3)
    centers[:, 0] = torch.tensor([0.0, *right, -0.22])
    photos = photos_from(Pose(torch.eye(3).expand(9, 3, 3), centers))
    assert 8 in choose_sources(photos, 0)[:3]


def test_two_photos_are_each_others_source() -> None:
    centers = torch.tensor([[0.0, 0, 0], [0.1, 0, 0]])
    photos = photos_from(Pose(torch.eye(3).expand(2, 3, 3), centers))
    assert choose_sources(photos, 0) == [1]
    assert choose_sources(photos, 1) == [0]
