"""Checkpoints: whole or not there, verified, harmless."""

import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from splatfactory.runtime import checkpoints
from splatfactory.runtime.checkpoints import BestModels, CheckpointError
from splatfactory.schema import Direction
from zipsplat.digests import sha256_of
from zipsplat.files import write_text


def state(value: float) -> dict:
    return {"model": {"w": torch.full((1000,), value)}, "tot_it": int(value)}


def test_what_is_saved_is_loaded(tmp_path):
    path = checkpoints.full_path(tmp_path, 3)
    checkpoints.save({**state(3), "conf": {"a": [1, None, "x"]}}, path)
    loaded = checkpoints.load(path)
    assert loaded["conf"] == {"a": [1, None, "x"]}
    assert torch.equal(loaded["model"]["w"], torch.full((1000,), 3.0))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("damage", ["truncated", "one bit"])
def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, damage: str, caplog):
    for step in (1, 2):
        checkpoints.save(state(step), checkpoints.full_path(tmp_path, step))
    newest = checkpoints.full_path(tmp_path, 2)
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    loaded, path = checkpoints.load_newest(tmp_path)
    assert (loaded["tot_it"], path.name) == (1, "checkpoint_00000001.tar")
    assert "damaged" in caplog.text


def test_a_hostile_checkpoint_runs_nothing(tmp_path):
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return (Path.touch, (marker,))

    path = checkpoints.full_path(tmp_path, 1)
    torch.save({"model": Hostile()}, path)
    with pytest.raises(CheckpointError):
        checkpoints.load(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError):
        checkpoints.load(path)
    assert not marker.exists()


def test_no_room_is_said_and_nothing_is_lost(tmp_path, monkeypatch):
    checkpoints.save(state(1), checkpoints.full_path(tmp_path, 1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(CheckpointError, match="no room"):
        checkpoints.save(state(2), checkpoints.full_path(tmp_path, 2))
    assert checkpoints.load_newest(tmp_path)[0]["tot_it"] == 1


def test_a_disk_that_fills_up_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = checkpoints.full_path(tmp_path, 1)
    checkpoints.save(state(1), path)

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoints.save(state(2), path)
    assert checkpoints.load(path)["tot_it"] == 1
    assert not list(tmp_path.glob(".partial*"))


def test_what_the_disk_returns_is_compared_with_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "sha256_of", lambda _: "0" * 64)
    with pytest.raises(CheckpointError, match="reads back differently"):
        checkpoints.save(state(1), checkpoints.full_path(tmp_path, 1))
    assert not checkpoints.full_checkpoints(tmp_path)


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 5, 10):
        checkpoints.save(state(step), checkpoints.full_path(tmp_path, step))
    checkpoints.keep_newest(tmp_path, 2)
    assert [p.name for p in checkpoints.full_checkpoints(tmp_path)] == [
        "checkpoint_00000005.tar",
        "checkpoint_00000010.tar",
    ]
    assert len(list(tmp_path.glob("*.sha256"))) == 2
    checkpoints.keep_newest(tmp_path, 0)  # at least one always stays
    assert [p.name for p in checkpoints.full_checkpoints(tmp_path)] == ["checkpoint_00000010.tar"]


@pytest.mark.parametrize(("direction", "best"), [(Direction.min, 2), (Direction.max, 1)])
def test_best_is_remembered_across_restarts(tmp_path, direction: Direction, best: int):
    models = BestModels(tmp_path, 1, direction)
    weights = {"w": torch.zeros(2)}
    assert models.offer(5.0, 1, weights, {})
    models.offer(3.0, 2, weights, {})
    restarted = BestModels(tmp_path, 1, direction)
    restarted.restore(models.state(), 2)
    assert not restarted.offer(4.0, 3, weights, {})
    assert checkpoints.best_weights(tmp_path).name == f"checkpoint_best_{best:08d}.safetensors"
    assert len(list(tmp_path.glob("checkpoint_best_*"))) == 1
    assert not restarted.offer(float("nan"), 4, weights, {})


def test_what_was_evaluated_after_the_save_of_its_step_is_remembered(tmp_path):
    models, weights = BestModels(tmp_path, 2, Direction.max), {"w": torch.zeros(2)}
    saved = models.state()
    models.offer(5.0, 3, weights, {})
    models.offer(6.0, 6, weights, {})  # of a later step, which training will come to again
    restarted = BestModels(tmp_path, 2, Direction.max)
    restarted.restore(saved, 3)
    assert restarted.state() == [{"value": 5.0, "step": 3}]


def test_errors_of_libraries_when_writing_are_one_line(tmp_path, monkeypatch):
    from safetensors import SafetensorError
    from safetensors import torch as safetensors_torch

    def fail(error):
        def write(*_args, **_kwargs):
            raise error

        return write

    monkeypatch.setattr(torch, "save", fail(RuntimeError("enforce fail\nunexpected pos 6 vs 7")))
    with pytest.raises(CheckpointError, match=r"cannot write checkpoint .*enforce fail unexpected"):
        checkpoints.save(state(1), checkpoints.full_path(tmp_path, 1))
    monkeypatch.setattr(safetensors_torch, "save_file", fail(SafetensorError("File too large")))
    with pytest.raises(CheckpointError, match=r"cannot write weights .*too large"):
        checkpoints.export({"w": torch.zeros(2)}, {}, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_random_generators_continue_where_they_were(tmp_path):
    device = torch.device("cpu")
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    random.gauss(0, 1), np.random.standard_normal()
    path = checkpoints.full_path(tmp_path, 1)
    checkpoints.save({"model": {}, "rng": checkpoints.random_state(device)}, path)
    expected = (random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist())
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    checkpoints.restore_random_state(checkpoints.load(path)["rng"], device)
    assert (random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist()) == expected


def test_a_kill_beside_the_rename_leaves_a_good_checkpoint(tmp_path, monkeypatch):
    """Before the rename the old file counts, after it the new one, whatever the digest file is."""
    path = checkpoints.full_path(tmp_path, 1)
    checkpoints.save({"model": {"a": torch.zeros(2)}}, path)
    old = path.read_bytes()
    checkpoints.save({"model": {"a": torch.ones(2)}}, path)
    new = path.read_bytes()
    path.write_bytes(old)
    write_text(checkpoints._digest_path(path), sha256_of(path))
    written = []

    def killed(place, text):
        write_text(place, text)
        written.append(text)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save({"model": {"a": torch.ones(2)}}, path)
    assert len(written[0].split()) == 2
    assert checkpoints.load(path)["model"]["a"].tolist() == [0, 0]
    path.write_bytes(new)
    assert checkpoints.load(path)["model"]["a"].tolist() == [1, 1]
    path.write_bytes(new[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load(path)
