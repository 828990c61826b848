"""Damaged scene files are scenes or one clear error, in little memory and time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zipsplat.formats import mutations
from tests.zipsplat.formats.mutations import FORMATS_TRIED, mutated, run, sources


@pytest.mark.parametrize("name", FORMATS_TRIED)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    tally = run(name, range(60), 20, tmp_path)
    assert tally.failures == []
    assert tally.read + tally.refused == 60
    assert tally.read > 0 < tally.refused


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS_TRIED)
def test_twenty_thousand_damaged_files(name: str, tmp_path: Path) -> None:
    assert run(name, range(20_000), 400, tmp_path).failures == []


def test_seeds_repeat_and_differ() -> None:
    for name in FORMATS_TRIED:
        whole = sources(name)
        made = [mutated(name, seed, whole) for seed in range(40)]
        assert made == [mutated(name, seed, whole) for seed in range(40)]
        assert len(set(made)) > 30


def test_a_reader_that_breaks_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> bool:
        raise IndexError(path.name)

    monkeypatch.setattr(mutations, "try_reading", broken)
    failures = run("ply", range(3), 10, tmp_path).failures
    assert len(failures) == 3
    assert failures[0].startswith("ply 0: IndexError")
    assert (tmp_path / "ply-2").is_file()
