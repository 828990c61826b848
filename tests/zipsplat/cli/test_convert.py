"""`zipsplat convert`."""

import json

import numpy as np
import pytest
import torch

from tests.zipsplat.cli.commands import PEOPLE, result, run
from zipsplat import Gaussians


def test_formats_are_converted(scene, tmp_path):
    for name in ("a.spz", "b.splat", "c.compressed.ply"):
        assert run("convert", scene, tmp_path / name) == 0
        assert Gaussians.load(tmp_path / name).num_gaussians == 3
    assert run("convert", tmp_path / "a.spz", tmp_path / "again.ply") == 0
    again, before = Gaussians.load(tmp_path / "again.ply").means, Gaussians.load(scene).means
    nearest = torch.cdist(before, again).min(dim=1)  # formats may reorder
    assert nearest.values.max() < 1e-3
    assert sorted(nearest.indices.tolist()) == [0, 1, 2]


def test_scenes_are_pruned_on_the_way(scene, tmp_path, capsys):
    arguments = ("--prune-opacity", 0.05, "--max-gaussians", 1, "--sh-degree", 0, "--json")
    assert run("convert", scene, tmp_path / "a.ply", *arguments) == 0
    data = result(capsys)
    assert (data["gaussians_before"], data["gaussians"], data["sh_degree"]) == (3, 1, 0)
    assert run("convert", scene, tmp_path / "b.ply", "--prune-opacity", 0.99) == 1
    assert "--prune-opacity removes all 3 Gaussians" in capsys.readouterr().err


def test_scenes_are_turned_on_the_way(scene, tmp_path):
    before = Gaussians.load(scene).means
    assert run("convert", scene, tmp_path / "a.ply", "--transform", "y-up") == 0
    flipped = before * torch.tensor([1.0, -1, -1])
    torch.testing.assert_close(Gaussians.load(tmp_path / "a.ply").means, flipped)
    assert run("convert", scene, tmp_path / "z.ply", "--transform", "z-up") == 0
    upright = torch.stack([before[:, 0], before[:, 2], -before[:, 1]], 1)
    torch.testing.assert_close(Gaussians.load(tmp_path / "z.ply").means, upright)
    doubled = "[[2,0,0,1],[0,2,0,0],[0,0,2,0],[0,0,0,1]]"
    (tmp_path / "m.json").write_text(doubled)
    for number, how in enumerate((doubled, tmp_path / "m.json")):
        out = tmp_path / f"b{number}.ply"
        assert run("convert", scene, out, "--transform", how) == 0
        scaled = Gaussians.load(out)
        torch.testing.assert_close(scaled.means, before * 2 + torch.tensor([1.0, 0, 0]))
        torch.testing.assert_close(scaled.scales, torch.full((3, 3), 0.4))


@pytest.mark.parametrize(
    "how",
    ["up", "[[1]]", "[1, 2", "[[1,0,0,0],[0,1,0,0],[0,0,-1,0],[0,0,0,1]]", "{}", "[[[0]]]",
     "[[0,0,0,0],[0,0,0,0],[0,0,0,0],[0,0,0,1]]", "[[2,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]"],
)  # fmt: skip
def test_transforms_that_are_none(scene, tmp_path, capsys, how):
    assert run("convert", scene, tmp_path / "a.ply", "--transform", how) == 1
    assert "--transform takes" in capsys.readouterr().err
    assert not (tmp_path / "a.ply").exists()


def test_what_was_left_out_is_said_once(tmp_path, capsys, caplog):
    assert run("convert", PEOPLE / "p17_one_zero_quat.ply", tmp_path / "a.ply") == 0
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "p17_one_zero_quat.ply: left out 1 of 40 Gaussians" in messages[0]


def test_an_empty_scene_is_described_as_empty(tmp_path, capsys):
    assert run("convert", PEOPLE / "p19_zero_vertices.ply", tmp_path / "a.ply") == 1
    words = capsys.readouterr().err
    assert "p19_zero_vertices.ply: there are no Gaussians in this file" in words
    assert "--prune" not in words


def test_scenes_are_cleaned_on_the_way_and_each_step_is_counted(tmp_path, capsys):
    base, out = PEOPLE / "base_sh1.ply", tmp_path / "a.ply"
    assert run("convert", base, out, "--crop", "-1,-1,-5,5,5,5", "--decimate", "0.5", "--json") == 0
    steps = result(capsys)["steps"]
    assert [step["step"] for step in steps] == ["--crop", "--decimate"]
    assert [(step["before"], step["after"]) for step in steps] == [(40, 28), (28, 14)]
    assert (Gaussians.load(out).means >= -5).all()
    assert run("convert", base, out, "--crop", "0,0,0,1.5", "--overwrite") == 0
    assert (Gaussians.load(out).means.norm(dim=-1) <= 1.5).all()
    assert "--crop: 40 → " in capsys.readouterr().out
    assert run("convert", base, tmp_path / "b.ply", "--crop", "90,90,90,1") == 1
    assert "--crop removes all 40 Gaussians" in capsys.readouterr().err


def test_cameras_beside_a_scene_go_with_it_and_move_with_it(scene, tmp_path, capsys, caplog):
    entry = {
        "id": 0, "img_name": "a.png", "width": 40, "height": 30, "position": [1, 2, 3],
        "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "fx": 50.0, "fy": 50.0,
    }  # fmt: skip
    (tmp_path / "cameras.json").write_text(json.dumps([entry]))
    assert run("convert", scene, tmp_path / "same.spz") == 0  # in the same folder: nothing to do
    assert run("convert", scene, tmp_path / "new" / "a.spz") == 0
    assert str(tmp_path / "new" / "cameras.json") in capsys.readouterr().out
    (kept,) = json.loads((tmp_path / "new" / "cameras.json").read_text())
    assert kept["position"] == [1, 2, 3]
    how = "[[0,-2,0,5],[2,0,0,0],[0,0,2,0],[0,0,0,1]]"  # twice the size, a quarter turn, 5 along x
    assert run("convert", scene, tmp_path / "turned" / "a.ply", "--transform", how) == 0
    (moved,) = json.loads((tmp_path / "turned" / "cameras.json").read_text())
    assert moved["position"] == pytest.approx([-4 + 5, 2, 6])
    np.testing.assert_allclose(moved["rotation"], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    assert run("convert", scene, tmp_path / "new" / "b.spz") == 1  # other cameras are not replaced
    assert "cameras.json: already exists" in capsys.readouterr().err
    assert not (tmp_path / "new" / "b.spz").exists()
    (tmp_path / "cameras.json").write_text("[1]")
    assert run("convert", scene, tmp_path / "third" / "b.spz") == 0
    assert "left behind: " in caplog.text
    assert not (tmp_path / "third" / "cameras.json").exists()


def test_the_own_cameras_of_a_scene_get_the_name_of_its_copy(scene, tmp_path, capsys):
    entry = {
        "id": 0, "img_name": "a.png", "width": 40, "height": 30, "position": [1, 2, 3],
        "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "fx": 50.0, "fy": 50.0,
        "model": "SIMPLE_RADIAL", "params": [50.0, 20.0, 15.0, 0.1],
    }  # fmt: skip
    own = scene.with_name(f"{scene.stem}.cameras.json")
    own.write_text(json.dumps([entry]))
    assert run("convert", scene, scene.with_suffix(".spz")) == 0  # of the same name: nothing to do
    how = "[[0,-2,0,5],[2,0,0,0],[0,0,2,0],[0,0,0,1]]"
    assert run("convert", scene, tmp_path / "turned.ply", "--transform", how) == 0
    (moved,) = json.loads((tmp_path / "turned.cameras.json").read_text())
    assert moved["position"] == pytest.approx([-4 + 5, 2, 6])
    assert moved["params"] == entry["params"]
    capsys.readouterr()
    assert run("info", tmp_path / "turned.ply", "--json") == 0
    assert json.loads(capsys.readouterr().out)["views"] == 1


def test_the_version_of_spz_files_can_be_chosen(tmp_path):
    pytest.importorskip("zstandard")
    base = PEOPLE / "base_sh1.ply"
    assert run("convert", base, tmp_path / "3.spz") == 0
    assert run("convert", base, tmp_path / "4.spz", "--spz-version", "4") == 0
    assert (tmp_path / "3.spz").read_bytes()[:2] == b"\x1f\x8b"
    assert (tmp_path / "4.spz").read_bytes()[:5] == b"NGSP\x04"
    assert Gaussians.load(tmp_path / "4.spz").num_gaussians == 40
