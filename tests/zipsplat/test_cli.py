"""The command does what its help says, and says in one line what went wrong."""

import functools
import json
import logging
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from zipsplat import Gaussians, Pose, viz, weights
from zipsplat.cli import main
from zipsplat.harmonics import dc_from_rgb
from zipsplat.images import load_image
from zipsplat.model.untrained import untrained_network
from zipsplat.video import video_info, write_video

PEOPLE = Path(__file__).parents[1] / "files_of_people"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A checkpoint of made-up weights."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = untrained_network()
    weights.save(path, network.state_dict(), network.config.to_conf())
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in (1, 2, 10):
        pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"img{index}.png")
    return folder


@pytest.fixture
def scene(tmp_path):
    """A file with a red, a green and a blue ball, one of them faint."""
    colors = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.9]])
    means = torch.tensor([[1.0, 0, 3], [0, -1, 3], [0, 0, 4]])
    opacities = torch.tensor([0.9, 0.9, 0.04])
    sh = torch.cat([dc_from_rgb(colors)[:, None], torch.zeros(3, 3, 3)], 1)
    g = Gaussians(means, torch.full((3, 3), 0.2), torch.eye(4)[[0, 0, 0]], opacities, sh)
    path = tmp_path / "balls.ply"
    g.save(path)
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def result(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if path.name.startswith(".")]


# --- reconstruct ---


def small(photos, tiny, *more):
    """Arguments that keep the work small."""
    return ("reconstruct", photos, "--weights", tiny, "--image-size", 28, "--device", "cpu", *more)


def test_images_become_scene_files(photos, tiny, tmp_path, capsys):
    ply, splat = tmp_path / "new" / "scene.ply", tmp_path / "scene.splat"
    assert run(*small(photos, tiny, "-o", ply, "-o", splat, "--json")) == 0
    data = result(capsys)
    assert data["views"] == 3
    assert data["gaussians"] == 3 * 4 * 32
    assert [item["path"] for item in data["files"]] == [str(ply), str(splat)]
    assert data["files"][0]["bytes"] == ply.stat().st_size
    assert set(data["seconds"]) == {
        "reading images",
        "loading weights",
        "reconstructing",
        "writing",
    }
    assert Gaussians.load(ply).num_gaussians == 384
    assert splat.stat().st_size == 32 * 384


def test_compression_and_num_frames_reach_the_network(photos, tiny, tmp_path, capsys):
    out = tmp_path / "scene.ply"
    arguments = ("-o", out, "--compression", 0.25, "--num-frames", 2, "--json")
    assert run(*small(photos, tiny, *arguments)) == 0
    data = result(capsys)
    assert (data["views"], data["gaussians"], data["compression"]) == (2, 2 * 32, 0.25)


def test_what_is_written_is_what_the_class_gives(photos, tiny, tmp_path):
    from zipsplat import ZipSplat

    out = tmp_path / "scene.ply"
    assert run(*small(photos, tiny, "-o", out, "-q")) == 0
    model = ZipSplat(tiny, device="cpu", image_size=28)
    images = [load_image(photos / f"img{i}.png") for i in (1, 2, 10)]
    expected = model(images)[0]
    torch.testing.assert_close(Gaussians.load(out).means, expected.means)


@pytest.mark.parametrize(("size", "tokens"), [("56x28", 8), ("keep", 18 * 24)])
def test_other_image_sizes(photos, tiny, tmp_path, capsys, size, tokens):
    arguments = ("-o", tmp_path / "a.ply", "--image-size", size, "--num-frames", 1, "--json")
    assert run(*small(photos, tiny, *arguments)) == 0
    assert result(capsys)["gaussians"] == tokens * 32


def test_a_video_becomes_a_scene_and_a_turntable(tiny, tmp_path, capsys, monkeypatch):
    short = functools.partial(viz.turntable_frames, render_size=32, num_frames=6)
    monkeypatch.setattr(viz, "turntable_frames", short)
    rng = np.random.default_rng(0)
    clip = tmp_path / "clip.mp4"
    write_video(clip, (rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(9)))
    out, film = tmp_path / "scene.ply", tmp_path / "orbit.mp4"
    arguments = ("-o", out, "--stride", 4, "--turntable", film)
    assert run(*small(clip, tiny, *arguments)) == 0
    captured = capsys.readouterr()
    assert "3 views, 384 Gaussians" in captured.out
    assert str(film) in captured.out
    assert video_info(film).num_frames == 6
    assert re.search(r"reconstructing: \d", captured.err)


def test_bad_images_stop_it_or_are_left_out(photos, tiny, tmp_path, capsys, caplog):
    (photos / "img3.png").write_bytes(b"broken")
    out = tmp_path / "scene.ply"
    assert run(*small(photos, tiny, "-o", out)) == 1
    assert "img3.png" in capsys.readouterr().err
    assert not out.exists()
    with caplog.at_level(logging.WARNING):
        assert run(*small(photos, tiny, "-o", out, "--skip-bad")) == 0
    assert "img3.png" in caplog.text


def test_files_are_not_replaced_unless_asked(photos, tiny, tmp_path, capsys):
    out = tmp_path / "scene.ply"
    out.write_text("precious")
    assert run(*small(photos, tiny, "-o", out)) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(*small(photos, tiny, "-o", out, "--overwrite")) == 0
    assert Gaussians.load(out).num_gaussians == 384


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "a.obj"], r"\.obj.*known"),
        (["-o", "a.ply", "-o", "a.ply"], "twice"),
        (["-o", "a.ply", "--turntable", "a.txt"], r"a\.txt.*\.mp4"),
        (["-o", "."], "suffix|folder"),
        (["-o", "a.ply", "--device", "warp"], "warp"),
        (["-o", "a.ply", "--image-size", "30"], "multiple of 14"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    photos, tiny, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    assert run(*small(photos, tiny, *arguments)) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("zipsplat: error: ")
    assert re.search(words, error)
    assert leftovers(tmp_path) == []
    assert not (tmp_path / "a.ply").exists()


def test_missing_inputs_and_weights(tmp_path, photos, capsys):
    out = tmp_path / "a.ply"
    assert run("reconstruct", tmp_path / "nothing.jpg", "-o", out) == 1
    assert "nothing.jpg: there is no such file" in capsys.readouterr().err
    assert run("reconstruct", photos, "-o", out, "--weights", tmp_path / "no.tar") == 1
    assert "no.tar" in capsys.readouterr().err


def test_an_interruption_leaves_nothing_behind(photos, tiny, tmp_path, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(viz, "render_frames", interrupted)
    film = tmp_path / "a.mp4"
    assert run(*small(photos, tiny, "-o", tmp_path / "a.ply", "--turntable", film)) == 130
    assert not film.exists()
    assert leftovers(tmp_path) == []
    assert "Traceback" not in capsys.readouterr().err


# --- render ---


def test_a_scene_is_filmed(scene, tmp_path, capsys):
    film = tmp_path / "orbit.mp4"
    arguments = ("--size", "48x32", "--frames", 5, "--fps", 10, "--json")
    assert run("render", scene, "-o", film, *arguments) == 0
    info = video_info(film)
    assert (info.width, info.height, info.num_frames) == (48, 32, 5)
    assert info.duration_s == pytest.approx(0.5)
    assert result(capsys)["frames"] == 5


def test_render_animations(scene, tmp_path):
    from PIL import Image

    for name, num_frames in (("a.gif", 3), ("a.webp", 3), ("still.webp", 1)):
        length = ("--frames", num_frames) if num_frames > 1 else ()
        assert run("render", scene, "-o", tmp_path / name, "--size", 16, *length) == 0
        with Image.open(tmp_path / name) as picture:
            assert getattr(picture, "n_frames", 1) == num_frames


def test_a_still_shows_the_first_frame_upright(scene, tmp_path):
    still = tmp_path / "a.png"
    assert run("render", scene, "-o", still, "--size", 64, "--background", "black") == 0
    picture = load_image(still)
    assert picture.shape == (3, 64, 64)
    green = picture[1] - picture[0]
    row = int(green.amax(1).argmax())
    assert row < 28, "the green ball is up"
    assert (picture[:, 0, 0] == 0).all()


def test_rooms_are_filmed_from_inside_and_objects_from_outside(scene, tmp_path):
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
    film = tmp_path / "a.mp4"
    arguments = ("render", scene, "-o", film, "--size", 32, "--path", path, "--json", "--overwrite")
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


# --- convert ---


def test_a_page_is_written(scene, tmp_path):
    page = tmp_path / "page.html"
    assert run("convert", scene, page, "--title", "My kitchen", "--note", "CC BY <me>") == 0
    text = page.read_text(encoding="utf-8")
    assert "<title>My kitchen</title>" in text
    assert "CC BY &lt;me&gt;" in text


def test_notes_about_licences_go_with_the_scene(photos, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(weights.LICENCE_NOTES, str(tiny), "CC BY-NC <4.0>")
    first, between, page = (tmp_path / name for name in ("a.ply", "b.glb", "c.html"))
    assert run(*small(photos, tiny, "-o", first)) == 0
    assert run("convert", first, between) == 0
    assert run("convert", between, page) == 0
    assert "CC BY-NC &lt;4.0&gt;" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert run("info", first, "--json") == 0
    assert result(capsys)["note"] == "CC BY-NC <4.0>"
    assert run("convert", first, page, "--note", "Mine", "--overwrite") == 0
    text = page.read_text(encoding="utf-8")
    assert "Mine" in text
    assert "CC BY-NC" not in text


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


# --- info, doctor ---


def test_info_on_every_kind_of_file(scene, photos, tiny, tmp_path, capsys):
    clip = tmp_path / "clip.mp4"
    write_video(clip, [np.zeros((16, 20, 3), np.uint8)] * 3)
    wanted = {
        scene: {"kind": "scene", "gaussians": 3, "sh_degree": 1, "left_out": {}},
        tiny: {"kind": "checkpoint", "gaussians_per_token": 32, "network": "width 64, depth 4"},
        photos / "img1.png": {"kind": "image", "width": 80, "height": 60, "format": "PNG"},
        clip: {"kind": "video", "frames": 3, "width": 20, "codec": "h264"},
    }
    for path, facts in wanted.items():
        assert run("info", path, "--json") == 0
        data = result(capsys)
        assert {name: data[name] for name in facts} == facts
        assert data["bytes"] == path.stat().st_size
        assert run("info", path) == 0
        assert facts["kind"] in capsys.readouterr().out


def test_info_counts_what_cannot_be_used(scene, capsys):
    content = bytearray(scene.read_bytes())
    start = content.index(b"end_header\n") + len(b"end_header\n")
    content[start : start + 4] = np.float32(np.nan).tobytes()
    scene.write_bytes(content)
    assert run("info", scene, "--json") == 0
    data = result(capsys)
    assert data["left_out"] == {"a position that is not finite": 1}
    assert data["remarks"] == [
        "left out 1 of 3 Gaussians: 1 with a position that is not finite (row 0)"
    ]
    assert np.isfinite(data["center"]).all()
    assert run("info", scene) == 0
    assert "1 with a position that is not finite" in capsys.readouterr().out


def test_info_tells_what_a_file_says_of_itself(capsys):
    for name, facts in {
        "p28_mip_comment_brush.ply": {"antialiased": True, "format": "ply"},
        "c03_compressed_named.ply": {"format": "compressed_ply"},
        "exif6.tif": {"width": 320, "height": 240, "orientation": 6},
        "noext_video": {"kind": "video", "frames": 50},
        "vflip.mp4": {"mirrored": True, "rotation_deg": 180},
        "realhdr_pq.mov": {"hdr": "PQ"},
    }.items():
        assert run("info", PEOPLE / name, "--json") == 0
        data = result(capsys)
        assert {key: data[key] for key in facts} == facts, name


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reconstruct", "x.png", "--ouput", "a.ply"], "no option --ouput; did you mean --output?"),
        (["convert", "a.ply", "b.ply", "--prune-opacty=1"], "did you mean --prune-opacity?"),
        (["view", "a.ply", "--num-frame", "3", "--widths"], "did you mean --weights?"),
        (["convert", "a.ply", "b.ply", "--xyz"], "no option --xyz"),
    ],
)
def test_a_misspelt_option_gets_the_nearest_name_and_the_usage_of_its_command(
    arguments, words, capsys
):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert f"usage: zipsplat {arguments[0]}" in said


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("gpu", "a device is auto, cpu, cuda, mps or one by its number as cuda:1, got 'gpu'"),
        ("xla", "a device is auto"),
        ("cuda", "cuda cannot be used here: PyTorch sees no CUDA device"),
    ],
)
def test_devices_that_are_not_there_are_said_before_any_work(
    device, words, photos, tiny, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    small_run = ("reconstruct", photos, "-o", tmp_path / "a.ply", "--weights", tiny)
    assert run(*small_run, "--device", device) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "reading" not in said
    assert "Traceback" not in said


def test_info_on_an_upright_size_and_on_other_checkpoints(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert run("info", tmp_path / "a.jpg", "--json") == 0
    data = result(capsys)
    assert (data["width"], data["height"], data["orientation"]) == (20, 30, 6)
    torch.save({"model": {"layer.weight": torch.zeros(2, 3)}, "epoch": 4}, tmp_path / "other.tar")
    assert run("info", tmp_path / "other.tar", "--json") == 0
    data = result(capsys)
    assert (data["parameters"], data["also_holds"], data["network"]) == (6, ["epoch"], None)


@pytest.mark.parametrize("name", ["nothing.ply", "notes.txt", "."])
def test_info_on_other_things(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no scene")
    assert run("info", name) == 1
    assert name in capsys.readouterr().err


def test_doctor_reports(capsys):
    assert run("doctor", "--json") == 0
    data = result(capsys)
    assert data["packages"]["torch"] == torch.__version__
    assert data["devices"]["used"] in ("cpu", "cuda", "mps")
    assert data["renderers"]["used"] in ("cuda", "cpu", "reference")
    assert all(data["devices"]["not_used"].values())
    assert data["media"]["h264 writing"]
    assert run("doctor") == 0
    assert "would be used" in capsys.readouterr().out


# --- the frame around them ---


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["reconstruct"],
        ["reconstruct", "a.jpg"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--compression", "1.5"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--compression", "nan"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--num-frames", "0"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--num-frames", "2", "--stride", "2"],
        ["reconstruct", "a.jpg", "-o", "a.ply", "--background", "noon"],
        ["render", "a.ply", "-o", "a.mp4", "--size", "0"],
        ["render", "a.ply", "-o", "a.mp4", "--size", "10x"],
        ["render", "a.ply", "-o", "a.mp4", "--fov", "180"],
        ["render", "a.ply", "-o", "a.mp4", "--fps", "inf"],
        ["convert", "a.ply", "b.ply", "--sh-degree", "4"],
    ],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["reconstruct", "render", "convert", "info", "doctor"])
def test_help_has_examples_that_parse(command, capsys):
    from zipsplat.cli import _parser

    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    examples = re.findall(rf"^  zipsplat ({command} .*|{command})$", text, flags=re.MULTILINE)
    assert examples
    for example in examples:
        words = re.split(r"\s{2,}|\s>", example)[0].replace("'", "").split()
        _parser().parse_args(words)


@pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="pipes close differently here")
def test_a_closed_pipe_is_not_an_error(scene):
    code = "import sys; from zipsplat.cli import main; sys.exit(main(['info', sys.argv[1]]))"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", code, str(scene)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""


def test_a_verbose_error_has_its_traceback(tmp_path, capsys):
    assert run("info", tmp_path / "nothing.ply", "-v") == 1
    assert "Traceback" in capsys.readouterr().err


def test_quiet_means_quiet(scene, tmp_path, capsys):
    assert run("convert", scene, tmp_path / "a.spz", "-q") == 0
    assert capsys.readouterr().err == ""


def test_view_is_handed_to_the_viewer(monkeypatch):
    seen = []
    viewer = SimpleNamespace(main=lambda argv: seen.append(list(argv)) or 7)
    monkeypatch.setitem(sys.modules, "zipsplat.viewer", viewer)
    assert main(["view", "scene.ply", "--port", "9"]) == 7
    assert seen == [["scene.ply", "--port", "9"]]


def test_the_module_runs_and_help_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; from zipsplat.cli import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in done.stdout
    command = [sys.executable, "-m", "zipsplat", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"zipsplat \d.*\n", done.stdout)
