"""Cameras that lie beside a saved scene, and pages that start from them."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from zipsplat import Gaussians, Pose
from zipsplat.camera_estimation import cameras_json
from zipsplat.camera_estimation.capture import Lens
from zipsplat.camera_estimation.scene_cameras import cameras_beside, read_scene_cameras
from zipsplat.cli import main
from zipsplat.trajectories import CameraPath, save_camera_path

LENSES = (
    Lens("PINHOLE", 640, 480, (500.0, 510.0, 320.0, 240.0)),
    Lens("PINHOLE", 480, 640, (600.0, 600.0, 230.0, 300.0)),
)


def poses() -> Pose:
    return Pose.orbit(torch.tensor([0.0, 0, 3]), 3.0, torch.tensor([0.0, 40]), torch.tensor(10.0))


def write_cameras(folder: Path) -> Path:
    path = folder / "cameras.json"
    matrices = [np.asarray(matrix, float) for matrix in poses().Rt]
    cameras_json.write(path, ["photos/a.jpg", "<b>.jpg"], LENSES, matrices)
    return path


def test_cameras_are_read_without_their_photos(tmp_path: Path) -> None:
    found = read_scene_cameras(write_cameras(tmp_path))
    assert found.names == ("a.jpg", "<b>.jpg")
    assert found.cameras.packed().tolist() == [
        [640, 480, 500, 510, 320, 240],
        [480, 640, 600, 600, 230, 300],
    ]
    torch.testing.assert_close(found.poses.Rt, poses().Rt)


def test_they_lie_beside_the_scene_or_in_the_folder_of_the_run(tmp_path: Path) -> None:
    scene = tmp_path / "point_cloud" / "iteration_7000" / "point_cloud.ply"
    scene.parent.mkdir(parents=True)
    assert cameras_beside(scene) is None
    write_cameras(tmp_path)
    found = cameras_beside(scene)
    assert found is not None
    assert len(found.names) == 2
    assert cameras_beside(tmp_path / "scene.ply") is not None
    own = tmp_path / "other.cameras.json"
    cameras_json.write(own, ["only.jpg"], LENSES[:1], [np.eye(4)])
    assert cameras_beside(tmp_path / "other.compressed.ply").names == ("only.jpg",)  # type: ignore[union-attr]
    assert cameras_beside(tmp_path / "point_cloud" / "scene.ply") is None


def test_files_of_another_kind_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for content in ('{"world_from_camera": []}', "junk", '[{"img_name": "a"}]'):
        (tmp_path / "cameras.json").write_text(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert cameras_beside(tmp_path / "scene.ply") is None
        assert "cameras.json" in caplog.text
        with pytest.raises(ValueError, match=r"cameras\.json"):
            read_scene_cameras(tmp_path / "cameras.json")


def test_they_move_with_the_scene(tmp_path: Path) -> None:
    found = read_scene_cameras(write_cameras(tmp_path))
    point = torch.tensor([[0.3, -0.2, 2.5]])
    g = Gaussians.from_parameters(
        point, torch.ones(1, 3), torch.eye(4)[:1], torch.ones(1), torch.zeros(1, 1, 3)
    )
    motion = Pose.orbit(torch.zeros(3), 2.0, torch.tensor(70.0), torch.tensor(20.0))
    there = g.transform(motion, scale=3.0).means[0]
    moved = found.transform(motion, scale=3.0)
    for before, after in zip(found.poses, moved.poses, strict=True):
        seen = before.inv().transform(point[0])
        torch.testing.assert_close(after.inv().transform(there), 3 * seen, atol=1e-5, rtol=0)


@pytest.mark.parametrize("how", [(), ("--transform", "y-up")])
def test_converted_pages_start_at_the_first_photo(tmp_path: Path, how: tuple[str, ...]) -> None:
    means = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    g = Gaussians.from_parameters(
        means + torch.tensor([0.0, 0, 3]), torch.full((50, 3), 0.1), torch.eye(4)[[0] * 50],
        torch.full((50,), 0.9), torch.zeros(50, 1, 3),
    )  # fmt: skip
    g.save(tmp_path / "scene.ply")
    write_cameras(tmp_path)
    page = tmp_path / "page.html"
    assert main(["convert", str(tmp_path / "scene.ply"), str(page), *how]) == 0
    text = page.read_text(encoding="utf-8")
    config = json.loads(re.search(r'id="config">(.*?)</script>', text)[1])  # type: ignore[index]
    assert [photo["name"] for photo in config["photos"]] == ["a.jpg", "<b>.jpg"]
    # The scene is 3 in front of the first photo, wherever the whole was turned to.
    assert config["start"]["distance"] == pytest.approx(3, abs=0.3)
    (tmp_path / "cameras.json").unlink()
    assert main(["convert", str(tmp_path / "scene.ply"), str(page), *how, "--overwrite"]) == 0
    assert '"photos": []' in page.read_text(encoding="utf-8")


def test_a_converted_page_plays_what_was_asked_for(tmp_path: Path, capsys) -> None:
    g = Gaussians.from_parameters(
        torch.tensor([[0.0, 0, 3]]).repeat(9, 1), torch.full((9, 3), 0.1),
        torch.eye(4)[[0] * 9], torch.full((9,), 0.9), torch.zeros(9, 1, 3),
    )  # fmt: skip
    g.save(tmp_path / "scene.ply")
    scene, page = str(tmp_path / "scene.ply"), tmp_path / "page.html"

    def config(*more: str) -> dict:
        assert main(["convert", scene, str(page), "--overwrite", *more]) == 0
        found = re.search(r'id="config">(.*?)</script>', page.read_text(encoding="utf-8"))
        return json.loads(found[1])  # type: ignore[index]

    assert config()["autoplay"] is True
    assert config()["path"] is None
    assert config("--autoplay", "off")["autoplay"] is False
    assert main(["convert", scene, str(page), "--overwrite", "--autoplay", "photos"]) == 1
    assert "no cameras beside" in capsys.readouterr().err
    path = tmp_path / "path.json"
    keys = Pose.orbit(torch.tensor([0.0, 0, 3]), 3.0, torch.arange(0.0, 90, 30))
    save_camera_path(CameraPath(keys, 50.0), path)
    for how in ((), ("--transform", "y-up")):
        own = config("--autoplay", str(path), *how)
        sign = -1 if how else 1
        for view, key in zip(own["path"][::6], keys.t.tolist(), strict=False):
            spz = [key[0], -sign * key[1], -sign * key[2]]
            assert view["position"] == pytest.approx(spz, abs=1e-5)
        assert [one["name"] for one in own["photos"]] == ["view 1", "view 2", "view 3"]
    write_cameras(tmp_path)
    assert len(config("--autoplay", "photos")["path"]) == 12
    assert main(["convert", scene, str(page), "--overwrite", "--autoplay", "never.json"]) == 1
    assert "never.json" in capsys.readouterr().err
