"""The command as a whole: captures become shards, and bad ones are reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from splatfactory.datasets import samplers
from splatfactory.datasets.multiview import MultiviewDataset, SampleConfig
from splatfactory.datasets.scripts.custom import convert
from splatfactory.datasets.scripts.custom.convert import scene_key
from splatfactory.datasets.store import ShardStore
from splatscenes.interiors import playroom
from splatscenes.scene import GeneratedScene, generate_scene
from tests.splatfactory.datasets.custom.captures import FLIP, WriteCapture, check_poses, decoded
from zipsplat.camera_estimation import nerfstudio
from zipsplat.camera_estimation.capture import Capture, Lens, Photo
from zipsplat.camera_estimation.focal import Focal


def test_a_nerfstudio_folder_becomes_shards(
    write_capture: WriteCapture, scene: GeneratedScene, tmp_path: Path
) -> None:
    folder = write_capture()
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    convert.main([str(folder), "--output-dir", str(tmp_path / "two"), "--num-workers", "2"])
    one, two = (tmp_path / out / "test-scenes/shard-000000.tar" for out in ("out", "two"))
    assert one.read_bytes() == two.read_bytes()
    store = ShardStore(tmp_path / "out" / "test-scenes")
    assert [info.key for info in store.scenes] == ["my-capture-1"]
    stored = store.read(0)
    check_poses(stored, scene)
    K = scene.shot.K
    expected = [80, 60, K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    np.testing.assert_allclose(stored.cameras, np.tile(expected, (4, 1)), rtol=1e-6)
    assert stored.images[2] == (folder / "images" / "2.png").read_bytes()  # nothing to change
    config = SampleConfig(num_target_views=1, normalize_baseline="max_pairwise_d")
    data = MultiviewDataset("custom", store, samplers.build({"name": "random"}), config)
    assert data.load(0, 2, 1.0, 0).context.images.shape == (2, 3, 60, 60)
    with pytest.raises(ValueError, match="normalize_baseline=max_pairwise_d"):
        MultiviewDataset(
            "custom", store, samplers.build({"name": "random"}), SampleConfig(num_target_views=1)
        )


UTM = np.array([483211.3, 5456789.7, 212.4])


def test_geo_referenced_poses_keep_their_distances(
    write_capture: WriteCapture,
    scene: GeneratedScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Half a metre is a step of float32 at northings of UTM; distances must be exact anyway."""
    frames = []
    for view, pose in enumerate(scene.shot.world_from_camera):
        matrix = pose @ FLIP
        matrix[:3, 3] += UTM
        frames.append({"file_path": f"images/{view}.png", "transform_matrix": matrix.tolist()})
    folder = write_capture("utm", frames=frames)
    capture = nerfstudio.read(folder / "transforms.json")
    centers = scene.shot.world_from_camera[:, :3, 3]
    np.testing.assert_allclose(capture.origin, UTM + centers[0], atol=1e-6)
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    assert "became the origin" in capsys.readouterr().err
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    np.testing.assert_allclose(stored.poses[:, 9:], centers - centers[0], atol=1e-6)
    near = nerfstudio.read(write_capture("near") / "transforms.json")
    assert not near.origin.any()


def test_one_name_of_two_captures_is_an_error(
    write_capture: WriteCapture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output-dir", str(tmp_path / "out")]
    one, two = (write_capture(f"site{letter}/images_undistorted") for letter in "AB")
    assert convert.main([str(one), *out]) == 0
    assert convert.main([str(two), *out]) == 1
    assert "images_undistorted exists already, made from ../../siteA/" in capsys.readouterr().err
    assert convert.main([str(one), str(one), *out]) == 0  # the same capture twice is one scene
    assert convert.main([str(one), str(two), "--output-dir", str(tmp_path / "both")]) == 1
    assert len(ShardStore(tmp_path / "both" / "test-scenes").scenes) == 1


def test_blender_scenes_have_the_names_of_their_folders(
    write_capture: WriteCapture, tmp_path: Path
) -> None:
    inputs = []
    for name in ("lego", "chair"):
        file = write_capture(name) / "transforms.json"
        inputs.append(str(file.rename(file.with_name("transforms_train.json"))))
    assert convert.main([*inputs, "--output-dir", str(tmp_path / "out")]) == 0
    store = ShardStore(tmp_path / "out" / "test-scenes")
    assert [info.key for info in store.scenes] == ["lego", "chair"]


def test_whatever_an_input_raises_the_others_are_converted(
    write_capture: WriteCapture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, bad, last = (write_capture(name) for name in ("first", "bad", "last"))
    read = nerfstudio.read

    def failing(path: Path) -> Any:
        if path.parent == bad:
            raise IndexError("Rig with ID 1 does not exist")
        return read(path)

    monkeypatch.setattr(nerfstudio, "read", failing)
    out = tmp_path / "out"
    assert convert.main([str(first), str(bad), str(last), "--output-dir", str(out)]) == 1
    store = ShardStore(out / "test-scenes")
    assert [info.key for info in store.scenes] == ["first", "last"]
    failures = json.loads((out / "test-scenes" / "manifest.json").read_text())["failures"]
    assert failures == {"Rig with ID 1 does not exist": [str(bad)]}


def test_a_damaged_photo_is_left_out_with_a_note(
    write_capture: WriteCapture,
    scene: GeneratedScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_capture("house")
    photo = folder / "images" / "1.png"
    photo.write_bytes(photo.read_bytes()[:200])
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    assert "skipped 1.png" in capsys.readouterr().err
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    kept = scene.shot.world_from_camera[[0, 2, 3]]
    np.testing.assert_allclose(stored.poses[:, 9:], kept[:, :3, 3], atol=1e-5)
    for view in (0, 2, 3):
        (folder / "images" / f"{view}.png").write_bytes(b"no image")
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "none")]) == 1
    assert "no photo is usable; skipped 0.png" in capsys.readouterr().err


def test_one_bad_input_spares_the_others(
    write_capture: WriteCapture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_capture("good")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    out = tmp_path / "out"
    inputs = [str(tmp_path / name) for name in ("empty", "broken.json", "missing")]
    assert convert.main([*inputs, str(good), "--output-dir", str(out), "--split", "train"]) == 1
    said = capsys.readouterr().err
    for part in ("holds no images", "not valid JSON", "does not exist", "max_pairwise_d"):
        assert part in said
    manifest = json.loads((out / "train-scenes" / "manifest.json").read_text())
    assert sum(map(len, manifest["failures"].values())) == 3
    assert [info.key for info in ShardStore(out / "train-scenes").scenes] == ["good"]
    assert not list((out / "train-scenes").glob(".work*"))
    # A second run keeps what is there and adds what is new.
    other = write_capture("other")
    again = ["--output-dir", str(out), "--split", "train"]
    assert convert.main([str(good), str(other), *again]) == 0
    assert len(ShardStore(out / "train-scenes").scenes) == 2


def test_nothing_is_advised_about_shards_that_do_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.main([str(tmp_path / "missing"), "--output-dir", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "does not exist" in said
    assert "max_pairwise_d" not in said


def test_names() -> None:
    assert scene_key(Path("/photos/My trip (2).v1")) == "My-trip-2"
    assert scene_key(Path("/photos/house/transforms.json")) == "house"


def test_too_few_photos_for_poses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{number}.png")
    assert convert.main([str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 1
    assert "at least 3 photos, got 2" in capsys.readouterr().err


@pytest.mark.slow
def test_photos_alone_get_poses(tmp_path: Path) -> None:
    """Structure from motion finds the cameras of a generated scene, up to a similarity."""
    pytest.importorskip("pycolmap")
    scene = generate_scene("example", 0, 5, 12, (240, 320), (playroom,))
    folder = tmp_path / "photos"
    folder.mkdir()
    for view in range(12):
        Image.fromarray(scene.render(view)[0]).save(folder / f"{view}.jpg", quality=95)
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    assert stored.num_views >= 10
    rotations = stored.poses[:, :9].reshape(-1, 3, 3)
    true = scene.shot.world_from_camera[: len(rotations), :3, :3]
    if len(rotations) == 12:
        relative = rotations[0].T @ rotations[-1]
        expected = true[0].T @ true[-1]
        cosine = (np.trace(relative.T @ expected) - 1) / 2
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 1.5
    np.testing.assert_allclose(stored.cameras[0, 2], scene.shot.K[0, 0], rtol=0.1)


def test_damaged_photos_without_poses_are_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (60 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"\x89PNG nonsense")

    def solved(files: list[Path], focals: list[Focal], **_: Any) -> Capture:
        """As if structure from motion had placed them all."""
        lens = Lens("PINHOLE", 16, 16, (16, 16, 8, 8))
        assert len(files) == len(focals) == 3
        return Capture(tuple(Photo(file, lens, np.eye(4)) for file in files))

    monkeypatch.setattr(convert, "_estimated", lambda files, focals, *_: solved(files, focals))
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    assert "skipped 2.png" in capsys.readouterr().err
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    assert [int(decoded(data)[0, 0, 0]) for data in stored.images] == [0, 60, 180]
