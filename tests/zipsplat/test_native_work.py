"""Work that Ctrl-C abandons, and the end of a process in which it goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zipsplat.native_work import exit_process, interruptible

# Stands for the destructors of a compiled library that crash while its threads still run.
_INTERRUPTED = """
import atexit, os, signal, sys, time
from pathlib import Path
from zipsplat.native_work import exit_process, interruptible

def work():
    Path(sys.argv[1]).touch()
    time.sleep(600)

atexit.register(os.abort)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if the tests run in background
status = 0
try:
    interruptible(work)
except KeyboardInterrupt:
    print("interrupted")
    status = 130
exit_process(status)
"""


def test_work_returns_its_result() -> None:
    assert interruptible(lambda: 3) == 3


def test_errors_of_the_work_are_raised() -> None:
    def work() -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        interruptible(work)


def test_an_interrupted_process_ends_at_once_with_its_status(tmp_path: Path) -> None:
    started = tmp_path / "started"
    command = [sys.executable, "-c", _INTERRUPTED, str(started)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while not started.exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "interrupted\n")


def test_without_abandoned_work_the_exit_is_a_normal_one() -> None:
    assert interruptible(lambda: 1) == 1
    with pytest.raises(SystemExit) as ended:
        exit_process(3)
    assert ended.value.code == 3
