"""The commands that refine, end to end on tiny images with given cameras."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys

import pytest
from PIL import Image

from tests.zipsplat.refinement.small_scene import disturbed, photos_of, small_scene
from zipsplat import Gaussians, framing, viz, weights
from zipsplat.camera_estimation.write import write_cameras_json
from zipsplat.cli import main
from zipsplat.figures import to_pixels
from zipsplat.model.untrained import untrained_network
from zipsplat.video import video_info


@pytest.fixture
def photos(tmp_path):
    """A folder of nine images of the small scene, with a cameras.json beside them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    posed = photos_of(small_scene(), 9)
    for name, image in zip(posed.names, posed.images, strict=True):
        Image.fromarray(to_pixels(image)).save(folder / name)
    write_cameras_json(tmp_path / "cameras.json", posed)
    return folder


@pytest.fixture
def cameras(photos):
    return photos.parent / "cameras.json"


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.ply"
    disturbed(small_scene()).save(path, note="a note")
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_scene_is_sharpened(scene, photos, cameras, tmp_path, capsys):
    out = tmp_path / "new" / "better.ply"
    options = ("--cameras", cameras, "-o", out, "--time", "40steps", "--json")
    assert run("refine", scene, photos, *options) == 0
    data = json.loads(capsys.readouterr().out)
    refinement = data["refinement"]
    assert refinement["psnr"] > refinement["psnr_before"] + 1
    assert refinement["ssim"] > refinement["ssim_before"]
    assert (refinement["steps"], refinement["stopped"]) == (40, "budget")
    assert refinement["held_out"] == [4]
    assert data["gaussians"] == 60
    stages = set(data["seconds"]) - {"compiling for this processor, once"}  # the first time only
    assert stages == {"reading images and cameras", "refining", "writing"}
    written, note = Gaussians.load_with_note(out)
    assert written.num_gaussians == 60
    assert note == "a note"
    assert [file["path"] for file in data["files"]] == [
        str(out),
        f"{out.parent}/better.cameras.json",
    ]
    assert len(json.loads((out.parent / "better.cameras.json").read_text())) == 9


def test_cameras_beside_a_scene_are_taken(scene, photos, cameras, tmp_path, capsys):
    """`photos` wrote cameras.json into the folder of the scene."""
    assert cameras.parent == scene.parent
    options = ("-o", tmp_path / "better.ply", "--time", "2steps", "--json")
    assert run("refine", scene, photos, *options) == 0
    assert json.loads(capsys.readouterr().out)["refinement"]["steps"] == 2
    cameras.unlink()
    again = ("-o", tmp_path / "again.ply", "--time", "2steps")
    assert run("refine", scene, photos, *again) == 1
    assert "--cameras FILE" in capsys.readouterr().err


def test_images_alone_become_a_scene(photos, cameras, tmp_path, capsys):
    out = tmp_path / "made.ply"
    options = ("--cameras", cameras, "-o", out, "--time", "60steps", "--max-gaussians", "300")
    assert run("refine", photos, *options) == 0
    text = capsys.readouterr().out
    before, after = map(float, re.search(r"PSNR ([\d.]+) -> ([\d.]+) dB", text).groups())
    assert "1 held-out photo:" in text
    assert after > before
    assert 0 < Gaussians.load(out).num_gaussians <= 300


def test_the_written_cameras_are_those_of_the_next_refinement(
    scene, photos, cameras, tmp_path, capsys
):
    out, again = tmp_path / "a.ply", tmp_path / "b.ply"
    assert run("refine", scene, photos, "--cameras", cameras, "-o", out, "--time", "9steps") == 0
    options = ("--cameras", tmp_path / "a.cameras.json", "-o", again, "--time", "2steps", "--json")
    capsys.readouterr()
    assert run("refine", out, photos, *options) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["refinement"]["psnr_before"] > 15


def test_hold_out_size_and_place_of_the_cameras(scene, photos, cameras, tmp_path, capsys):
    options = ("--cameras", cameras, "-o", tmp_path / "c.ply", "--time", "3steps", "--json")
    more = ("--hold-out", "3", "--refine-size", "20", "--save-cameras", tmp_path / "places.json")
    assert run("refine", scene, photos, *options, *more) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["refinement"]["held_out"] == [1, 4, 7]
    assert data["files"][1]["path"] == str(tmp_path / "places.json")


@pytest.fixture
def network(tmp_path):
    """A checkpoint of made-up weights."""
    path = tmp_path / "tiny.safetensors"
    made = untrained_network()
    weights.save(path, made.state_dict(), made.config.to_conf())
    return path


def test_reconstruct_refines_few_images_with_the_network(
    photos, cameras, network, tmp_path, capsys
):
    few = sorted(photos.iterdir())[:4]
    options = ("--refine", "30steps", "--cameras", cameras, "--max-gaussians", 400, "--json")
    out = ("-o", tmp_path / "few.ply", "--weights", network, "--image-size", 28)
    assert run("reconstruct", *few, *out, *options) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["views"] == 4
    assert data["refinement"]["held_out"] == []
    assert data["refinement"]["psnr"] > data["refinement"]["psnr_before"]
    assert "loading weights" in data["seconds"]


def test_reconstruct_refines_many_images_without_it(photos, cameras, tmp_path, capsys):
    options = ("--refine", "20steps", "--cameras", cameras, "--compression", 0.5, "--hold-out", 0)
    assert run("reconstruct", photos, "-o", tmp_path / "many.ply", *options, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert "loading weights" not in data["seconds"]
    assert data["gaussians"] <= 500  # half of the least cap, 1000


@pytest.mark.parametrize(("sweep", "size"), [(None, (512, 384)), (360.0, (512, 512))])
def test_a_wiggle_through_a_refined_scene_has_the_shape_of_its_photos(
    sweep, size, photos, cameras, tmp_path, monkeypatch
):
    monkeypatch.setattr(framing, "best_sweep", lambda *_: sweep)
    short = functools.partial(viz.turntable_frames, num_frames=2)
    monkeypatch.setattr(viz, "turntable_frames", short)
    options = ("--refine", "2steps", "--cameras", cameras, "--turntable", tmp_path / "a.mp4")
    assert run("reconstruct", photos, "-o", tmp_path / "a.ply", *options) == 0
    info = video_info(tmp_path / "a.mp4")
    assert (info.width, info.height) == size


def test_without_cameras_the_scene_of_the_network_comes_with_a_warning(
    tmp_path, network, capsys, caplog
):
    pytest.importorskip("pycolmap")
    folder = tmp_path / "plain"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (64, 48), (10 * index, 90, 90)).save(folder / f"{index}.png")
    out = tmp_path / "plain.ply"
    options = ("--weights", network, "--image-size", 28, "--refine", "5steps", "--json")
    assert run("reconstruct", folder, "-o", out, *options) == 0
    data = json.loads(capsys.readouterr().out)
    assert "refinement" not in data
    assert [file["path"] for file in data["files"]] == [str(out)]
    assert "no cameras were found" in caplog.text
    assert "--cameras" in caplog.text


def test_without_pycolmap_it_says_so(photos, network, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    options = ("--weights", network, "--image-size", 28, "--refine", "5steps", "-o")
    assert run("reconstruct", photos, *options, tmp_path / "a.ply") == 0
    assert "pycolmap" in caplog.text


def test_ctrl_c_keeps_the_best_so_far(scene, photos, cameras, tmp_path, capsys, monkeypatch):
    from zipsplat.cli import shared_refinement

    status = shared_refinement._status

    def press(progress):
        if progress.step == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return status(progress)

    monkeypatch.setattr(shared_refinement, "_status", press)
    before = signal.getsignal(signal.SIGINT)
    out = tmp_path / "kept.ply"
    options = ("--cameras", cameras, "-o", out, "--time", "5000steps", "--json")
    assert run("refine", scene, photos, *options) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["refinement"]["stopped"] == "interrupted"
    assert 30 <= data["refinement"]["steps"] <= 31
    assert data["refinement"]["psnr"] > data["refinement"]["psnr_before"]
    assert out.exists()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "OUT"), "no photos given"),
        (("SCENE", "PHOTOS", "--cameras", "CAMERAS", "-o", "SCENE"), "already exists"),
        (("PHOTOS", "-o", "OUT", "--save-cameras", "x.txt"), "must end in .json"),
        (("PHOTOS", "-o", "OUT.xyz"), "xyz"),
        (("NOWHERE", "--cameras", "CAMERAS", "-o", "OUT"), "no such file"),
        (("PHOTOS", "--cameras", "NOWHERE", "-o", "OUT"), "no such file"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(
    arguments, message, scene, photos, cameras, tmp_path, capsys
):
    out = tmp_path / "out.ply"
    names = {
        "SCENE": scene, "PHOTOS": photos, "CAMERAS": cameras, "OUT": out,
        "OUT.xyz": tmp_path / "out.xyz", "NOWHERE": tmp_path / "nowhere",
    }  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    assert run("refine", *(names.get(word, word) for word in arguments)) == 1
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["0", "-3", "steps", "1.5steps", "photos/", "inf", "0steps"])
def test_amounts_that_are_none(text, photos, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("reconstruct", photos, "-o", tmp_path / "a.ply", f"--refine={text}")
    assert stopped.value.code == 2
    assert "1500steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds", "steps"),
    [("30", 30.0, None), ("2.5s", 2.5, None), ("1500steps", None, 1500), ("1step", None, 1)],
)
def test_amounts(text, seconds, steps):
    from zipsplat.cli.shared_refinement import amount

    assert (amount(text).seconds, amount(text).steps) == (seconds, steps)
