"""An earlier state of this repository as a peer: its files from git, its work in own processes.

    with earlier_state() as before:  # None where there is no history, as in an archive
        roots = {"now": ROOT} | ({} if before is None else {COMMIT: before})
        workers = {name: Worker(root, PROGRAM, [str(path)]) for name, root in roots.items()}
        seconds = best_of(workers, ["write", "read"], rounds=3)

A program defines `work(name)`; `Worker` runs it with the packages of a state, and times each call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "fbd7082"
"""The last one before the work on speed, of 2026-11-22."""
LABEL = f"commit {COMMIT}"
"""How tables call it."""

LOOP = """
import time as _time
for _line in sys.stdin:
    _cpu, _clock = _time.process_time(), _time.perf_counter()
    work(_line.strip())
    _cpu, _clock = _time.process_time() - _cpu, _time.perf_counter() - _clock
    print("seconds", _cpu, _clock, flush=True)
"""


@contextmanager
def earlier_state(commit: str = COMMIT) -> Iterator[Path | None]:
    """Folder with the package `zipsplat` of a commit; None where git does not have it."""
    with tempfile.TemporaryDirectory(prefix="zipsplat-earlier-") as name:
        folder = Path(name)
        archive = folder / "package.tar"
        git = shutil.which("git") or "false"
        command = [git, "-C", str(ROOT), "archive", "-o", str(archive), commit, "zipsplat"]
        if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
            print(f"commit {commit} is not in the history here, so nothing is compared with it")
            yield None
            return
        with tarfile.open(archive) as tar:
            tar.extractall(folder)  # our own archive
        yield folder


def environment(root: Path, threads: int = 1) -> dict[str, str]:
    """Environment of a process that imports the packages of a state."""
    return os.environ | {
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": str(threads),
        "NUMBA_NUM_THREADS": str(threads),
        "PYTHONDONTWRITEBYTECODE": "",
    }


class Worker:
    """A process that does named work with one state of the packages.

    Args:
        root: folder that holds `zipsplat`.
        program: Python, which defines `work(name)`; `sys` is imported.
        arguments: its `sys.argv[1:]`.
        threads: how many it uses; with more than one, seconds are by the clock, not of the CPU.
    """

    def __init__(
        self, root: Path, program: str, arguments: Sequence[str] = (), threads: int = 1
    ) -> None:
        self._threads = threads
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import sys\n{program}\n{LOOP}", *arguments],
            env=environment(root, threads),
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, name: str) -> float:
        """Do some work; returns its seconds.

        Raises:
            RuntimeError: if the process has ended.
        """
        asked, told = _pipes(self._process)
        asked.write(f"{name}\n")
        asked.flush()
        for line in told:
            if line.startswith("seconds "):
                return float(line.split()[1 if self._threads == 1 else 2])
        raise RuntimeError(f"the process for {name!r} ended with status {self.close()}")

    def close(self) -> int:
        """End the process; returns its status."""
        self._process.communicate()
        return self._process.returncode


def best_of(
    workers: Mapping[str, Worker], names: Sequence[str], rounds: int
) -> dict[tuple[str, str], float]:
    """Smallest seconds by worker and work; all take turns, after a round of warming up."""
    best: dict[tuple[str, str], float] = {}
    for number in range(rounds + 1):
        for name in names:
            for label, worker in workers.items():
                seconds = worker.seconds(name)
                if number:
                    best[label, name] = min(seconds, best.get((label, name), seconds))
    return best


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout
