"""Figures of docs/benchmarks.md come only from the committed runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of this name; scripts are no package."""
    for folder in ("benchmarks", "scripts"):
        monkeypatch.syspath_prepend(ROOT / folder)
    module = __import__(request.param)
    monkeypatch.delitem(sys.modules, request.param)
    return module


PAGE = pytest.mark.parametrize("module", ["benchmark_page"], indirect=True)
RECORDS = pytest.mark.parametrize("module", ["records"], indirect=True)
RECORD: dict[str, Any] = {
    "title": "Things", "command": "benchmarks/things.py", "threads": 2, "date": "2026-11-29",
    "machine": {"processor": "P", "features": ["fma"], "cores": 2, "memory_gb": 8, "python": "3"},
    "load": [1.0, 2.5], "versions": {"numpy": "2", "gsply": None},
    "rows": [
        {"what": "save", "value": 2.0, "unit": "s", "peer": "gsply", "peer_value": 5, "ratio": 2.5,
         "wanted": 3},
        {"what": "load", "value": 0.5, "unit": "s", "peer": "gsply"},
    ],
}  # fmt: skip


@PAGE
def test_the_page_is_made_from_the_committed_runs(module: ModuleType) -> None:
    text = module.PAGE.read_text(encoding="utf-8")
    assert module.page(text, module.records()) == text
    for path in module.RESULTS.glob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["name"] == path.stem


@PAGE
def test_a_run_becomes_a_table(module: ModuleType) -> None:
    text = f"before\n{module.BEGIN}\nold\n{module.END}\nafter"
    page = module.page(text, [RECORD])
    assert page.startswith("before\n")
    assert page.endswith("\nafter")
    assert "old" not in page
    assert "## Things" in page
    assert "load 1.0 to 2.5; 2 threads; Python 3, numpy 2." in page
    assert "| save | 2 s | gsply | 5 s | **2.5 ×** | ≥ 3 × |" in page
    assert "| load | 0.5 s | gsply | – | – | – |" in page
    assert module.page(page, [RECORD]) == page
    with pytest.raises(ValueError, match="once each"):
        module.page("no marks", [RECORD])


@RECORDS
def test_a_record_is_saved_with_its_conditions(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "results"))
    record = module.Record("things", "Things", "benchmarks/things.py", packages=("no-such-thing",))
    record.add(module.Row("time", 2.0, "s", peer="gsply", peer_value=5.0, wanted=2))
    record.add(module.Row("rate", 60.0, "GFLOP/s", "product", 80.0, more_is_better=True))
    record.add(module.Row("error", 0.0, "dB", peer="gsply"))
    path = record.save()
    assert path == tmp_path / "results" / "things.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [row.get("ratio") for row in data["rows"]] == [2.5, 0.75, None]
    assert data["rows"][2] == {"what": "error", "value": 0.0, "unit": "dB", "peer": "gsply"}
    assert data["versions"]["no-such-thing"] is None
    assert data["versions"]["numpy"]
    assert data["machine"]["cores"]
    assert len(data["load"]) == 2


@RECORDS
def test_actions_take_turns_and_the_smallest_time_counts(module: ModuleType) -> None:
    calls: list[str] = []
    ticks = iter([0, 9, 10, 12, 20, 23, 30, 31])
    actions = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    best = module.in_turns(actions, rounds=2, clock=lambda: next(ticks))
    assert calls == ["a", "b"] * 3
    assert best == {"a": 3, "b": 1}
