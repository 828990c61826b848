from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.predictor import ZipSplat
from zipsplat.trajectories import CameraPath, save_camera_path
from zipsplat.viewer.photo_source import PhotoSource, load_photos, names_scene_file
from zipsplat.viewer.reconstruction import Photos, Reconstruction, recompress, reconstruct

PEOPLE = Path(__file__).parents[2] / "files_of_people"


def no_report(*_: int) -> None:
    pass


def no_stage(_: str) -> Any:
    return no_report


def test_another_compression_runs_no_backbone_and_gives_the_same_scene(
    tiny: ZipSplat, images: tuple[torch.Tensor, ...], backbone: Any
) -> None:
    scene = reconstruct(tiny, Photos(images), 1.0, no_stage)
    assert backbone.num_runs == 1
    assert scene.gaussians.num_gaussians == 3 * 4 * 32
    half = recompress(tiny, scene, 0.5, no_stage)
    full = recompress(tiny, half, 1.0, no_stage)
    assert backbone.num_runs == 1
    assert half.gaussians.num_gaussians == 6 * 32
    assert half.group_size == 32
    assert half.encode_s == scene.encode_s
    assert torch.equal(full.gaussians.means, scene.gaussians.means)
    fresh = tiny(list(images), compression=0.5)[0]
    torch.testing.assert_close(half.gaussians.packed(), fresh.packed())


def test_scenes_from_files_cannot_be_recompressed(tiny: ZipSplat) -> None:
    scene = Gaussians.from_packed(torch.ones(4, 14))
    with pytest.raises(ValueError, match="from a file"):
        recompress(tiny, Reconstruction(scene), 0.5, no_stage)


def test_given_cameras_are_used(tiny: ZipSplat, images: tuple[torch.Tensor, ...]) -> None:
    poses = Pose.orbit(torch.tensor([0.0, 0.0, 3.0]), 2.0, [0, 10, 20])
    camera = Camera.from_fov(1.0, w=40, h=30)
    cameras = torch.stack([camera] * 3)  # type: ignore[list-item]
    given = Photos(images, cameras, poses)  # type: ignore[arg-type]
    scene = reconstruct(tiny, given, 1.0, no_stage)
    wanted = tiny(list(images), cameras, poses, use_priors=True)[0]  # type: ignore[arg-type]
    assert torch.equal(scene.gaussians.means, wanted.means)
    without = tiny(list(images))[0]
    assert not torch.equal(scene.gaussians.means, without.means)
    relative = given.relative_poses()
    assert relative is not None
    torch.testing.assert_close(relative.Rt[0], torch.eye(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(relative.Rt[1], poses[0].Rt_inv @ poses[1].Rt)
    more = given.plus(images[:1])
    assert len(more.images) == 4
    assert more.poses is None
    assert more.cameras is None


def test_load_photos(tmp_path: Path) -> None:
    for index in range(30):
        Image.new("RGB", (40, 30), (index, 0, 0)).save(tmp_path / f"img{index}.png")
    folder = (str(tmp_path),)
    photos = load_photos(PhotoSource(folder), no_report)
    assert len(photos.images) == 30  # the number of frames is one of videos
    poses = Pose.orbit(torch.zeros(3), 2.0, list(range(30)))
    cameras = str(tmp_path / "cameras.json")
    save_camera_path(CameraPath(poses, 70.0), cameras)
    with_cameras = load_photos(PhotoSource(folder, cameras), no_report)
    assert with_cameras.cameras is not None
    assert with_cameras.poses is not None
    torch.testing.assert_close(with_cameras.cameras.hfov.rad2deg(), torch.full((30,), 70.0))
    torch.testing.assert_close(with_cameras.poses.Rt, poses.Rt)
    save_camera_path(CameraPath(poses[:2], 70.0), cameras)
    with pytest.raises(ValueError, match=r"cameras\.json: wanted 30 poses.*got 2"):
        load_photos(PhotoSource(folder, cameras), no_report)
    save_camera_path(CameraPath(poses), cameras)
    (tmp_path / "img7.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"img7\.png"):
        load_photos(PhotoSource(folder), no_report)
    assert len(load_photos(PhotoSource(folder, skip_bad=True), no_report).images) == 29
    (tmp_path / "img7.png").unlink()
    save_camera_path(CameraPath(poses[:29]), cameras)
    with pytest.raises(ValueError, match=r"a fov_deg"):
        load_photos(PhotoSource(folder, cameras), no_report)


def test_scene_files(tmp_path: Path) -> None:
    assert names_scene_file("a.ply")
    assert names_scene_file("A.SPZ")
    assert not names_scene_file("a.mp4")
    (tmp_path / "photos.ply").mkdir()
    shutil.copy(PEOPLE / "c03_compressed_named.ply", tmp_path / "scene.bin")
    assert names_scene_file(str(tmp_path / "scene.bin"))
    assert not names_scene_file(str(tmp_path / "photos.ply"))
