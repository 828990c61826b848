"""Preparation of images with their cameras and poses."""

from __future__ import annotations

import pytest
import torch

from zipsplat.camera import Camera
from zipsplat.images import to_square
from zipsplat.pose import Pose
from zipsplat.preprocess import Preprocessor


def random_images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, h, w, generator=generator) for h, w in sizes]


def cameras_of(images: list[torch.Tensor]) -> Camera:
    return torch.stack(
        [Camera.from_focal(50.0 + i, w=p.shape[-1], h=p.shape[-2]) for i, p in enumerate(images)]
    )


def test_list_of_any_sizes() -> None:
    images = random_images((37, 61), (61, 37), (28, 28))
    inputs = Preprocessor(28)(images)
    assert inputs.images.shape == (1, 3, 3, 28, 28)
    assert inputs.cameras is None
    assert inputs.poses is None
    for prepared, image in zip(inputs.images[0], images, strict=True):
        torch.testing.assert_close(prepared, to_square(image, 28), rtol=0, atol=0)
    assert inputs.images.dtype == torch.float32


def test_tensors_of_one_scene_and_of_several() -> None:
    views = torch.stack(random_images((20, 30), (20, 30)))
    one = Preprocessor(28)(views).images
    several = Preprocessor(28)(torch.stack((views, views.flip(0)))).images
    assert one.shape == (1, 2, 3, 28, 28)
    torch.testing.assert_close(several[0], one[0], rtol=0, atol=0)
    torch.testing.assert_close(several[1], one[0].flip(0), rtol=0, atol=0)


def test_other_shapes_keep_the_aspect_ratio() -> None:
    image = torch.zeros(3, 60, 120)
    image[:, :, 30:90] = 1  # what a square crop would keep
    inputs = Preprocessor((28, 56))([image])
    assert inputs.images.shape == (1, 1, 3, 28, 56)
    assert inputs.images[0, 0, :, :, :10].max() == 0


@pytest.mark.parametrize(("height", "width"), [(37, 61), (61, 37), (40, 60), (28, 28), (33, 32)])
@pytest.mark.parametrize("target", [28, (28, 42)])
def test_cameras_follow_the_pixels(height: int, width: int, target: int | tuple[int, int]) -> None:
    """A bright pixel is found where the adjusted camera projects the same point.

    Its centroid after resampling tells the mapping to a fraction of a pixel; half a pixel of error
    in the crop would show.
    """
    preprocess = Preprocessor(target)
    camera = Camera.from_focal(55.0, 47.0, w=width, h=height, cx=width * 0.45, cy=height * 0.6)
    column, row = width // 2, height // 2
    image = torch.zeros(3, height, width)
    image[:, row, column] = 1.0
    inputs = preprocess([image], cameras=camera[None])
    assert inputs.cameras is not None
    point = camera.unproject(torch.tensor([[column + 0.5, row + 0.5]]), torch.tensor([2.0]))
    expected = inputs.cameras[0, 0].project(point)[0]
    weight = inputs.images[0, 0, 0]
    ys, xs = torch.meshgrid(
        torch.arange(preprocess.height) + 0.5, torch.arange(preprocess.width) + 0.5, indexing="ij"
    )
    found = torch.stack(((weight * xs).sum(), (weight * ys).sum())) / weight.sum()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.12)
    assert inputs.cameras.size[0, 0].tolist() == [preprocess.width, preprocess.height]


def test_camera_adjustment_by_hand() -> None:
    # 61 wide, 36 high to a square: 12 columns go on the left and 13 on the right.
    camera = Camera.from_focal(100.0, w=61, h=36, cx=30.0, cy=20.0)
    inputs = Preprocessor(72, multiple=36)(random_images((36, 61)), cameras=[camera])
    assert inputs.cameras is not None
    assert inputs.cameras[0, 0].packed().tolist() == [72, 72, 200, 200, 36, 40]


def test_lists_of_cameras_and_poses() -> None:
    images = random_images((20, 30), (30, 20))
    cameras = cameras_of(images)
    poses = Pose.identity((2,))
    as_batch = Preprocessor(28)(images, cameras, poses)
    as_lists = Preprocessor(28)(images, [cameras[0], cameras[1]], [poses[0], poses[1]])
    assert as_batch.cameras is not None
    assert as_lists.cameras is not None
    assert as_lists.poses is not None
    assert as_lists.poses.shape == (1, 2)
    torch.testing.assert_close(as_lists.cameras.packed(), as_batch.cameras.packed())


@pytest.mark.parametrize("size", [251, 0, -14, (252, 250), (252,), (28, 28, 28), 13])
def test_image_size_is_checked(size: object) -> None:
    with pytest.raises(ValueError, match="multiple of 14"):
        Preprocessor(size)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "at least one"),
        (torch.zeros(0, 3, 9, 9), ValueError, "at least one"),
        (torch.zeros(0, 2, 3, 9, 9), ValueError, "at least one"),
        (torch.zeros(2, 0, 3, 9, 9), ValueError, "at least one"),
        (torch.zeros(3, 9, 9), ValueError, r"pass a list: \[image\]"),
        ("photo.jpg", TypeError, "load_image"),
        (["photo.jpg"], TypeError, "load_image"),
        ([torch.zeros(9, 9, 3)], ValueError, "channels first"),
        ([torch.zeros(4, 9, 9)], ValueError, "channels first"),
        ([torch.zeros(1, 9, 9)], ValueError, "channels first"),
        ([torch.zeros(9, 9)], ValueError, "channels first"),
        ([torch.zeros(3, 0, 9)], ValueError, "channels first"),
        ([torch.zeros(3, 9, 9, dtype=torch.uint8)], TypeError, "by 255"),
        ([torch.full((3, 9, 9), 200.0)], ValueError, "divide by 255"),
        ([torch.full((3, 9, 9), -0.5)], ValueError, r"in \[0, 1\]"),
        ([torch.full((3, 9, 9), torch.nan)], ValueError, r"in \[0, 1\]"),
        ([torch.zeros(3, 9, 9), torch.full((3, 9, 9), 1.5)], ValueError, "image 1"),
    ],
)
def test_bad_images(images: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Preprocessor(28)(images)  # type: ignore[arg-type]


def test_one_nan_pixel_is_found() -> None:
    image = torch.zeros(3, 30, 30)
    image[1, 7, 7] = torch.nan
    with pytest.raises(ValueError, match="image 0"):
        Preprocessor(28)([image])


def test_cameras_of_another_size_are_refused() -> None:
    images = random_images((20, 30), (20, 30))
    cameras = cameras_of(images)
    Preprocessor(28)(images, cameras.scale(2.0).scale(0.5))
    with pytest.raises(ValueError, match=r"image 0 has 30×20 pixels.*says 60×40"):
        Preprocessor(28)(images, cameras.scale(2.0))
    turned = Camera.from_packed(cameras.packed()[:, [1, 0, 2, 3, 4, 5]])
    with pytest.raises(ValueError, match=r"says 20×30"):
        Preprocessor(28)(images, turned)
    broken = Camera.from_packed(cameras.packed() * torch.tensor([1, 1, torch.nan, 1, 1, 1]))
    with pytest.raises(ValueError, match="finite"):
        Preprocessor(28)(images, broken)


def test_numbers_of_cameras_and_poses_must_fit() -> None:
    images = torch.stack(random_images((20, 20), (20, 20)))
    with pytest.raises(ValueError, match=r"one Pose per image.*\(1, 2\) or \(2,\), got \(3,\)"):
        Preprocessor(28)(images, poses=Pose.identity((3,)))
    with pytest.raises(ValueError, match=r"\(2, 2\), got \(2,\)"):  # no silent broadcasting
        Preprocessor(28)(torch.stack((images, images)), poses=Pose.identity((2,)))
    with pytest.raises(ValueError, match=r"\(2, 2\), got \(1, 2\)"):
        Preprocessor(28)(torch.stack((images, images)), poses=Pose.identity((1, 2)))


def test_poses_must_be_rotations() -> None:
    packed = Pose.identity((1,)).packed() * 2
    with pytest.raises(ValueError, match="orthonormal"):
        Preprocessor(28)(random_images((20, 20)), poses=Pose.from_packed(packed))
