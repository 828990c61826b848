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
    for name in {request.param, "bench"} & set(sys.modules):
        monkeypatch.delitem(sys.modules, name)
    return module


PAGE = pytest.mark.parametrize("module", ["benchmark_page"], indirect=True)
RECORDS = pytest.mark.parametrize("module", ["records"], indirect=True)
RECORD: dict[str, Any] = {
    "name": "start", "title": "Things, 1 M", "command": "benchmarks/start.py --num 9", "threads": 2,
    "date": "2026-11-29",
    "machine": {"processor": "P", "features": ["fma"], "cores": 2, "memory_gb": 8, "python": "3"},
    "load": [1.0, 2.5], "versions": {"numpy": "2", "gsply": "0.4", "plyfile": None},
    "rows": [
        {"what": "save", "value": 2.0, "unit": "s", "peer": "gsply", "peer_value": 5, "ratio": 2.5,
         "wanted": 3, "key": "save 1 M"},
        {"what": "load", "value": 0.5, "unit": "s", "peer": "plyfile"},
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
    assert "## Starting\n\n### Things, 1 M\n\n`benchmarks/start.py --num 9`, 2026-11-29" in page
    assert "2 threads, load 1.0 to 2.5.\n" in page
    assert "All of it was measured on: P (fma), 2 cores, 8 GB; Python 3, numpy 2." in page
    saved = "2 s | gsply 0.4 | 5 s | **2.5 ×** | ≥ 3 ×: **missed** |"
    assert f"## {module.KEY_TITLE}" in page
    assert f"| [save 1 M](#things-1-m) | {saved}" in page
    assert f"| save | {saved}\n| load | 0.5 s | plyfile | – | – | – |" in page
    assert page.count("load | 0.5 s") == 1
    assert module.page(page, [RECORD]) == page


@PAGE
def test_the_page_says_what_has_not_been_measured(module: ModuleType) -> None:
    done = RECORD | {"command": "benchmarks/start.py --rounds 9"}
    page = module.page(f"{module.BEGIN}{module.END}", [done])
    assert "Not measured yet: `benchmarks/first_image.py`, " in page
    assert "start.py`," not in page
    everything = [
        RECORD | {"command": f"benchmarks/{command}"}
        for commands in module.GROUPS.values() for command in commands
    ]  # fmt: skip
    assert "Not measured" not in module.page(f"{module.BEGIN}{module.END}", everything)


@PAGE
def test_records_of_several_machines_name_theirs(module: ModuleType) -> None:
    other = RECORD | {"machine": RECORD["machine"] | {"processor": "Q"}}
    page = module.page(f"{module.BEGIN}{module.END}", [RECORD, other])
    assert "All of it" not in page
    assert "load 1.0 to 2.5, P (fma), 2 cores" in page
    assert "load 1.0 to 2.5, Q (fma), 2 cores" in page


@PAGE
def test_what_cannot_be_shown_is_refused(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="once each"):
        module.page("no marks", [RECORD])
    stray = RECORD | {"command": "benchmarks/stray.py"}
    with pytest.raises(ValueError, match=r"stray.py made start.json, but scripts/bench.py lacks"):
        module.page(f"{module.BEGIN}{module.END}", [stray])


@PAGE
@pytest.mark.parametrize(
    ("row", "cell"),
    [
        ({}, "–"),
        ({"ratio": 3.0, "wanted": 3}, "≥ 3 ×: met"),
        ({"wanted": 3}, "≥ 3 ×"),
        ({"limit": 0.5}, "≤ 0.5 s: met"),
        ({"limit": 0.4}, "≤ 0.4 s: **missed**"),
        ({"limit": 0.4, "more_is_better": True}, "≥ 0.4 s: met"),
        ({"limit": 0.5, "ratio": 2.0, "wanted": 3}, "≥ 3 × and ≤ 0.5 s: **missed**"),
        ({"limit": 0.4, "needs": "avx512f"}, "≤ 0.4 s where there is avx512f"),
        ({"limit": 0.4, "needs": "AMD fma"}, "≤ 0.4 s where there is AMD fma"),
        ({"limit": 0.4, "needs": "fma"}, "≤ 0.4 s: **missed**"),
    ],
)
def test_a_promise_is_judged(module: ModuleType, row: dict[str, Any], cell: str) -> None:
    assert module.wanted(RECORD, {"value": 0.5, "unit": "s"} | row) == cell


@RECORDS
def test_a_record_is_saved_with_its_conditions(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(sys, "argv", ["/somewhere/things.py", "--num", "3"])
    record = module.Record("things", "Things", packages=("no-such-thing",))
    record.add(module.Row("time", 2.0, "s", peer="gsply", peer_value=5.0, wanted=2))
    record.add(module.Row("rate", 60.0, "GFLOP/s", "product", 80.0, more_is_better=True))
    record.add(module.Row("error", 30.0, "dB", peer="gsply", peer_value=40.0))
    path = record.save()
    assert path == tmp_path / "results" / "things.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [row.get("ratio") for row in data["rows"]] == [2.5, 0.75, None]
    assert data["command"] == "benchmarks/things.py --num 3"
    assert data["rows"][2] == {
        "what": "error", "value": 30.0, "unit": "dB", "peer": "gsply", "peer_value": 40.0
    }  # fmt: skip
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
    calls.clear()
    module.in_turns(actions, rounds=1, clock=lambda: 0, warms_up=False)
    assert calls == ["a", "b"]
