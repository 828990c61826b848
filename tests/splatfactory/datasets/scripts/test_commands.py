"""What all commands on data share."""

from __future__ import annotations

import importlib

import pytest

from splatfactory.datasets.scripts import (
    depth_estimators,
    extract_depth,
    repack,
)
from tests.splatfactory.datasets.scripts.shard_folders import (
    Stand,
    write,
)


@pytest.mark.parametrize("tool", ["repack", "extract_depth"])
def test_a_negative_number_of_workers_is_refused(tmp_path, capsys, tool, monkeypatch):
    monkeypatch.setattr(depth_estimators, "load", lambda *_: Stand())
    directory = write(tmp_path / "a", ["k0", "k1"], has_depth=False)
    before = {path.name: path.read_bytes() for path in directory.glob("*.tar")}
    command = {"repack": repack, "extract_depth": extract_depth}[tool]
    assert command.main([str(directory), "--num-workers", "-1"]) == 1
    assert "--num-workers must not be negative" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in directory.glob("*.tar")} == before


@pytest.mark.parametrize(
    "name",
    [
        "re10k.download",
        "re10k.convert",
        "dl3dv.download",
        "dl3dv.convert",
        "mipnerf360.download",
        "mipnerf360.convert",
        "extract_depth",
        "repack",
        "resize",
        "describe",
    ],
)
def test_every_command_explains_itself(name, capsys):
    module = importlib.import_module(f"splatfactory.datasets.scripts.{name}")
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    assert "--num-workers" in capsys.readouterr().out
