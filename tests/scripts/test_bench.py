"""`make bench` runs every benchmark, and each leaves figures that the page shows."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def imported(name: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module from a folder without `__init__.py`, dropped from `sys.modules` after import."""
    monkeypatch.syspath_prepend(ROOT / folder)
    known = set(sys.modules)
    module = importlib.import_module(name)
    for new in set(sys.modules) - known:
        if Path(getattr(sys.modules[new], "__file__", None) or "").parent == ROOT / folder:
            del sys.modules[new]
    return module


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return imported("bench", "scripts", monkeypatch)


def scripts(commands: tuple[str, ...]) -> list[str]:
    return [command.split()[0] for command in commands]


def test_every_benchmark_is_run_or_says_why_not(bench: ModuleType) -> None:
    shown = {script for commands in bench.GROUPS.values() for script in scripts(commands)}
    kinds = [shown, {*scripts(bench.QUALITY)}, {*bench.APART}, {f"{n}.py" for n in bench.IMPORTED}]
    listed = [name for kind in kinds for name in kind]
    assert sorted(listed) == sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))
    for name in shown:
        source = (ROOT / "benchmarks" / name).read_text(encoding="utf-8")
        assert " Record(" in source, name
        assert re.search(r"^    +record\.save\(\)$", source, re.MULTILINE), name
        assert ('"--rounds"' in source) != (name in bench.ONCE), name


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_what_a_benchmark_uses_exists(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = imported(path.stem, "benchmarks", monkeypatch)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = getattr(benchmark, node.value.id, None)
            if isinstance(used, ModuleType):
                assert hasattr(used, node.attr), f"{path.name}:{node.lineno} {node.attr}"
    if path.stem == "refinement_step":
        assert [name for name in benchmark.STAGES if not hasattr(benchmark.stages, name)] == []


@pytest.mark.parametrize(
    ("program", "succeeds"),
    [
        ("pathlib.Path(os.environ['BENCHMARK_RESULTS'], 'new.json').touch()", True),
        ("pathlib.Path(os.environ['BENCHMARK_RESULTS'], 'old.json').write_text('[2]')", True),
        ("pass", False),
        ("raise SystemExit(3)", False),
    ],
)
def test_a_benchmark_without_figures_has_failed(
    bench: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    program: str,
    succeeds: bool,
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "start.py").write_text(f"import os, pathlib\n{program}\n")
    (tmp_path / "old.json").write_text("[1]")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "GROUPS", {"Starting": ("start.py",)})
    assert bench.run(["start.py"], wants_figures=True) == succeeds
    monkeypatch.setattr(sys, "argv", ["bench.py", "start"])
    (tmp_path / "new.json").unlink(missing_ok=True)
    assert bench.main() == (0 if succeeds else 1)


def test_another_state_takes_turns_with_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    earlier = imported("earlier", "benchmarks", monkeypatch)
    (tmp_path / "zipsplat.py").write_text("state = 'earlier'\n")
    (tmp_path / "log").touch()
    program = f"""
import zipsplat
def work(name):
    with open({str(tmp_path / "log")!r}, "a") as log:
        log.write(f"{{getattr(zipsplat, 'state', 'now')}} {{name}} {{sys.argv[1]}}\\n")
"""
    workers = {
        "now": earlier.Worker(ROOT, program, ["a"]),
        "before": earlier.Worker(tmp_path, program, ["a"], threads=2),
    }
    best = earlier.best_of(workers, ["x", "y"], rounds=1)
    for worker in workers.values():
        worker.close()
    round_ = ["now x a", "earlier x a", "now y a", "earlier y a"]
    assert (tmp_path / "log").read_text().splitlines() == round_ * 2
    assert set(best) == {(w, n) for w in workers for n in "xy"}
    failing = earlier.Worker(ROOT, "def work(name): sys.exit(3)")
    with pytest.raises(RuntimeError, match="'x' ended with status 3"):
        failing.seconds("x")
    with earlier.earlier_state("no-such-commit") as before:
        assert before is None
