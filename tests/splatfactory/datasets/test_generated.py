"""Generated scenes as shards and without files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets import depth_codec, samplers
from splatfactory.datasets.generated import GeneratedStore, stored_scene
from splatfactory.datasets.multiview import MultiviewDataset, SampleConfig
from splatfactory.datasets.scripts.synthetic import generate
from splatfactory.datasets.shards import ShardWriter
from splatfactory.datasets.store import ShardStore
from splatscenes.scene import generate_scene

SIZE = (40, 56)


def _dataset(store: object) -> MultiviewDataset:
    config = SampleConfig(
        num_target_views=2,
        preprocessing=PreprocessingConfig(resize=28, edge_divisible_by=14),
        max_pose_jump_ratio=0,
    )
    sampler = samplers.build({"name": "random"})
    return MultiviewDataset("synthetic", store, sampler, config)  # type: ignore[arg-type]


def _command(folder: Path, *more: str) -> int:
    arguments = ["--output-dir", str(folder), "--num-scenes", "3", "--num-views", "5"]
    return generate.main([*arguments, "--size", "40x56", "--num-workers", "2", *more])


def test_shards_and_generator_give_the_same_samples(tmp_path: Path) -> None:
    assert _command(tmp_path, "--split", "train") == 0
    stored = _dataset(ShardStore(tmp_path / "40x56" / "train-scenes"))
    direct = _dataset(GeneratedStore("train", 3, 5, SIZE))
    assert len(stored) == len(direct) == 3
    for index in range(3):
        assert stored.key(index) == direct.key(index)
        a, b = (data.load(index, 2, 1.0, seed=7) for data in (stored, direct))
        assert a.name == b.name == f"synthetic-{stored.key(index)}"
        for part in ("context", "target"):
            first, second = getattr(a, part), getattr(b, part)
            for field in ("images", "depths", "near", "far", "indices"):
                torch.testing.assert_close(
                    getattr(first, field), getattr(second, field), rtol=0, atol=0
                )
            torch.testing.assert_close(first.poses.packed(), second.poses.packed(), rtol=0, atol=0)
            torch.testing.assert_close(first.cameras.K, second.cameras.K, rtol=0, atol=0)
            assert (first.depths > 0).float().mean() > 0.2


def test_the_store_survives_the_way_to_a_worker() -> None:
    store = GeneratedStore("test", 4, 3, SIZE, seed=5)
    copy = pickle.loads(pickle.dumps(store))
    for one, other in zip(store.frames(2, [0, 2]), copy.frames(2, [0, 2]), strict=True):
        assert one.size == SIZE
        np.testing.assert_array_equal(one.crop(3, 4, 20, 30), other.crop(3, 4, 20, 30))
    np.testing.assert_array_equal(store.poses(1), copy.poses(1))
    assert [scene.key for scene in copy.scenes][:2] == ["test-5-000000", "test-5-000001"]


def test_stored_depth_is_the_rendered_depth_within_a_step() -> None:
    scene = generate_scene("train", 0, 2, 2, SIZE)
    stored = stored_scene(scene)
    _, depth = scene.render(1)
    encoded = stored.depths[1]
    table = depth_codec.lookup_table(encoded.near, encoded.far)
    decoded = table[depth_codec.decode_codes(encoded.data)]
    valid = decoded > 0
    assert valid.sum() >= 0.99 * (depth > 0).sum()
    step = (encoded.far / encoded.near) ** (1 / 254) - 1
    assert np.abs(decoded / depth - 1)[valid].max() <= 0.51 * step


def test_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    for folder, workers in (("one", "1"), ("three", "3")):
        _command(tmp_path / folder, "--split", "test", "--num-workers", workers)
    one, three = (
        (tmp_path / folder / "40x56" / "test-scenes" / "shard-000000.tar").read_bytes()
        for folder in ("one", "three")
    )
    assert one == three


def test_a_stopped_run_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    _command(whole, "--split", "train", "--shard-size-mb", "0.001")
    real_add = ShardWriter.add

    def stop_at_third(writer: ShardWriter, scene: object) -> None:
        if scene.key.endswith("2"):  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        real_add(writer, scene)  # type: ignore[arg-type]

    stopped = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "add", stop_at_third)
        assert _command(stopped, "--split", "train", "--shard-size-mb", "0.001") == 130
    folder = stopped / "40x56" / "train-scenes"
    assert len(list(folder.glob("*.tar"))) == 2
    assert not list(folder.glob("*.partial"))
    assert _command(stopped, "--split", "train", "--shard-size-mb", "0.001") == 0
    for name in ("shard-000000.tar", "shard-000001.tar", "shard-000002.tar"):
        assert (folder / name).read_bytes() == (whole / "40x56/train-scenes" / name).read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["is_complete"]
    assert sum(shard["scenes"] for shard in manifest["shards"].values()) == 3


def test_a_finished_run_can_be_extended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _command(tmp_path, "--split", "train")
    _command(tmp_path, "--split", "train", "--num-scenes", "4")
    assert "4 scenes in 2 shards" in capsys.readouterr().out
    store = ShardStore(tmp_path / "40x56" / "train-scenes")
    assert [scene.key[-1] for scene in store.scenes] == ["0", "1", "2", "3"]


def test_other_settings_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _command(tmp_path, "--split", "train")
    assert _command(tmp_path, "--split", "train", "--seed", "1") == 1
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["big", "0x20", "20x", "4x5x6", "-3", "7"])
def test_bad_sizes_are_explained(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.main([f"--size={text}"])
    assert "HxW such as 360x640" in capsys.readouterr().err


def test_stores_need_scenes() -> None:
    with pytest.raises(ValueError, match="num_scenes must be positive, got 0"):
        GeneratedStore("train", 0)
    with pytest.raises(ValueError, match="split must be one of"):
        GeneratedStore("validation", 2)
