"""An option is close to its effect: few modules lie between command line and optimizer."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "module_walk.py"
MOST = 15


@pytest.mark.parametrize("conf", ["quickstart", "zipsplat-tiny"])
def test_from_the_command_line_to_the_optimizer(
    conf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLATFACTORY_OUTPUTS", str(tmp_path))
    walk = runpy.run_path(str(SCRIPT))["walk"]
    entered = walk(["walk", "--conf", conf, "train.lr=1e-3", "train.num_threads=1"])
    modules = [name for name in entered if name.startswith("splatfactory")]
    assert {"splatfactory.train", "splatfactory.config", "splatfactory.training.optim"} <= {
        *modules
    }
    assert len(modules) <= MOST, modules
    assert not list(tmp_path.iterdir())
