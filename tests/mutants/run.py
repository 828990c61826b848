"""`python -m tests.mutants.run`: break the packages line by line; the tests must notice.

Every entry of `breaks.py` is made in a copy of the sources in a temporary folder, where only the
tests that are named beside it run, without the slow ones and up to the first failure. The unbroken
copy must pass all of them first. At most one break in twenty may survive.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from tests.mutants.breaks import BREAKS, Break

ROOT = Path(__file__).parents[2]
PACKAGES = ("zipsplat", "splatfactory")
COPIED = (
    *PACKAGES,
    "splatscenes",
    "tests",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "docs",
)
LINKED = ("assets",)
MAX_SURVIVING = 0.05
TIMEOUT_SECONDS = 600
TESTS_FAILED = 1  # exit status of pytest


class Outcome(str, Enum):
    """Outcome of one break."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    UNTESTED = "UNTESTED"  # the tests could not be run at all


def main(argv: Sequence[str] | None = None) -> int:
    """Run all breaks, or a part of them; returns the exit status."""
    options = _parse(argv)
    chosen = [entry for entry in BREAKS if options.only in f"{entry.file} {entry.new}"]
    number, parts = options.part
    try:
        outcomes = run(ROOT, chosen[number - 1 :: parts], options.jobs)
    except (ValueError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    missed = [entry for entry, outcome in outcomes if outcome is not Outcome.CAUGHT]
    caught = len(outcomes) - len(missed)
    sys.stdout.write(f"{caught} of {len(outcomes)} breaks caught\n")
    is_broken = any(outcome is Outcome.UNTESTED for _, outcome in outcomes)
    return int(is_broken or len(missed) > MAX_SURVIVING * len(outcomes))


def run(root: Path, breaks: Sequence[Break], jobs: int = 1) -> list[tuple[Break, Outcome]]:
    """Yield the outcome of each break of a repository, in any order.

    Args:
        root: the repository; it is only read.
        breaks: of its sources.
        jobs: how many to try at a time, each in a copy of its own.

    Raises:
        ValueError: if a break's old text is not found exactly once.
        RuntimeError: if the unbroken sources fail the tests, or the copy is not what is tested.
    """
    for entry in breaks:
        broken_text(root, entry)
    if not breaks:
        raise ValueError("no break is chosen")
    jobs = max(1, min(jobs, len(breaks)))
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [_copied(root, Path(folder) / str(number)) for number in range(jobs)]
        _check_copy(copies[0], breaks)
        with ThreadPoolExecutor(jobs) as pool:
            shares = [breaks[number::jobs] for number in range(jobs)]
            found = list(pool.map(_try_all, copies, shares))
    return [pair for pairs in found for pair in pairs]


def broken_text(root: Path, entry: Break) -> str:
    """The source with a break in it.

    Raises:
        ValueError: if the old text is not there exactly once.
    """
    text = (root / entry.file).read_text(encoding="utf-8")
    if text.count(entry.old) != 1:
        raise ValueError(
            f"{entry.file} has {entry.old!r} {text.count(entry.old)} times, once is wanted; "
            "bring tests/mutants/breaks.py up to date"
        )
    return text.replace(entry.old, entry.new)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.mutants.run", description=__doc__)
    parser.add_argument("--only", default="", help="only entries whose file or new text has this")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help="I-th of N parts")
    parser.add_argument("--jobs", type=int, default=1, help="breaks to try at a time")
    return parser.parse_args(argv)


def _part(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if not 1 <= int(number) <= int(parts):
        raise argparse.ArgumentTypeError(f"expected I/N with 1 <= I <= N, got {text!r}")
    return int(number), int(parts)


def _copied(root: Path, place: Path) -> Path:
    place.mkdir(parents=True)
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, place / name)
        elif source.exists():
            shutil.copy2(source, place / name)
    for name in LINKED:
        if (root / name).exists():
            (place / name).symlink_to(root / name)
    return place


def _check_copy(copy: Path, breaks: Sequence[Break]) -> None:
    names = " ".join(sorted({entry.file.split("/")[0] for entry in breaks}))
    code = f"import sys; [print(__import__(name).__file__) for name in {names.split()!r}]"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=_environment(copy), capture_output=True,
        text=True, check=True,
    ).stdout.split()  # fmt: skip
    if not all(Path(file).is_relative_to(copy) for file in found):
        raise RuntimeError(f"the tests would see other sources than the copy: {found}")
    status, output = _pytest(copy, sorted({test for entry in breaks for test in entry.tests}))
    if status != 0:
        raise RuntimeError(f"the unbroken sources fail:\n{output}")


def _try_all(copy: Path, breaks: Sequence[Break]) -> list[tuple[Break, Outcome]]:
    return [(entry, _try(copy, entry)) for entry in breaks]


def _try(copy: Path, entry: Break) -> Outcome:
    begin = time.monotonic()
    with _broken(copy, entry):
        status, output = _pytest(copy, entry.tests)
    if status == 0:
        outcome = Outcome.SURVIVED
    elif status == TESTS_FAILED:
        outcome = Outcome.CAUGHT
    else:
        outcome = Outcome.UNTESTED
        sys.stdout.write(output)
    line = f"{outcome.value:9} {time.monotonic() - begin:4.0f} s  {entry.file}: {entry.new.strip()}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    return outcome


@contextmanager
def _broken(copy: Path, entry: Break) -> Iterator[None]:
    path = copy / entry.file
    text, compiled = broken_text(copy, entry), Path(importlib.util.cache_from_source(str(path)))
    whole = path.read_text(encoding="utf-8")
    try:
        # Python compares only size and second of sources, so delete the bytecode.
        compiled.unlink(missing_ok=True)
        path.write_text(text, encoding="utf-8")
        yield
    finally:
        compiled.unlink(missing_ok=True)
        path.write_text(whole, encoding="utf-8")


def _pytest(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p",
               "no:cacheprovider", "--timeout", str(TIMEOUT_SECONDS),
               *(f"tests/{test}" for test in tests)]  # fmt: skip
    done = subprocess.run(
        command, cwd=copy, env=_environment(copy), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def _environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    sys.exit(main())
