"""Plug-ins are modules."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from zipsplat.plugins import Plugins


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "animals_for_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "cat.py").write_text("PLUGIN = 'meow'")
    (folder / "_shared.py").write_text("")
    (folder / "mute.py").write_text("")
    (folder / "broken.py").write_text("import no_such_module_for_test")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "animals_for_test"
    for name in [name for name in sys.modules if name.startswith("animals_for_test")]:
        del sys.modules[name]


def test_lookup(package: str) -> None:
    animals: Plugins[str] = Plugins(package)
    assert animals.names() == ["broken", "cat", "mute"]
    assert animals["cat"] == "meow"
    assert Plugins[str]("zipsplat.formats")["animals_for_test.cat"] == "meow"


def test_errors(package: str) -> None:
    animals: Plugins[str] = Plugins(package)
    with pytest.raises(
        KeyError, match="no animals_for_test plug-in named 'dog'; known: broken, cat"
    ):
        animals["dog"]
    with pytest.raises(KeyError, match="defines no PLUGIN"):
        animals["mute"]
    with pytest.raises(ModuleNotFoundError, match="no_such_module_for_test"):
        animals["broken"]
