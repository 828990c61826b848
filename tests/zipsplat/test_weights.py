"""Weights files of every kind, friendly and hostile."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat import checkpoints, tensor_pickle, weights
from zipsplat.downloads import DownloadError
from zipsplat.model.checkpoint_layout import network_from_tensors
from zipsplat.releases import RELEASES
from zipsplat.tensor_pickle import Opaque
from zipsplat.torch_files import read_torch_file


class Unknown(dict[str, int]):
    """A class that a reader cannot know."""


class Intruder:
    """Pickles as a call that creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.target}",)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return dict(tiny_network().state_dict())


def full_checkpoint(state: dict[str, Tensor]) -> dict[str, Any]:
    """All that a training writes."""
    return {
        "model": OrderedDict(state),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(5.0)}}},
        "lr_scheduler": {"last_epoch": 7, "_last_lr": [1e-3]},
        "conf": {"data": {"name": "composed"}, **TINY.to_conf()},
        "epoch": 3,
        "eval": {"psnr": np.float64(20.5), "count": np.int64(7), "loss": np.float32(0.25)},
        "tot_it": 100,
        "tot_n_samples": 1600,
    }


def check_loaded(path: Path, state: dict[str, Tensor]) -> weights.Checkpoint:
    loaded = weights.load(path)
    assert loaded.tensors.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(loaded.tensors[name], value, rtol=0, atol=0)
    return loaded


@pytest.mark.parametrize("protocol", [2, 4])
def test_full_training_checkpoint(tmp_path: Path, state: dict[str, Tensor], protocol: int) -> None:
    path = tmp_path / "checkpoint_3_0.tar"
    torch.save(full_checkpoint(state), path, pickle_protocol=protocol)
    loaded = check_loaded(path, state)
    assert loaded.conf["model"]["backbone"]["out_layers"] == [2, 3, 5]
    assert loaded.extras["eval"] == {"psnr": 20.5, "count": 7, "loss": 0.25}
    assert loaded.extras["epoch"] == 3
    assert loaded.extras["optimizer"]["state"][0]["step"] == 5
    network = network_from_tensors(loaded.tensors, loaded.conf)
    assert network.config == TINY


def test_light_bare_and_safetensors(tmp_path: Path, state: dict[str, Tensor]) -> None:
    light, bare, wrapped = (tmp_path / name for name in ("best.tar", "bare.pth", "wrapped.pt"))
    torch.save({"model": state, "conf": TINY.to_conf(), "epoch": 1, "eval": None}, light)
    torch.save(state, bare)
    torch.save({"state_dict": state}, wrapped)
    weights.save(tmp_path / "it.safetensors", state, TINY.to_conf())
    assert check_loaded(light, state).conf == TINY.to_conf()
    assert check_loaded(bare, state).conf == {}
    check_loaded(wrapped, state)
    assert check_loaded(tmp_path / "it.safetensors", state).conf == TINY.to_conf()


def test_older_format(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    check_loaded(path, state)


def test_parameters_views_and_dtypes(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    saved = {
        "parameter": torch.nn.Parameter(base[0]),
        "transposed": base.t(),
        "slice": base[1:3, 2:],
        "half": base.half(),
        "bfloat16": base.bfloat16(),
        "double": base.double(),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "uint16": torch.tensor([1, 2], dtype=torch.uint16),
    }
    torch.save(saved, tmp_path / "x.pt")
    read = read_torch_file(tmp_path / "x.pt")
    assert read.keys() == saved.keys()
    for name, value in saved.items():
        assert read[name].dtype == value.dtype
        torch.testing.assert_close(read[name], value.detach(), rtol=0, atol=0)


def test_prefixes_of_training_wrappers(tmp_path: Path, state: dict[str, Tensor]) -> None:
    wrapped = {f"module.{name}": value for name, value in state.items()}
    compiled = {
        name.replace("cross_attention.0.", "cross_attention.0._orig_mod."): value
        for name, value in state.items()
    }
    assert compiled.keys() != state.keys()
    extra = {**state, "gaussian_head.lpips.net.0.weight": torch.zeros(3)}
    for index, renamed in enumerate((wrapped, compiled, extra)):
        torch.save({"model": renamed}, tmp_path / f"{index}.tar")
        check_loaded(tmp_path / f"{index}.tar", state)
    twice = {**state, "_orig_mod.downscale.0.bias": torch.zeros(32)}
    torch.save(twice, tmp_path / "twice.tar")
    with pytest.raises(ValueError, match=r"two tensors are named 'downscale\.0\.bias'"):
        weights.load(tmp_path / "twice.tar")


def test_unknown_classes_are_ignored_beside_the_weights(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    conf = TINY.to_conf()
    conf["note"] = Unknown(a=1)
    conf["model"]["weights"] = Path("x")
    content = {"model": state, "conf": conf, "eval": {"array": np.zeros(3)}, "who": Unknown()}
    torch.save(content, tmp_path / "x.tar")
    loaded = check_loaded(tmp_path / "x.tar", state)
    assert "note" not in loaded.conf
    assert loaded.conf["model"]["backbone"] == TINY.to_conf()["model"]["backbone"]
    assert isinstance(loaded.extras["who"], Opaque)
    assert loaded.extras["who"].qualified_name.endswith("Unknown")
    torch.save({"model": state, "conf": Unknown(a=1)}, tmp_path / "opaque.tar")
    assert check_loaded(tmp_path / "opaque.tar", state).conf == {}


def test_unknown_classes_among_the_weights_are_refused_by_name(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    torch.save({"model": {**state, "strange": Unknown()}}, tmp_path / "x.tar")
    with pytest.raises(ValueError, match=r"entry 'strange' is <.*Unknown, not built>"):
        weights.load(tmp_path / "x.tar")


def hostile_pickles(target: Path) -> dict[str, bytes]:
    """Pickle programs that create a file when read by an unrestricted reader."""
    name = str(target).encode()
    return {
        "reduce": pickle.dumps({"model": Intruder(target)}),
        "eval": b'cbuiltins\neval\n(S\'__import__("os").system("touch ' + name + b"\")'\ntR.",
        "getattr": b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch " + name + b"'\ntR.",
        "instance": b"(ios\nsystem\n(S'touch " + name + b"'\no.",
        "torch": b"ctorch.serialization\nos.system\n(S'touch " + name + b"'\ntR.",
        "stack_global": pickle.dumps(Intruder(target), protocol=4),
    }


def test_the_hostile_pickles_are_hostile(tmp_path: Path) -> None:
    made = 0
    for name, program in hostile_pickles(tmp_path / "made").items():
        if name in ("reduce", "eval", "stack_global"):
            pickle.loads(program)
            made += (tmp_path / "made").exists()
            (tmp_path / "made").unlink()
    assert made == 3


@pytest.mark.parametrize("kind", hostile_pickles(Path("x")))
@pytest.mark.parametrize("is_zip", [True, False])
def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, kind: str, is_zip: bool) -> None:
    target = tmp_path / "made"
    program = hostile_pickles(target)[kind]
    path = tmp_path / "hostile.tar"
    if is_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
            archive.writestr("archive/version", "3\n")
    else:
        path.write_bytes(program)
    with pytest.raises(ValueError, match=r"hostile\.tar"):
        weights.load(path)
    assert not target.exists()


def test_hostile_entries_beside_good_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    target = tmp_path / "made"
    torch.save({"model": state, "conf": TINY.to_conf(), "x": Intruder(target)}, tmp_path / "a.tar")
    assert check_loaded(tmp_path / "a.tar", state).conf == TINY.to_conf()
    assert not target.exists()


def test_a_pickle_cannot_change_the_reader(tmp_path: Path) -> None:
    """BUILD with a pair of states sets attributes, here on what the pickle was given to call."""
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    program = function + b"(N}S'mark'\nI1\nstb."
    with zipfile.ZipFile(tmp_path / "x.tar", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(ValueError, match=r"x\.tar"):
        weights.load(tmp_path / "x.tar")
    allowed = tensor_pickle._ALLOWED["torch._utils", "_rebuild_tensor_v2"]
    assert not hasattr(allowed, "mark")


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".tar", ".safetensors"])
def test_truncated_files(
    tmp_path: Path, state: dict[str, Tensor], where: float, suffix: str
) -> None:
    good, bad = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    if suffix == ".tar":
        torch.save({"model": state}, good)
    else:
        weights.save(good, state, {})
    content = good.read_bytes()
    bad.write_bytes(content[: int(len(content) * where)])
    with pytest.raises(ValueError, match=f"bad{suffix}: not a readable"):
        weights.load(bad)


def test_tensors_outside_their_storage(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4)}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    key = next(name for name in entries if name.endswith("data.pkl"))
    assert entries[key].count(b"K\x04\x85") == 1  # the size, a tuple of one number
    entries[key] = entries[key].replace(b"K\x04\x85", b"K\x7f\x85")
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        for name, value in entries.items():
            archive.writestr(name, value)
    with pytest.raises(ValueError, match="does not fit into its storage"):
        weights.load(tmp_path / "y.pt")


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "text.tar").write_text("hello")
    torch.save([torch.ones(1)], tmp_path / "list.tar")
    torch.save({}, tmp_path / "nothing.tar")
    torch.save({"model": {}}, tmp_path / "hollow.tar")
    with zipfile.ZipFile(tmp_path / "other.tar", "w") as archive:
        archive.writestr("readme", "hello")
    for name in ("empty", "text", "list", "nothing", "hollow", "other"):
        with pytest.raises(ValueError, match=f"{name}\\.tar"):
            weights.load(tmp_path / f"{name}.tar")


def test_settings_in_the_metadata_of_others(tmp_path: Path, state: dict[str, Tensor]) -> None:
    settings = {"out_layers": "[1, 3, 5]", "alt_start": "3", "license": "none"}
    save_file(state, tmp_path / "x.safetensors", metadata=settings)
    conf = weights.load(tmp_path / "x.safetensors").conf
    config = network_from_tensors(state, conf).config
    assert config.backbone.out_layers == (1, 3, 5)
    assert (config.backbone.alt_start, config.backbone.rope_start) == (3, 2)
    save_file(state, tmp_path / "y.safetensors", metadata={"conf": "{not json"})
    with pytest.raises(ValueError, match="not JSON"):
        weights.load(tmp_path / "y.safetensors")


def test_saving_keeps_an_old_file_when_it_fails(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "x.safetensors"
    weights.save(path, state, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        weights.save(path, state, {"bad": object()})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    with pytest.raises(ValueError, match=r"\.safetensors"):
        weights.save(tmp_path / "x.pth", state, {})


def test_places_without_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.tar; give a file.*names zipsplat"):
        weights.load(tmp_path / "nothing.tar")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        weights.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no weights at zipsplatt"):
        weights.load("zipsplatt")
    with pytest.raises(FileNotFoundError, match=r"no weights at runs/model\.tar"):
        weights.load("runs/model.tar")


def test_bundled_weights_need_no_download(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path / "none")
    assert weights.names() == list(RELEASES)
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    weights.save(tmp_path / "zipsplat-mini.safetensors", state, {})
    assert weights.names() == [*RELEASES, "zipsplat-mini"]
    assert weights.load("zipsplat-mini").path == tmp_path / "zipsplat-mini.safetensors"


def test_a_file_with_the_name_of_the_released_weights(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state, tmp_path / "zipsplat")
    check_loaded(Path("zipsplat"), state)


def test_offline_error(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIPSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    with pytest.raises(DownloadError) as caught:
        weights.load("zipsplat")
    message = str(caught.value)
    by_hand = tmp_path / "cache" / "huggingface" / "veichta--zipsplat" / "zipsplat-da3g-252.tar"
    assert f"put it at {by_hand}" in message
    assert "veichta/zipsplat/resolve/main/zipsplat-da3g-252.tar" in message
    assert "Without a connection" not in message
    weights.save(tmp_path / "zipsplat-mini.safetensors", state, {})
    with pytest.raises(DownloadError, match="Without a connection, use 'zipsplat-mini'"):
        weights.load("zipsplat")
    by_hand.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": state}, by_hand)
    assert weights.load("zipsplat").path == by_hand
    record = json.loads(by_hand.with_name(by_hand.name + ".json").read_text())
    assert record["size"] == by_hand.stat().st_size


def test_loading_takes_the_weights_from_the_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """Tensors are views of the mapped file, and the network is built around them."""
    torch.save({"model": state}, tmp_path / "x.tar")
    loaded = weights.load(tmp_path / "x.tar")
    storages = {value.untyped_storage().data_ptr() // 2**30 for value in loaded.tensors.values()}
    assert len(storages) <= 2
    network = network_from_tensors(loaded.tensors, {"model": TINY.to_conf()["model"]})
    for name, value in network.state_dict().items():
        assert value.data_ptr() == loaded.tensors[name].data_ptr()


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_data(tmp_path: Path, protocol: int) -> None:
    content = {"a": [1, 2.5, True, None, "x", b"bytes"], "b": ({1, 2}, frozenset({3})), "c": 1 + 2j}
    torch.save(content, tmp_path / "x.pt", pickle_protocol=protocol)
    assert read_torch_file(tmp_path / "x.pt") == content
