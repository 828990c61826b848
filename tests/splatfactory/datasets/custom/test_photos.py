"""Photos as they are stored: cropped, shrunk, turned, undistorted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from splatfactory.datasets.scripts.custom.photos import encode_photo
from splatscenes.interiors import playroom
from splatscenes.scene import generate_scene
from tests.splatfactory.datasets.custom.captures import decoded
from zipsplat.camera_estimation.capture import Lens, Photo
from zipsplat.camera_estimation.focal import Focal, noted_focal


def saved_photo(path: Path, lens: Lens, pixels: np.ndarray, **options: Any) -> Photo:
    Image.fromarray(pixels).save(path, **options)
    return Photo(path, lens, np.eye(4))


def test_principal_points_move_to_the_middle(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    photo = saved_photo(tmp_path / "a.png", Lens("PINHOLE", 80, 60, (70, 71, 37, 33)), pixels)
    data, row = encode_photo(photo, None)
    np.testing.assert_allclose(row, [74, 54, 70, 71, 37, 27])
    np.testing.assert_array_equal(decoded(data), pixels[6:60, 0:74])
    far = saved_photo(tmp_path / "b.png", Lens("PINHOLE", 80, 60, (70, 70, 5, 30)), pixels)
    with pytest.raises(ValueError, match="far from the centre"):
        encode_photo(far, None)


def test_large_photos_shrink_with_their_lens(tmp_path: Path) -> None:
    pixels = np.full((60, 80, 3), 90, dtype=np.uint8)
    photo = saved_photo(tmp_path / "a.png", Lens("PINHOLE", 160, 120, (140, 140, 80, 60)), pixels)
    data, row = encode_photo(photo, 40)
    np.testing.assert_allclose(row, [40, 30, 35, 35, 20, 15])
    assert decoded(data).shape == (30, 40, 3)
    wrong = Photo(photo.path, Lens("PINHOLE", 100, 100, (90, 90, 50, 50)), np.eye(4))
    with pytest.raises(ValueError, match="has 80 x 60 pixels, its camera 100 x 100"):
        encode_photo(wrong, None)


def test_turned_photos_follow_the_shape_of_their_lens(tmp_path: Path) -> None:
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[:, :40] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    path = tmp_path / "a.png"
    stored = saved_photo(path, Lens("PINHOLE", 80, 60, (70, 70, 40, 30)), pixels, exif=exif)
    np.testing.assert_array_equal(decoded(encode_photo(stored, None)[0]), pixels)
    shown = Photo(path, Lens("PINHOLE", 60, 80, (70, 70, 30, 40)), np.eye(4))
    data, row = encode_photo(shown, None)
    np.testing.assert_array_equal(decoded(data), np.rot90(pixels, -1))
    np.testing.assert_allclose(row[:2], [60, 80])


def test_focal_length_is_read_from_the_notes_of_photos(tmp_path: Path) -> None:
    for focal, expected in ((27, Focal(0.75)), (50, Focal(50 / 36)), (0, Focal()), (1, Focal())):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = focal
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
        assert noted_focal(tmp_path / "a.jpg") == expected
    (tmp_path / "text.jpg").write_text("no image")
    assert noted_focal(tmp_path / "text.jpg") == Focal()
    assert Focal.from_35mm(24) == Focal(2 / 3, is_certain=True)
    with pytest.raises(ValueError, match="between 5 and 2000 mm, got 0"):
        Focal.from_35mm(0)


def test_distortion_is_taken_out(tmp_path: Path) -> None:
    """An image is bent by the lens model and must come back straight."""
    pycolmap = pytest.importorskip("pycolmap")
    scene = generate_scene("example", 0, 1, 2, (120, 160), (playroom,))
    straight = np.asarray(Image.fromarray(scene.render(0)[0]).filter(ImageFilter.GaussianBlur(2)))
    focal = 100.0  # of the bent lens; where the image comes from does not matter
    lens = Lens("OPENCV", 160, 120, (focal, focal, 80, 60, -0.2, 0.02, 0.0, 0.0))
    camera = pycolmap.Camera(model="OPENCV", width=160, height=120, params=list(lens.params))
    v, u = np.mgrid[:120, :160] + 0.5
    rays = camera.cam_from_img(np.stack([u, v], -1).reshape(-1, 2))
    x = (rays[:, 0] * focal + 80 - 0.5).reshape(120, 160)
    y = (rays[:, 1] * focal + 60 - 0.5).reshape(120, 160)
    bent = straight[y.round().astype(int).clip(0, 119), x.round().astype(int).clip(0, 159)]
    photo = saved_photo(tmp_path / "bent.png", lens, bent)
    data, row = encode_photo(photo, None)
    result = decoded(data).astype(int)
    width, height, fx, fy, cx, cy = row
    assert abs(cx - width / 2) < 1
    assert abs(cy - height / 2) < 1
    v, u = np.mgrid[: int(height), : int(width)] + 0.5
    x = ((u - cx) / fx * focal + 80 - 0.5).round().astype(int)
    y = ((v - cy) / fy * focal + 60 - 0.5).round().astype(int)
    inside = (x > 12) & (x < 147) & (y > 9) & (y < 110)  # nothing was lost there by bending
    gap = np.abs(result[inside] - straight[y[inside], x[inside]]).mean()
    unbent = np.abs(bent.astype(int) - straight)[10:110, 12:147].mean()
    assert gap < 0.4 * unbent
