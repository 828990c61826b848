"""The modules of the viewer do not import in a circle, not even for the types."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

FOLDER = Path(__file__).parents[3] / "zipsplat" / "viewer"


def imports_of(path: Path) -> set[str]:
    """Modules of the viewer that one of them imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("zipsplat.viewer."):
            found.add((node.module or "").split(".")[2])
    return found


def test_there_is_no_import_cycle() -> None:
    graph = {path.stem: imports_of(path) for path in FOLDER.glob("*.py")}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("host") < order.index("sharpen_panel") < order.index("app")
