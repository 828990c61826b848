"""`zipsplat render`."""

import json
import re
from dataclasses import replace

import pytest
import torch

from tests.zipsplat.cli.commands import result, run
from zipsplat import Gaussians, Pose
from zipsplat.images import load_image
from zipsplat.video import video_info


def test_a_scene_becomes_a_video(scene, tmp_path, capsys):
    out = tmp_path / "orbit.mp4"
    arguments = ("--size", "48x32", "--frames", 5, "--fps", 10, "--json")
    assert run("render", scene, "-o", out, *arguments) == 0
    info = video_info(out)
    assert (info.width, info.height, info.num_frames) == (48, 32, 5)
    assert info.duration_s == pytest.approx(0.5)
    assert result(capsys)["frames"] == 5


def test_render_animations(scene, tmp_path):
    from PIL import Image

    for name, num_frames in (("a.gif", 3), ("a.webp", 3), ("still.webp", 1)):
        length = ("--frames", num_frames) if num_frames > 1 else ()
        assert run("render", scene, "-o", tmp_path / name, "--size", 16, *length) == 0
        with Image.open(tmp_path / name) as image:
            assert getattr(image, "n_frames", 1) == num_frames


def test_a_still_shows_the_first_frame_upright(scene, tmp_path):
    still = tmp_path / "a.png"
    assert run("render", scene, "-o", still, "--size", 64, "--background", "black") == 0
    image = load_image(still)
    assert image.shape == (3, 64, 64)
    green = image[1] - image[0]
    row = int(green.amax(1).argmax())
    assert row < 28, "the green ball is up"
    assert (image[:, 0, 0] == 0).all()


def test_rooms_are_shown_from_inside_and_objects_from_outside(scene, tmp_path):
    room = tmp_path / "room.ply"
    walls = torch.tensor([[x, y, z] for x in (-1.0, 1) for y in (-1.0, 1) for z in (0.5, 2, 3)])
    balls = Gaussians.load(scene)
    replace(balls[torch.zeros(len(walls), dtype=torch.long)], means=walls).save(room)
    for path, best in ((scene, "turntable"), (room, "wiggle")):
        stills = {how: tmp_path / f"{path.stem}-{how}.png" for how in ("turntable", "wiggle")}
        for how, still in stills.items():
            assert run("render", path, "-o", still, "--size", 32, "--path", how) == 0
        chosen = tmp_path / f"{path.stem}.png"
        assert run("render", path, "-o", chosen, "--size", 32) == 0
        assert chosen.read_bytes() == stills[best].read_bytes()
    assert stills["turntable"].read_bytes() != stills["wiggle"].read_bytes()


def test_depth_has_a_legend(scene, tmp_path):
    still = tmp_path / "a.png"
    assert run("render", scene, "-o", still, "--size", 64, "--mode", "depth") == 0
    assert load_image(still).shape[1] > 64


def test_groups_can_be_colored(scene, tmp_path):
    plain, colored = tmp_path / "a.png", tmp_path / "b.png"
    assert run("render", scene, "-o", plain, "--size", 32) == 0
    assert run("render", scene, "-o", colored, "--size", 32, "--color-by-group", 3) == 0
    assert not torch.equal(load_image(plain), load_image(colored))


def test_a_camera_path_from_a_file(scene, tmp_path, capsys):
    poses = Pose.orbit(torch.tensor([0.0, 0, 3]), 4.0, [0.0, 30.0, 60.0])
    path = tmp_path / "cams.json"
    path.write_text(json.dumps({"world_from_camera": poses.Rt.tolist(), "fov_deg": 70}))
    out = tmp_path / "a.mp4"
    arguments = ("render", scene, "-o", out, "--size", 32, "--path", path, "--json", "--overwrite")
    assert run(*arguments) == 0
    assert result(capsys)["frames"] == 3
    assert run(*arguments, "--frames", 7) == 0
    assert result(capsys)["frames"] == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "a.txt"], r"a\.txt"),
        (["-o", "a.mp4", "--path", "spiral"], "spiral"),
        (["-o", "a.mp4", "--renderer", "magic"], "magic"),
        (["-o", "a.mp4", "--elevation", "100"], "elevation"),
    ],
)
def test_videos_that_cannot_be_made(scene, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert run("render", scene, *arguments, "--size", 16, "--frames", 2) == 1
    assert re.search(words, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["balls.ply"]


def test_broken_scenes_are_named(tmp_path, capsys):
    broken = tmp_path / "broken.ply"
    broken.write_bytes(b"ply\nnonsense")
    assert run("render", broken, "-o", tmp_path / "a.mp4") == 1
    assert "broken.ply" in capsys.readouterr().err
    assert run("info", broken) == 1
    assert "broken.ply" in capsys.readouterr().err


def test_a_page_is_written(scene, tmp_path):
    page = tmp_path / "page.html"
    assert run("convert", scene, page, "--title", "My kitchen", "--note", "CC BY <me>") == 0
    text = page.read_text(encoding="utf-8")
    assert "<title>My kitchen</title>" in text
    assert "CC BY &lt;me&gt;" in text
