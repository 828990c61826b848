"""Workers end with the process that started them, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMON = """
import os, time
from tests.splatfactory.datasets.test_worker_processes import slow
"""
SCRIPTS = {
    "conversion": COMMON
    + """
from splatfactory.datasets.scripts.conversion import ordered_map
if __name__ == "__main__":
    for number in ordered_map(slow, range(1000), 2):
        print(number, flush=True)
""",
    "loader": COMMON
    + """
from torch.utils.data import DataLoader
from splatfactory.datasets.worker_processes import end_with_parent, start_context
class Numbers:
    def __len__(self):
        return 1000
    def __getitem__(self, number):
        return slow(number)
if __name__ == "__main__":
    options = {"multiprocessing_context": start_context(), "worker_init_fn": end_with_parent}
    for number in DataLoader(Numbers(), batch_size=None, num_workers=2, **options):
        print(number, flush=True)
""",
}


def slow(number: int) -> int:
    """The process that does the work."""
    time.sleep(0.2 + 0 * number)
    return os.getpid()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are listed in /proc")
@pytest.mark.parametrize("kind", SCRIPTS)
def test_no_worker_outlives_a_killed_process(kind: str, tmp_path: Path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPTS[kind])
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    workers = {int(next(lines)) for _ in range(4)}
    family = workers | ancestors(workers) - ancestors({process.pid}) - {process.pid}
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    end = time.monotonic() + 60
    while any(is_running(pid) for pid in family):
        assert time.monotonic() < end, "workers are left"
        time.sleep(0.1)


def ancestors(pids: set[int]) -> set[int]:
    found: set[int] = set()
    for pid in pids:
        while (pid := parent_of(pid)) > 1:
            found.add(pid)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
