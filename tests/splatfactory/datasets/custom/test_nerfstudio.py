"""transforms.json of nerfstudio, Blender and instant-ngp: axes, intrinsics, lenses, errors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from splatscenes.scene import GeneratedScene
from tests.splatfactory.datasets.custom.captures import FLIP, WriteCapture
from zipsplat.camera_estimation import nerfstudio
from zipsplat.camera_estimation.capture import Lens


def test_applied_transform_and_scale_are_undone(
    write_capture: WriteCapture, scene: GeneratedScene
) -> None:
    moved = np.array([[0, 1, 0, 2.0], [0, 0, 1, -1], [1, 0, 0, 3], [0, 0, 0, 1]])
    frames = []
    for view, pose in enumerate(scene.shot.world_from_camera):
        matrix = moved @ pose @ FLIP
        matrix[:3, 3] *= 0.25
        frames.append({"file_path": f"images/{view}.png", "transform_matrix": matrix.tolist()})
    folder = write_capture(frames=frames, applied_transform=moved[:3].tolist(), applied_scale=0.25)
    capture = nerfstudio.read(folder / "transforms.json")
    for photo, pose in zip(capture.photos, scene.shot.world_from_camera, strict=True):
        np.testing.assert_allclose(photo.world_from_camera, pose, atol=1e-9)


def test_intrinsics_of_frames_blender_and_ngp(write_capture: WriteCapture) -> None:
    frames = json.loads((write_capture("a") / "transforms.json").read_text())["frames"]
    frames[1] |= {"fl_x": 77.0, "k1": 0.1, "cx": 41.0}
    frames[2]["file_path"] = "images/2"
    folder = write_capture(
        "b", frames=frames, fl_x=None, fl_y=None, cx=None, cy=None, w=None, h=None,
        camera_angle_x=1.0,
    )  # fmt: skip
    first, second, third, _ = nerfstudio.read(folder / "transforms.json").photos
    focal = 40 / np.tan(0.5)
    assert first.lens == Lens("PINHOLE", 80, 60, (focal, focal, 40, 30))
    assert second.lens.packed == (77, 77, 41, 30)
    assert not first.lens.is_distorted
    assert second.lens.is_distorted
    assert third.path.name == "2.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": []}, "has no frames"),
        ({"frames": {"a": 1}}, "has no list `frames`"),
        ({"frames": [{"file_path": "images/0.png"}]}, "has no `transform_matrix`"),
        ({"frames": [{"file_path": "gone.png", "transform_matrix": 0}]}, "none of the 1 images"),
        ({"frames": [{"file_path": "images/0.png", "transform_matrix": [[1]]}]}, "4 x 4 matrix"),
        (
            {
                "frames": [
                    {"file_path": "images/0.png", "transform_matrix": (np.eye(4) * 2).tolist()}
                ]
            },
            "not a rotation and translation",
        ),
        ({"fl_x": None, "fl_y": None}, "no focal length"),
        ({"fl_x": -3.0}, "positive size and focal length"),
        ({"fl_x": "wide"}, "frame 0: could not convert"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR is not supported"),
        ({"applied_scale": 0.0}, "applied_scale must be positive"),
        ({"applied_scale": None}, "applied_scale must be positive"),
        ({"k4": 0.1}, "cannot have k4=0.1"),
        ({"camera_model": "OPENCV_FISHEYE", "p1": 0.1}, "cannot have p1=0.1"),
        ({"latlong": True}, "latlong is not supported"),
    ],
)
def test_faulty_transforms_are_explained(
    write_capture: WriteCapture, changes: dict[str, Any], message: str
) -> None:
    folder = write_capture(**changes)
    with pytest.raises(ValueError, match=message):
        nerfstudio.read(folder / "transforms.json")


@pytest.mark.parametrize(
    "model", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE", None]
)
def test_each_perspective_name_of_nerfstudio_means_opencv(
    write_capture: WriteCapture, model: str | None
) -> None:
    given = {"camera_model": model, "fl_x": 66.0, "fl_y": 67.0, "cx": 41.0, "cy": 29.0}
    bent = write_capture("bent", **given, k1=-0.1, k2=0.02, p1=0.003, p2=0.004)
    focal_and_center = (66.0, 67.0, 41.0, 29.0)
    lens = nerfstudio.read(bent / "transforms.json").photos[0].lens
    assert lens == Lens("OPENCV", 80, 60, (*focal_and_center, -0.1, 0.02, 0.003, 0.004))
    more = write_capture("more", **given, k1=-0.1, k3=0.05)
    lens = nerfstudio.read(more / "transforms.json").photos[0].lens
    full = (-0.1, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0)
    assert lens == Lens("FULL_OPENCV", 80, 60, (*focal_and_center, *full))
    straight = write_capture("straight", **given, k1=0.0)
    lens = nerfstudio.read(straight / "transforms.json").photos[0].lens
    assert lens == Lens("PINHOLE", 80, 60, focal_and_center)


@pytest.mark.parametrize("changes", [{"is_fisheye": True}, {"camera_model": "OPENCV_FISHEYE"}])
def test_fisheye_lenses_of_instant_ngp_and_nerfstudio(
    write_capture: WriteCapture, changes: dict[str, Any]
) -> None:
    folder = write_capture(**changes, fl_x=66.0, fl_y=67.0, cx=41.0, cy=29.0, k1=0.1, k4=0.04)
    lens = nerfstudio.read(folder / "transforms.json").photos[0].lens
    params = (66.0, 67.0, 41.0, 29.0, 0.1, 0.0, 0.0, 0.04)
    assert lens == Lens("OPENCV_FISHEYE", 80, 60, params)


def test_both_angles_of_view_give_focal_lengths(write_capture: WriteCapture) -> None:
    fx, fy = 40 / np.tan(0.5), 30 / np.tan(0.3)
    unknown = {"fl_x": None, "fl_y": None}
    for name, angles, expected in (
        ("both", {"camera_angle_x": 1.0, "camera_angle_y": 0.6}, (fx, fy)),
        ("y", {"camera_angle_y": 0.6}, (fy, fy)),
        ("mixed", {"fl_x": 50.0, "camera_angle_y": 0.6}, (50.0, fy)),
    ):
        folder = write_capture(name, **(unknown | angles))
        lens = nerfstudio.read(folder / "transforms.json").photos[0].lens
        assert lens.packed[:2] == pytest.approx(expected)


def test_frames_are_sorted_by_file_name(write_capture: WriteCapture, scene: GeneratedScene) -> None:
    folder = write_capture()
    content = json.loads((folder / "transforms.json").read_text())
    content["frames"] = [content["frames"][view] for view in (3, 0, 2, 1)]
    (folder / "images" / "3.png").rename(folder / "images" / "10.png")
    content["frames"][0]["file_path"] = "images/10.png"
    (folder / "transforms.json").write_text(json.dumps(content))
    photos = nerfstudio.read(folder / "transforms.json").photos
    assert [photo.path.name for photo in photos] == ["0.png", "1.png", "2.png", "10.png"]
    for photo, pose in zip(photos, scene.shot.world_from_camera, strict=True):
        np.testing.assert_allclose(photo.world_from_camera, pose, atol=1e-9)
