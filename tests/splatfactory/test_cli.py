"""The command `splatfactory` and its help."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from splatfactory import __version__, cli

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "commands"), [([], cli.COMMANDS), (["data"], cli.DATA_COMMANDS)]
)
def test_help_lists_every_command(capsys, arguments: list[str], commands: dict[str, cli.Command]):
    assert cli.main([*arguments, "--help"]) == 0
    text = capsys.readouterr().out
    for name, command in commands.items():
        assert f"  {name} " in text
        assert command.text in text
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("name", [*cli.COMMANDS, *(f"data {n}" for n in cli.DATA_COMMANDS)])
def test_every_command_explains_itself(capsys, name: str):
    with pytest.raises(SystemExit) as caught:
        cli.main([*name.split(), "--help"])
    assert caught.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_every_module_with_a_main_is_a_command():
    """Modules without a sub-command: the entry point, and the renderer of the examples."""
    known = {c.module for c in (*cli.COMMANDS.values(), *cli.DATA_COMMANDS.values())}
    left_out = {"splatfactory.cli", "splatfactory.datasets.scripts.synthetic.examples"}
    for path in sorted((ROOT / "splatfactory").rglob("*.py")):
        if "\ndef main(" in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            assert name in known | left_out, name
            assert callable(importlib.import_module(name).main)


def test_arguments_and_status_are_passed_on(workplace, capsys):
    assert cli.main(["train", "a", "--conf", "conf.yaml", "train.lrr=1"]) == 1
    assert "did you mean train.lr" in capsys.readouterr().err
    assert cli.main(["train", "a", "--conf", "conf.yaml", "train.num_steps=1"]) == 0
    assert Path("outputs/training/a/checkpoint_last.safetensors").is_file()


def test_wrong_words_get_the_nearest_command(capsys):
    assert cli.main(["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err
    assert cli.main(["data", "descibe"]) == 2
    assert "did you mean describe?" in capsys.readouterr().err


def test_an_interruption_is_one_word(monkeypatch, capsys):
    def interrupt(_argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("splatfactory.eval.compare.main", interrupt)
    assert cli.main(["compare", "a", "b"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_it_runs_as_a_module_without_importing_torch():
    code = "import sys; from splatfactory import cli; print(cli.main(['--version'])); " \
           "assert 'torch' not in sys.modules"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["splatfactory", __version__, "0"], done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "splatfactory", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["splatfactory", __version__]
