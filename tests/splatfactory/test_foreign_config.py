"""Configurations of others: one line for a mistake, no secrets, no bombs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from splatfactory import config
from splatfactory.config import ConfigError, Request
from tests.contained import contained

FILES = Path(__file__).parents[1] / "hostile_files"
SECRET = "hf_SECRET"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)


TEXTS = {
    "tab.yaml": "\tmodel: {}\n",
    "dup.yaml": "model: {}\nmodel: {}\n",
    "tag.yaml": "model: !!python/object/apply:os.system ['touch imported']\n",
    "nul.yaml": "model: \0\n",
    "self.yaml": "model: &a\n  b: *a\n",
    "deep.yaml": "a: " + "[" * 5000 + "]" * 5000,
    "flow.yaml": "{a: " * 3000 + "}" * 3000,
    "laughs.yaml": (FILES / "y_laughs.yaml").read_text(),
    "merge.yaml": "a: &a {x: 1}\n" + "".join(f"b{i}: {{<<: *a}}\n" for i in range(20_000)),
    "long.yaml": "a: " + "x" * 300_000,
    "list.yaml": "[1, 2]",
    "bytes.yaml": "a: \udcff",
}
TOLD_WITH_LINE = ("tab.yaml", "dup.yaml", "tag.yaml")


@pytest.mark.parametrize("name", TEXTS)
def test_mistakes_and_bombs_cost_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode("utf-8", "surrogateescape"))

    def load() -> int:
        for read in (lambda: config.load(Request(str(path), ())), lambda: config.read_yaml(path)):
            with pytest.raises(ConfigError) as caught:
                read()
            message = str(caught.value)
            assert path.stem in message or "unknown option" in message, message
            assert len(message.splitlines()) == 1
            if name in TOLD_WITH_LINE:
                assert f"{name}, line " in message, message
        return 0

    ended = contained(load)
    assert ended.status == 0, ended.output[-1500:]
    assert ended.grown < 250e6
    assert not (Path.cwd() / "imported").exists()


def test_a_bomb_in_a_group_beside_it(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(TEXTS["laughs.yaml"])
    (tmp_path / "other.yaml").write_text("\t")
    (tmp_path / "x.yaml").write_text("defaults:\n  - model: mine\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is not a configuration"):
        config.load(Request(str(tmp_path / "x.yaml"), ()))
    (tmp_path / "y.yaml").write_text("data:\n  seed: 3\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is not a configuration"):
        config.load(Request(str(tmp_path / "y.yaml"), ("model=mine",)))
    assert config.load(Request(str(tmp_path / "y.yaml"), ())).data.seed == 3


LEAKS = [
    "${oc.env:HF_TOKEN}",
    "http://x/w?t=${oc.env:HF_TOKEN}",
    "${oc.env:NOTHING,${oc.env:HF_TOKEN}}",
    "${oc.${data.name}:HF_TOKEN}",
    "${oc.decode:${oc.env:HF_TOKEN}}",
]


@pytest.mark.parametrize("text", LEAKS)
def test_files_and_checkpoints_cannot_read_the_environment(text: str, tmp_path: Path) -> None:
    path = tmp_path / "leak.yaml"
    path.write_text(f"data:\n  name: env\nmodel:\n  weights: '{text}'\n")
    with pytest.raises(ConfigError) as caught:
        config.load(Request(str(path), ()))
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        config.merge([{"data": {"name": "env"}, "model": {"weights": text}}], [])
    assert SECRET not in str(caught.value)


def test_the_command_line_may_read_the_environment() -> None:
    found = config.merge([], ["model.weights=${oc.env:HF_TOKEN}"])
    assert found.model.weights == SECRET
    found = config.merge([], ["data.seed=4", "data.name=s${data.seed}"])
    assert found.data.name == "s4"
    assert config.merge([], ["model.weights=${oc.env:HF_TOKEN}"]) == config.merge(
        [], [f"model.weights={SECRET}"]
    )


def test_references_of_references() -> None:
    names = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    tree = {a: f"${{model.{b}}}${{model.{b}}}" for a, b in pairwise(names)}
    with pytest.raises(ConfigError, match="30 references"):
        config.merge([{"model": tree}], [])


@pytest.mark.parametrize("entry", ["model: ${oc.env:SECRET}", "${oc.env:SECRET}"])
def test_groups_of_a_file_do_not_read_the_environment(
    entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    path = tmp_path / "x.yaml"
    path.write_text(f"defaults:\n  - {entry}\n  - _self_\n")
    with pytest.raises(config.ConfigError) as caught:
        config.load(config.Request(str(path), ()))
    assert "hidden" not in str(caught.value)


def test_groups_are_named_by_words(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("defaults:\n  - 3: zipsplat\n  - _self_\n")
    with pytest.raises(config.ConfigError, match=r"x\.yaml: `defaults` must list"):
        config.load(config.Request(str(path), ()))
