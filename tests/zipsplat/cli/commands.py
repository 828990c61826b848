"""Running a command in this process."""

import json
from pathlib import Path

import pytest

from zipsplat.cli import main

PEOPLE = Path(__file__).parents[2] / "files_of_people"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def result(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if path.name.startswith(".")]
