"""The list of breaks matches the sources, and the runner tells caught ones from survivors."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants import run
from tests.mutants.breaks import BREAKS, Break

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("entry", BREAKS, ids=lambda entry: f"{entry.file}: {entry.new.strip()}")
def test_every_break_fits_the_sources(entry: Break) -> None:
    text = run.broken_text(ROOT, entry)
    assert text != (ROOT / entry.file).read_text(encoding="utf-8")
    ast.parse(text)
    for test in entry.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_there_are_enough_of_both_packages() -> None:
    assert len(BREAKS) >= 40
    assert len(set(BREAKS)) == len(BREAKS)
    for package in run.PACKAGES:
        assert sum(entry.file.startswith(package + "/") for entry in BREAKS) >= 10


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """A package of one module with two constants, one of them tested."""
    package, tests = tmp_path / "splatfactory", tmp_path / "tests"
    package.mkdir()
    tests.mkdir()
    (package / "__init__.py").write_text("")
    (package / "numbers_.py").write_text("TESTED = 1\nIGNORED = 2\n")
    (tests / "test_it.py").write_text(
        "from splatfactory.numbers_ import TESTED\n\ndef test_it():\n    assert TESTED == 1\n"
    )
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["slow"]\n')
    return tmp_path


def broken(old: str, new: str, test: str = "test_it.py") -> Break:
    return Break("splatfactory/numbers_.py", old, new, (test,))


def test_survivors_are_told_from_what_is_caught(small_project: Path) -> None:
    breaks = [broken("TESTED = 1", "TESTED = 3"), broken("IGNORED = 2", "IGNORED = 3"),
              broken("TESTED = 1", "TESTED ==")]  # fmt: skip
    found = dict(run.run(small_project, breaks))
    assert [found[entry] for entry in breaks] == [
        run.Outcome.CAUGHT, run.Outcome.SURVIVED, run.Outcome.UNTESTED,
    ]  # fmt: skip
    assert "TESTED = 1\n" in (small_project / "splatfactory/numbers_.py").read_text()


def test_stale_entries_and_failing_sources_are_errors(small_project: Path) -> None:
    with pytest.raises(ValueError, match="2 times, once is wanted"):
        run.run(small_project, [broken("ED = ", "ED=")])
    (small_project / "tests" / "test_it.py").write_text("def test_it():\n    assert False\n")
    with pytest.raises(RuntimeError, match="unbroken sources fail"):
        run.run(small_project, [broken("IGNORED = 2", "IGNORED = 3")])


def test_stale_entries_are_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(run, "BREAKS", [Break("splatfactory/train.py", "nowhere", "", ())])
    assert run.main([]) == 1
    assert "has 'nowhere' 0 times" in capsys.readouterr().err
    assert run.main(["--only", "what nobody has"]) == 1
    assert "no break is chosen" in capsys.readouterr().err


@pytest.mark.parametrize(("survivors", "status"), [(0, 0), (1, 0), (2, 1)])
def test_one_in_twenty_may_survive(monkeypatch, survivors: int, status: int) -> None:
    entries = BREAKS[:20]
    outcomes = [run.Outcome.SURVIVED] * survivors + [run.Outcome.CAUGHT] * (20 - survivors)
    monkeypatch.setattr(run, "BREAKS", entries)
    monkeypatch.setattr(run, "run", lambda *_: list(zip(entries, outcomes, strict=True)))
    assert run.main([]) == status
