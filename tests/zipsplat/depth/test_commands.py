"""`zipsplat depth`, and `zipsplat reconstruct` with weights of Depth Anything 3."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.zipsplat.depth.tiny_depth import write_tiny
from zipsplat import Gaussians, weights
from zipsplat.cli import main
from zipsplat.trajectories import load_camera_path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three smooth images, on which even a network of random weights is not mere noise."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        y, x = np.mgrid[:40, :60]
        levels = np.stack((x * 4, y * 6, (x + y + 20 * number) * 2), axis=-1) % 256
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"img{number}.png")
    return folder


def test_depth_writes_maps_cameras_and_points(
    photos: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["depth", str(photos), "-o", str(out), "--weights", str(tiny), "--long-side", "56"]
    assert main([*command, "--points", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        Path(name).name for name in result["files"]
    )
    cameras = json.loads((out / "cameras.json").read_text())
    assert cameras["names"] == ["img0", "img1", "img2"]
    assert cameras["size"] == [[60, 40]] * 3
    assert cameras["depth_size"] == [[56, 42]] * 3
    assert len(load_camera_path(out / "cameras.json").poses) == 3
    for view, name in enumerate(cameras["names"]):
        with np.load(out / f"{name}.depth.npz") as arrays:
            depth = arrays["depth"]
            assert set(arrays.files) == {"depth", "confidence", "K", "world_from_camera"}
            np.testing.assert_allclose(
                arrays["world_from_camera"], cameras["world_from_camera"][view], rtol=1e-6
            )
        levels = np.asarray(Image.open(out / f"{name}.depth.png"))
        assert levels.dtype == np.uint16
        step = cameras["depth_scale"]
        np.testing.assert_allclose(levels * step, depth, atol=step)
        with Image.open(out / f"{name}.color.png") as colored:
            assert colored.size[0] == depth.shape[1]
            assert colored.size[1] > depth.shape[0]
    header = (out / "points.ply").read_bytes().partition(b"end_header\n")
    count = result["points"]
    assert f"element vertex {count}\n".encode() in header[0]
    assert len(header[2]) == 15 * count


def test_depth_replaces_nothing_unasked(
    photos: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "img1.depth.npz").write_text("mine")
    command = ["depth", str(photos), "-o", str(tmp_path / "out"), "--weights", str(tiny)]
    assert main([*command, "--long-side", "28"]) == 1
    assert "--overwrite replaces it" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["img1.depth.npz"]
    assert main([*command, "--long-side", "30"]) == 1
    assert main([*command, "--long-side", "28", "--overwrite", "--num-frames", "2"]) == 0
    assert (tmp_path / "out" / "img2.depth.png").exists()


def test_depth_of_monocular_weights(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mono = write_tiny(tmp_path / "mono.safetensors", "mono")
    command = ["depth", str(photos), "-o", str(tmp_path / "o"), "--weights", str(mono)]
    assert main([*command, "--long-side", "28", "--points"]) == 1
    assert "predict depth only" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
    assert main([*command, "--long-side", "28"]) == 0
    assert "world_from_camera" not in json.loads((tmp_path / "o" / "cameras.json").read_text())
    with np.load(tmp_path / "o" / "img0.depth.npz") as arrays:
        assert set(arrays.files) == {"depth", "sky"}


def test_licences_travel(
    photos: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "locate", lambda _: tiny)
    command = ["depth", str(photos), "-o", str(tmp_path / "o"), "--weights", "da3-large"]
    assert main([*command, "--long-side", "28", "--points"]) == 0
    note = "Made with Depth Anything 3, da3-large (CC BY-NC 4.0): not for commercial use."
    assert json.loads((tmp_path / "o" / "cameras.json").read_text())["note"] == note
    with np.load(tmp_path / "o" / "img0.depth.npz") as arrays:
        assert str(arrays["note"]) == note
    assert note.encode() in (tmp_path / "o" / "points.ply").read_bytes()
    scene = tmp_path / "scene.ply"
    arguments = ["reconstruct", str(photos), "-o", str(scene), "--weights", "da3-large"]
    assert main([*arguments, "--image-size", "56x42"]) == 0
    assert Gaussians.load_with_note(scene)[1] == note


def test_reconstruct_from_depth(
    photos: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = []
    for number, share in enumerate(("1", "0.25")):
        scene = tmp_path / f"scene{number}.ply"
        command = ["reconstruct", str(photos), "-o", str(scene), "--weights", str(tiny)]
        assert main([*command, "--image-size", "56x42", "--compression", share, "--json"]) == 0
        counts.append(json.loads(capsys.readouterr().out)["gaussians"])
        assert Gaussians.load(scene).num_gaussians == counts[-1]
    assert 0 < counts[1] <= 0.3 * 3 * 42 * 56
    assert counts[1] < counts[0] <= 3 * 42 * 56


def test_info_knows_the_networks(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(tiny), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["network"] == "Depth Anything 3, width 64, depth 4"
    assert found["predicts_cameras"] is True
    nested = write_tiny(tmp_path / "nested.safetensors", "nested")
    assert main(["info", str(nested), "--json"]) == 0
    assert "with width 64" in json.loads(capsys.readouterr().out)["network"]


def test_cameras_by_depth_anything(
    photos: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cameras.json"
    command = ["cameras", str(photos), "-o", str(out), "--method", "da3", "--weights", str(tiny)]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["method"], found["mapper"], found["reprojection_error_px"]) == (
        "network", None, None,
    )  # fmt: skip
    assert found["placed"] == ["img0.png", "img1.png", "img2.png"]
    cameras = json.loads(out.read_text())
    assert [(camera["width"], camera["height"]) for camera in cameras] == [(60, 40)] * 3
    np.testing.assert_allclose(cameras[0]["position"], 0, atol=1e-6)
    np.testing.assert_allclose(cameras[0]["rotation"], np.eye(3), atol=1e-6)


def test_the_network_is_asked_where_structure_from_motion_fails(
    photos: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Smooth images have no features."""
    pytest.importorskip("pycolmap")
    out = tmp_path / "cameras.json"
    assert main(["cameras", str(photos), "-o", str(out)]) == 1
    assert "could be registered" in capsys.readouterr().err
    assert not out.exists()
    assert main(["cameras", str(photos), "-o", str(out), "--weights", str(tiny)]) == 0
    output = capsys.readouterr().out
    assert "3 of 3 photos registered, by the network" in output
    assert "these cameras are the network's" in output


def test_refinement_starts_from_depth_and_its_cameras(
    photos: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = tmp_path / "scene.ply"
    command = ["reconstruct", str(photos), "-o", str(scene), "--weights", str(tiny)]
    assert main([*command, "--image-size", "56x42", "--refine", "5steps", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["refinement"]["psnr"] >= found["refinement"]["psnr_before"]
    assert "predicting depth" in found["seconds"]
    assert (tmp_path / "scene.cameras.json").exists()
