"""`zipsplat info` and `zipsplat doctor`."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.zipsplat.cli.commands import PEOPLE, result, run
from zipsplat.video import write_video


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
