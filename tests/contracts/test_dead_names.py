"""Every function, class and constant is used by something besides the tests."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("zipsplat", "splatfactory", "splatscenes")
USERS = (*PACKAGES, "benchmarks", "scripts", "examples", "docs", "Makefile", "README.md")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".js", ".glsl", ""}
CALLED_BY_LIBRARIES = {
    "find_class", "persistent_load",  # pickle
    "from_function", "get_cache_path", "get_disambiguator", "get_source_stamp",  # numba's caching
    "_VectorModel",  # numba registers it
}  # fmt: skip
OF_THE_RELEASED_PACKAGE = {"matrix_to_quaternion"}  # users of its `Pose` call it


def words() -> Counter[str]:
    """How often each word is written outside of the tests."""
    paths = [path for name in USERS for path in (ROOT / name, *(ROOT / name).rglob("*"))]
    found: Counter[str] = Counter()
    for path in paths:
        if path.is_file() and path.suffix in SUFFIXES and "_build" not in path.parts:
            found.update(re.findall(r"\w+", path.read_text(encoding="utf-8", errors="ignore")))
    return found


def names_defined(source: str) -> Iterator[str]:
    """Functions and classes anywhere, and names that the module sets."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def unused(source: str, found: Counter[str]) -> list[str]:
    known = {"PLUGIN", *CALLED_BY_LIBRARIES, *OF_THE_RELEASED_PACKAGE}
    names = (n for n in names_defined(source) if not re.fullmatch(r"__\w+__|[A-Z]", n))
    return [name for name in names if found[name] <= 1 and name not in known]


def test_no_name_is_there_for_nothing() -> None:
    found = words()
    dead = [
        f"{path.relative_to(ROOT)}: {name}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for name in unused(path.read_text(encoding="utf-8"), found)
    ]
    assert not dead, f"nothing but tests uses {dead}"


def test_unused_names_are_seen() -> None:
    source = "UNUSED, USED = 1, 2\ndef f(): ...\nclass A:\n    def g(self): return USED\n"
    found = Counter(re.findall(r"\w+", source + "f() A"))
    assert unused(source, found) == ["g", "UNUSED"]
