"""Every command that the README shows exists, and says how it is used."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def shown_commands() -> list[list[str]]:
    """Words of every line of every shell block, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def modules_shown() -> list[str]:
    found = {w[i + 1] for w in shown_commands() for i, word in enumerate(w[:-1]) if word == "-m"}
    return sorted(name for name in found if name.startswith(("zipsplat", "splatfactory")))


def verbs_shown() -> list[str]:
    return sorted({words[1] for words in shown_commands() if words[0] == "zipsplat"})


def targets_shown() -> list[str]:
    return sorted({words[1] for words in shown_commands() if words[0] == "make"})


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_readme_shows_commands() -> None:
    assert {"reconstruct", "render", "info", "doctor"} <= set(verbs_shown())
    assert {"demo", "test"} <= set(targets_shown())


@pytest.mark.parametrize("module", modules_shown())
def test_modules_have_help(module: str) -> None:
    done = run(sys.executable, "-m", module, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


@pytest.mark.parametrize("verb", verbs_shown())
def test_verbs_have_help_with_examples(verb: str) -> None:
    done = run(sys.executable, "-m", "zipsplat", verb, "--help")
    assert done.returncode == 0, done.stderr
    assert f"zipsplat {verb}" in done.stdout
    shown = {
        word for words in shown_commands() if words[:2] == ["zipsplat", verb] for word in words
    }
    for option in (word for word in shown if word.startswith("-")):
        assert option in done.stdout, f"the README uses {option}, --help does not know it"


@pytest.mark.parametrize("target", targets_shown())
def test_make_targets_exist(target: str) -> None:
    done = run("make", "--dry-run", "--assume-old=.venv/.ready", target)
    assert done.returncode == 0, done.stderr


def test_files_shown_exist() -> None:
    for words in shown_commands():
        for word in words:
            if word.startswith(("assets/", "examples/", "benchmarks/", "scripts/")):
                assert (ROOT / word).exists(), word
