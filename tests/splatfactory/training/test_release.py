"""Compact weights of a finished run."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from splatfactory.config import to_dict
from splatfactory.models import build_model
from splatfactory.runtime.checkpoints import export
from splatfactory.training import release
from tests.splatfactory.models.test_models import config_of
from zipsplat import ZipSplat, weights


@pytest.fixture
def run(tmp_path):
    """Weights of a run, as training exports them."""
    torch.manual_seed(0)
    config = config_of("model.img_size=28", "data.dataset_dir=/secret", "model.weights=secret.pth")
    network = build_model(config.model, with_initial_weights=True).network
    path = tmp_path / "last.safetensors"
    export(network.state_dict(), to_dict(config), path)
    return path


def test_half_precision_and_nothing_of_the_machine(run, tmp_path, capsys):
    small = tmp_path / "small.safetensors"
    assert release.main([str(run), "-o", str(small)]) == 0
    assert str(small) in capsys.readouterr().out
    with safe_open(small, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
        conf = json.loads(file.metadata()["conf"])
    assert "secret" not in json.dumps(conf)
    assert small.stat().st_size < 0.6 * run.stat().st_size
    before, after = ZipSplat(str(run)), ZipSplat(str(small))
    assert conf["model"]["img_size"] == 28
    views = [torch.rand(3, 28, 28) for _ in range(2)]
    difference = (before(views)[0].means - after(views)[0].means).abs().max()
    assert 0 < difference < 1e-2


def test_values_that_do_not_fit_are_refused(run, tmp_path, capsys):
    found = weights.read(run)
    tensors = {name: value.clone() for name, value in found.tensors.items()}
    tensors["color_embed.proj.bias"][0] = 1e6
    export(tensors, found.conf, run)
    assert release.main([str(run), "-o", str(tmp_path / "small.safetensors")]) == 1
    assert "color_embed.proj.bias does not fit float16" in capsys.readouterr().err
    assert not (tmp_path / "small.safetensors").exists()


def test_unknown_runs_are_one_line(tmp_path, capsys):
    assert release.main(["nothing", "-o", str(tmp_path / "small.safetensors")]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_two_runs_are_averaged(run, tmp_path, capsys):
    found, other = weights.read(run), tmp_path / "other.safetensors"
    export({name: value + 1 for name, value in found.tensors.items()}, found.conf, other)
    mean = tmp_path / "mean.safetensors"
    assert release.main([str(run), "--blend", str(other), "0.25", "-o", str(mean)]) == 0
    for name, value in weights.read(mean).tensors.items():
        assert torch.equal(
            value, (0.75 * found.tensors[name] + 0.25 * (found.tensors[name] + 1)).half()
        )
    for share, message in (("2", "share must be in"), ("x", "could not convert")):
        assert release.main([str(run), "--blend", str(other), share, "-o", str(mean)]) == 1
        assert message in capsys.readouterr().err


def test_weights_of_other_networks_do_not_blend(run, tmp_path, capsys):
    found, other = weights.read(run), tmp_path / "other.safetensors"
    tensors = dict(found.tensors)
    tensors["color_embed.proj.bias"] = torch.zeros(1)
    export(tensors, found.conf, other)
    output = tmp_path / "mean.safetensors"
    assert release.main([str(run), "--blend", str(other), "0.5", "-o", str(output)]) == 1
    assert "color_embed.proj.bias differs" in capsys.readouterr().err
    assert not output.exists()
