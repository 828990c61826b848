"""The digest of a kernel covers what its file imports, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipsplat.render.cpu import sources
from zipsplat.render.cpu.sources import sources_digest

FILES = {
    "kernels/stage.py": "from pack.kernels.shared import (\n    first,\n    second,\n)\n",
    "kernels/shared.py": "from pack import constants\nfrom pack.simd import add\n",
    "kernels/other.py": "from pack.simd import add\n",
    "constants.py": "PI = 3\n",
    "simd/__init__.py": "from pack.simd.vectors import add\n",
    "simd/vectors.py": "from pack.kernels.shared import first  # a circle ends\n",
    "unrelated.py": "",
    "__init__.py": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "pack"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(sources, "PACKAGE", root)
    monkeypatch.setattr(sources, "_IMPORT", sources.import_pattern("pack"))
    return root


def digest(*paths: Path) -> str:
    sources_digest.cache_clear()
    sources._imported.cache_clear()
    return sources_digest(*paths)


@pytest.mark.parametrize("edited", list(FILES))
def test_an_edit_changes_the_kernels_that_import_it(package: Path, edited: str) -> None:
    stage = package / "kernels/stage.py"
    before = digest(stage)
    with (package / edited).open("a") as file:
        file.write("# edited\n")
    covered = edited not in ("kernels/other.py", "unrelated.py", "__init__.py")
    assert (digest(stage) != before) == covered


def test_constants_of_harmonics_and_rules_are_covered() -> None:
    """These are compiled in."""
    cpu = sources.PACKAGE / "render" / "cpu"
    found = {path.name for path in sources.files_of(cpu / "project.py")}
    assert {"sh_constants.py", "_rules.py", "vectors.py", "compiler.py", "layout.py"} <= found
    assert not {"blend.py", "project_backward.py", "renderer.py"} & found
