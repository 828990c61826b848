"""`zipsplat reconstruct`."""

import functools
import logging
import re

import numpy as np
import pytest
import torch

from tests.zipsplat.cli.commands import leftovers, result, run
from zipsplat import Gaussians, viz, weights
from zipsplat.images import load_image
from zipsplat.video import video_info, write_video


def small_run(photos, tiny, *more):
    """Arguments that keep the work small."""
    return ("reconstruct", photos, "--weights", tiny, "--image-size", 28, "--device", "cpu", *more)


def test_images_become_scene_files(photos, tiny, tmp_path, capsys):
    ply, splat = tmp_path / "new" / "scene.ply", tmp_path / "scene.splat"
    assert run(*small_run(photos, tiny, "-o", ply, "-o", splat, "--json")) == 0
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
    assert run(*small_run(photos, tiny, *arguments)) == 0
    data = result(capsys)
    assert (data["views"], data["gaussians"], data["compression"]) == (2, 2 * 32, 0.25)


def test_what_is_written_is_what_the_class_gives(photos, tiny, tmp_path):
    from zipsplat import ZipSplat

    out = tmp_path / "scene.ply"
    assert run(*small_run(photos, tiny, "-o", out, "-q")) == 0
    model = ZipSplat(tiny, device="cpu", image_size=28)
    images = [load_image(photos / f"img{i}.png") for i in (1, 2, 10)]
    expected = model(images)[0]
    torch.testing.assert_close(Gaussians.load(out).means, expected.means)


@pytest.mark.parametrize(("size", "tokens"), [("56x28", 8), ("keep", 18 * 24)])
def test_other_image_sizes(photos, tiny, tmp_path, capsys, size, tokens):
    arguments = ("-o", tmp_path / "a.ply", "--image-size", size, "--num-frames", 1, "--json")
    assert run(*small_run(photos, tiny, *arguments)) == 0
    assert result(capsys)["gaussians"] == tokens * 32


def test_a_video_becomes_a_scene_and_a_turntable(tiny, tmp_path, capsys, monkeypatch):
    short = functools.partial(viz.turntable_frames, render_size=32, num_frames=6)
    monkeypatch.setattr(viz, "turntable_frames", short)
    rng = np.random.default_rng(0)
    clip = tmp_path / "clip.mp4"
    write_video(clip, (rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for _ in range(9)))
    out, video = tmp_path / "scene.ply", tmp_path / "orbit.mp4"
    arguments = ("-o", out, "--stride", 4, "--turntable", video)
    assert run(*small_run(clip, tiny, *arguments)) == 0
    captured = capsys.readouterr()
    assert "3 views, 384 Gaussians" in captured.out
    assert str(video) in captured.out
    assert video_info(video).num_frames == 6
    assert re.search(r"reconstructing: \d", captured.err)


def test_bad_images_stop_it_or_are_left_out(photos, tiny, tmp_path, capsys, caplog):
    (photos / "img3.png").write_bytes(b"broken")
    out = tmp_path / "scene.ply"
    assert run(*small_run(photos, tiny, "-o", out)) == 1
    assert "img3.png" in capsys.readouterr().err
    assert not out.exists()
    with caplog.at_level(logging.WARNING):
        assert run(*small_run(photos, tiny, "-o", out, "--skip-bad")) == 0
    assert "img3.png" in caplog.text


def test_files_are_not_replaced_unless_asked(photos, tiny, tmp_path, capsys):
    out = tmp_path / "scene.ply"
    out.write_text("precious")
    assert run(*small_run(photos, tiny, "-o", out)) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(*small_run(photos, tiny, "-o", out, "--overwrite")) == 0
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
    assert run(*small_run(photos, tiny, *arguments)) == 1
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
    video = tmp_path / "a.mp4"
    assert run(*small_run(photos, tiny, "-o", tmp_path / "a.ply", "--turntable", video)) == 130
    assert not video.exists()
    assert leftovers(tmp_path) == []
    assert "Traceback" not in capsys.readouterr().err


def test_notes_about_licences_go_with_the_scene(photos, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(weights.LICENCE_NOTES, str(tiny), "CC BY-NC <4.0>")
    first, between, page = (tmp_path / name for name in ("a.ply", "b.glb", "c.html"))
    assert run(*small_run(photos, tiny, "-o", first)) == 0
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
    command = ("reconstruct", photos, "-o", tmp_path / "a.ply", "--weights", tiny)
    assert run(*command, "--device", device) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "reading" not in error
    assert "Traceback" not in error
