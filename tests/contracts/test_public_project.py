"""Metadata for the hosting site and the package index are consistent."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import splatfactory
import zipsplat

ROOT = Path(__file__).parents[2]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_copies_of_the_owners_facts_agree() -> None:
    command = [sys.executable, "scripts/owner.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_version() -> None:
    assert zipsplat.__version__ == splatfactory.__version__
    assert f'version: "{zipsplat.__version__}"' in text("CITATION.cff")


@pytest.mark.parametrize("name", ["pyproject.toml", "splatfactory/pyproject.toml"])
def test_ci_runs_every_python_that_the_package_claims(name: str) -> None:
    claimed = re.findall(r"Python :: (3\.\d+)", text(name))
    assert f'requires-python = ">={claimed[0]}"' in text(name)
    (matrix,) = re.findall(r"python: \[(.*)\]", text(".github/workflows/ci.yml"))
    assert claimed == re.findall(r"3\.\d+", matrix)
    (resolved,) = re.findall(r"for python in ([\d. ]+);", text("Makefile"))
    assert claimed == resolved.split()
