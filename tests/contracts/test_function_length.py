"""Functions are short: half have at most 9 lines, nine in ten at most 24, none more than 80.

Lines from `def` to the end count, with docstring and comments. A longer function says why in a
comment of its own: `# In one piece: …`.
"""

from __future__ import annotations

import ast
import statistics
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("zipsplat", "splatfactory", "splatscenes")
MEDIAN, NINE_IN_TEN, MOST = 9, 24, 80
MARK = "# In one piece: "


class Function(NamedTuple):
    """One function.

    Attributes:
        name: file, line and name.
        length: lines.
        has_reason: whether a comment says why it is long.
    """

    name: str
    length: int
    has_reason: bool


def functions_in(source: str, file: str) -> list[Function]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
            has_reason = any(line.strip().startswith(MARK) for line in lines)
            found.append(Function(f"{file}:{node.lineno} {node.name}", len(lines), has_reason))
    return found


FUNCTIONS = [
    function
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    for function in functions_in(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
]


def test_most_functions_are_short() -> None:
    lengths = [function.length for function in FUNCTIONS]
    assert len(lengths) > 1000
    assert statistics.median(lengths) <= MEDIAN
    assert statistics.quantiles(lengths, n=10)[-1] <= NINE_IN_TEN


def test_a_long_function_has_its_reason_beside_it() -> None:
    long = [f for f in FUNCTIONS if f.length > MOST and not f.has_reason]
    assert not long, f"{long}: cut them, or say why in each: {MARK}…"


def test_length_and_reason_are_seen() -> None:
    long = "def f():\n" + "    x = 1\n" * MOST
    assert [tuple(f)[1:] for f in functions_in(long, "a.py")] == [(MOST + 1, False)]
    reason = long.replace("x = 1", f"{MARK}one table", 1)
    assert [tuple(f)[1:] for f in functions_in(reason, "a.py")] == [(MOST + 1, True)]
