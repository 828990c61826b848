"""COLMAP models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from splatfactory.datasets.scripts.custom import convert
from splatfactory.datasets.store import ShardStore
from splatscenes.scene import GeneratedScene
from tests.splatfactory.datasets.custom.captures import WriteCapture, check_poses
from zipsplat.camera_estimation import colmap, colmap_model
from zipsplat.camera_estimation.capture import files_in


def test_the_larger_of_separate_models_is_read(
    write_capture: WriteCapture,
    scene: GeneratedScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_capture("house")
    (folder / "transforms.json").unlink()
    write_colmap_text(folder, scene)
    sparse = folder / "sparse"
    (sparse / "0").rename(sparse / "1")
    assert colmap_model.find_model(folder) == sparse / "1"  # alone, too
    whole = colmap_model.read_model(sparse / "1")
    part = dict(list(whole.images.items())[:2])
    colmap_model.write_model(sparse / "0", replace(whole, images=part))
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    note = "model 1 (4 images) is used, not the separate 0 (2 images)"
    assert note in capsys.readouterr().err
    assert ShardStore(tmp_path / "out" / "test-scenes").scenes[0].num_views == 4


def test_a_missing_package_is_named(
    write_capture: WriteCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)
    with pytest.raises(ImportError, match="pip install 'pycolmap"):
        colmap.require()


def write_colmap_text(folder: Path, scene: GeneratedScene) -> None:
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    K, lines = scene.shot.K, []
    for view, pose in enumerate(scene.shot.world_from_camera):
        inverse = np.linalg.inv(pose)
        r, t = inverse[:3, :3], inverse[:3, 3]
        w = 0.5 * np.sqrt(max(1 + np.trace(r), 1e-12))
        q = [w, *(np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / (4 * w))]
        # Registered in another order than the names.
        values = " ".join(repr(float(value)) for value in (*q, *t))
        lines.append(f"{9 - view} {values} 1 {view}.png\n\n")
    (model / "images.txt").write_text("".join(lines))
    camera = f"1 PINHOLE 80 60 {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}\n"
    (model / "cameras.txt").write_text(camera)
    (model / "points3D.txt").write_text("")


def test_a_colmap_folder_becomes_shards(
    write_capture: WriteCapture, scene: GeneratedScene, tmp_path: Path
) -> None:
    folder = write_capture("house")
    (folder / "transforms.json").unlink()
    write_colmap_text(folder, scene)
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    check_poses(stored, scene)
    assert stored.images[1] == (folder / "images" / "1.png").read_bytes()


def test_a_damaged_colmap_model_is_named(
    write_capture: WriteCapture, scene: GeneratedScene
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    folder = write_capture("house")
    write_colmap_text(folder, scene)
    model = folder / "sparse" / "0"
    pycolmap.Reconstruction(str(model)).write_binary(str(model))
    for file in model.glob("*.txt"):
        file.unlink()
    assert colmap_model.find_model(folder) == model
    assert len(colmap_model.read(model, files_in([folder / "images"])).photos) == 4
    images = model / "images.bin"
    images.write_bytes(images.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"images\.bin is cut off"):
        colmap_model.read(model, files_in([folder / "images"]))
