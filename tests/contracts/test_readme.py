"""The README is short; every command in it and in docs/ exists."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {p.name: p.read_text(encoding="utf-8") for p in sorted((ROOT / "docs").glob("*.md"))}
MOST_WORDS = 1200
PROMISED = (Path(__file__).parent / "promised.txt").read_text(encoding="utf-8").splitlines()


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands_of(text: str) -> list[list[str]]:
    """Words of every line of every shell block, without comments."""
    lines = [line for b in blocks_of(text, "bash") for line in b.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


SHOWN = commands_of(README)
SHOWN_ANYWHERE = [*SHOWN, *(words for page in PAGES.values() for words in commands_of(page))]


def modules_shown() -> list[str]:
    found = {w[i + 1] for w in SHOWN_ANYWHERE for i, word in enumerate(w[:-1]) if word == "-m"}
    return sorted(name for name in found if name.startswith(("zipsplat", "splatfactory")))


def verbs_shown() -> list[str]:
    return sorted({words[1] for words in SHOWN_ANYWHERE if words[0] == "zipsplat"})


def options_shown(marker: list[str]) -> set[str]:
    """Options of all commands that contain some words in a row."""
    size = len(marker)
    places = (
        (words, i)
        for words in SHOWN_ANYWHERE
        for i in range(len(words))
        if words[i : i + size] == marker
    )
    rest = (word for words, i in places for word in words[i + size :])
    return {word.split("=")[0] for word in rest if re.match(r"-(-[a-z]|[a-z]$)", word)}


def targets_shown() -> list[str]:
    return sorted({words[1] for words in SHOWN_ANYWHERE if words[0] == "make"})


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def help_of(module: str, *verb: str) -> str:
    """What `python -m module verb --help` prints, in this process: a new one takes seconds."""
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        warnings.catch_warnings(),
    ):
        patch.setattr(sys, "argv", [module, *verb, "--help"])
        warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert not ended.value.code
    return printed.getvalue()


@pytest.mark.parametrize("command", [("splatfactory.train",), ("zipsplat", "info")])
def test_help_is_that_of_the_command(command: tuple[str, ...]) -> None:
    done = run(sys.executable, "-m", *command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout == help_of(*command)


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


def test_the_readme_shows_commands() -> None:
    verbs = {words[1] for words in SHOWN if words[0] == "zipsplat"}
    assert {"reconstruct", "render", "info", "doctor"} <= verbs
    assert {"demo", "test"} <= {words[1] for words in SHOWN if words[0] == "make"}


@pytest.mark.parametrize("module", modules_shown())
def test_modules_have_help(module: str) -> None:
    texts = first = help_of(module)
    assert "usage" in texts.lower()
    unknown = [option for option in options_shown(["-m", module]) if option not in texts]
    if unknown:  # they may be those of sub-commands
        verbs = ",".join(re.findall(r"\{([\w,]+)\} \.\.\.", first)).split(",")
        texts += "".join(help_of(module, verb) for verb in verbs if verb)
    for option in unknown:
        known = option in texts
        assert known, f"a page uses {option}, --help does not know it"


@pytest.mark.parametrize("verb", verbs_shown())
def test_verbs_have_help_with_examples(verb: str) -> None:
    text = help_of("zipsplat", verb)
    assert f"zipsplat {verb}" in text
    for option in options_shown(["zipsplat", verb]):
        assert option in text, f"a page uses {option}, --help does not know it"


@pytest.mark.parametrize("target", targets_shown())
def test_make_targets_exist(target: str) -> None:
    done = run("make", "--dry-run", "--assume-old=.venv/.ready", target)
    assert done.returncode == 0, done.stderr


def test_files_shown_exist() -> None:
    for words in SHOWN_ANYWHERE:
        for word in words:
            if word.startswith(("assets/", "examples/", "benchmarks/", "scripts/")):
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize("promise", [line for line in PROMISED if line and line[0] != "#"])
def test_promises_stay_documented(promise: str) -> None:
    words = promise.split()
    texts = (README, *PAGES.values())
    lines = (
        line
        for t in texts
        for language in ("bash", "python", "sh")
        for b in blocks_of(t, language)
        for line in b.splitlines()
    )
    assert any(all(word in line for word in words) for line in lines), promise
