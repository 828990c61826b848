"""Imports go downwards only, by the tables of docs/architecture.md, and never in a circle."""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("zipsplat", "splatfactory", "splatscenes")
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Part:
    """A module or folder that has a row in a table.

    Attributes:
        name: dotted, from its package on.
        level: its floor.
        levels: of the same package that it may import.
        names: parts and packages that it may import besides.
    """

    name: str
    level: int
    levels: frozenset[int]
    names: frozenset[str]


def names_in(cell: str) -> list[str]:
    return [name.strip("/").replace("/", ".") for name in re.findall(r"`([^`]+)`", cell)]


def levels_in(cell: str) -> frozenset[int]:
    spans = re.findall(r"\d+(?:–\d+)?", re.sub(r"`[^`]*`", "", cell))
    ends = [[int(end) for end in span.split("–")] for span in spans]
    return frozenset(level for pair in ends for level in range(pair[0], pair[-1] + 1))


@cache
def parts(package: str) -> dict[str, Part]:
    """The rows of a package's table in the document."""
    header = f"| level | {package} | may import |\n|---|---|---|\n"
    rows = DOCUMENT.partition(header)[2].partition("\n\n")[0].splitlines()
    found = {}
    for row in rows:
        level, members, allowed = row.strip("|").split("|")
        for name in names_in(members):
            assert name not in found, f"{name} has two rows in docs/architecture.md"
            may = levels_in(allowed), frozenset(names_in(allowed))
            found[name] = Part(name, int(level), *may)
    return found


def part_of(package: str, dotted: str) -> Part | None:
    """The part with the longest name that a module of a package belongs to."""
    table = parts(package)
    names = [name for name in table if dotted == name or dotted.startswith(name + ".")]
    return table[max(names, key=len)] if names else None


def dotted_name(path: Path) -> str:
    """Name of a module in its package; an `__init__` has that of its folder, except at the root."""
    names = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(names[:-1] if names[-1] == "__init__" and len(names) > 1 else names)


def imports_of(path: Path) -> set[str]:
    """Full names of everything a file imports, anywhere in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py") if p.name != "setup.py")


def faults_of(path: Path) -> list[str]:
    """The imports of a module that its row does not allow."""
    package = path.relative_to(ROOT).parts[0]
    own = part_of(package, dotted_name(path))
    assert own is not None, f"give {path.relative_to(ROOT)} a row in docs/architecture.md"
    faults = []
    for name in sorted(imports_of(path)):
        top, _, rest = name.partition(".")
        if top not in PACKAGES:
            continue
        if top == package:
            target = part_of(package, rest or "__init__")
            assert target is not None, f"{path}: import {name} from the module that defines it"
            allowed = target == own or target.level in own.levels or target.name in own.names
        else:
            allowed = may_import_package(own, package, top, rest)
        if not allowed:
            faults.append(f"{own.name} may not import {name}")
    return faults


def may_import_package(own: Part, package: str, other: str, rest: str) -> bool:
    """Whether a part may import a module of another package."""
    if package == "splatfactory" and other == "zipsplat":
        sentence = re.search(r"`splatfactory` may import levels (\S+) of `zipsplat`", DOCUMENT)
        assert sentence is not None
        target = part_of("zipsplat", rest)
        return target is None or target.level in levels_in(sentence[1])  # None: a public name
    return other in own.names


@pytest.mark.parametrize(
    "path",
    [*files_of("zipsplat"), *files_of("splatfactory")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_imports_go_downwards(path: Path) -> None:
    assert faults_of(path) == []


@pytest.mark.parametrize("package", ["zipsplat", "splatfactory"])
def test_rows_stand_for_something_and_allow_lower_levels_only(package: str) -> None:
    modules = [dotted_name(path) for path in files_of(package)]
    table = parts(package)
    assert table
    for part in table.values():
        assert any(m == part.name or m.startswith(part.name + ".") for m in modules), part.name
        assert all(level < part.level for level in part.levels), part.name
        own = part.names & table.keys()
        assert all(table[name].level < part.level for name in own), part.name
        assert part.names <= {*table, "splatscenes"}, part.name


def test_generated_scenes_need_little() -> None:
    sentence = re.search(r"`splatscenes` may import (.*?) of `zipsplat`", DOCUMENT)
    assert sentence is not None
    allowed = [f"zipsplat.{name}" for name in names_in(sentence[1])]
    known = {"splatscenes", "numpy", "numba", *sys.stdlib_module_names}
    for path in files_of("splatscenes"):
        for name in imports_of(path):
            is_known = name.split(".")[0] in known or name.rpartition(".")[0] in allowed
            assert is_known, f"{path}: {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    modules = {f"{package}.{dotted_name(path)}": path for path in files_of(package)}
    graph = {}
    for name, path in modules.items():
        found = imports_of(path)  # of modules, or of names in them
        targets = {t if t in modules else t.rpartition(".")[0] for t in found}
        graph[name] = (targets & modules.keys()) - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


OPTIONAL = {  # the one place that may import each optional package
    "gsplat": {"zipsplat/render/cuda.py"},
    "viser": {"zipsplat/viewer"},
    "xformers": {"zipsplat/model"},
    "pillow_heif": {"zipsplat/images.py"},
    "zstandard": {"zipsplat/formats/spz.py"},
    "cv2": {"zipsplat/depth/resampling.py", "splatfactory/datasets"},
    "pycolmap": {
        "zipsplat/camera_estimation/colmap.py", "splatfactory/datasets/scripts/mipnerf360",
    },
    "obstore": {"splatfactory/datasets/remote_files.py"},
    "wandb": {"splatfactory/training/writers.py"},
    "tensorboard": {"splatfactory/training/writers.py"},
    "matplotlib": set(),
    "torchvision": set(),
    "lpips": set(),
}  # fmt: skip


@pytest.mark.parametrize("package", sorted(OPTIONAL))
def test_optional_packages_have_one_home(package: str) -> None:
    for path in (*files_of("zipsplat"), *files_of("splatfactory")):
        if any(name.split(".")[0] == package for name in imports_of(path)):
            relative = str(path.relative_to(ROOT))
            assert any(relative.startswith(home) for home in OPTIONAL[package]), relative


def test_no_drawers_for_odds_and_ends() -> None:
    names = {path.stem for path in (*files_of("zipsplat"), *files_of("splatfactory"))}
    assert not names & {"utils", "misc", "helpers", "common", "util"}


@pytest.mark.parametrize("package", ["zipsplat", "splatfactory"])
def test_every_folder_of_code_is_a_package(package: str) -> None:
    """A folder without `__init__.py` works in a checkout and is missing from the wheel."""
    for path in files_of(package):
        assert (path.parent / "__init__.py").exists(), path.parent.relative_to(ROOT)
