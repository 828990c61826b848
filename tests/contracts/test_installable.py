"""Every Python version in the README has an installable set of packages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROJECTS = ("pyproject.toml", "splatfactory/pyproject.toml", "splatscenes/pyproject.toml")
SOURCE_ONLY = "antlr4-python3-runtime"  # of hydra; it has no wheel and is Python alone


def resolve(version: str, *options: str) -> dict[str, str]:
    """Packages and versions that would be installed, without installing one.

    Wheels alone count, so that nobody needs a compiler. Skips where no index can be reached.
    """
    command = [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"),
        *("--python", sys.executable, "--python-version", version),
        *("--only-binary", ":all:", "--no-binary", SOURCE_ONLY),
        *options,
        *PROJECTS,
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode and "No solution found" not in ran.stderr:
        pytest.skip(f"nothing could be resolved: {ran.stderr.strip()[-300:]}")
    assert ran.returncode == 0, ran.stderr
    return dict(re.findall(r"^([\w.-]+)==(\S+)", ran.stdout, re.MULTILINE))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pinned_versions_resolve(version: str) -> None:
    pytest.importorskip("uv")
    found = resolve(version, "-c", "constraints.txt", "--extra", "dev")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if "==" in line]
    there = {"python_version": version}
    pinned = {pin.name for pin in pins if pin.marker is None or pin.marker.evaluate(there)}
    missing = {name.replace("_", "-") for name in pinned} - set(found)
    assert not missing, f"constraints.txt pins what nothing asks for: {missing}"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_lowest_versions_resolve(version: str) -> None:
    pytest.importorskip("uv")
    found = resolve(version, "--resolution", "lowest-direct")
    assert found["torch"] == "2.10.0"


def test_the_oldest_version_is_the_promised_one() -> None:
    for project in PROJECTS:
        assert f'requires-python = ">={VERSIONS[0]}"' in (ROOT / project).read_text()
    assert f"Python ≥ {VERSIONS[0]}" in (ROOT / "README.md").read_text()
