"""Run a call in a child process with limits on time and memory."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass

GIB = 1 << 30
_SPARE = 3 * GIB  # address space, not memory: threads and mapped files need it too
_WAITS = 20  # how much longer it may take where it has to wait for a processor


@dataclass(frozen=True)
class Outcome:
    """How a contained call ended.

    Attributes:
        status: its return value, or minus the signal that killed it.
        printed: its stdout.
        errors: its stderr.
        grown: peak growth of its memory, bytes.
    """

    status: int
    printed: str
    errors: str
    grown: int

    @property
    def output(self) -> str:
        """Its stdout, then its stderr."""
        return self.printed + self.errors

    @property
    def lines(self) -> list[str]:
        """The lines of its stderr."""
        return self.errors.strip().splitlines()


def contained(call: Callable[[], int | None], seconds: int = 60) -> Outcome:
    """Call in a fork of this process, with limits on time and memory.

    Args:
        call: returns the exit status; an exception prints its traceback.
        seconds: limit of CPU time of the child; far more than it needs.
    """
    receive, send = os.pipe()
    with (
        tempfile.TemporaryFile("w+", errors="replace") as printed,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
    ):
        child = os.fork()
        if child == 0:
            # A fork has less of its own than its parent: pages of files are not counted.
            os.write(send, b"%d" % _resident_bytes())
            _run(call, seconds, printed.fileno(), errors.fileno())
        before = int(os.read(receive, 32))
        os.close(send)
        os.close(receive)
        _, status, usage = os.wait4(child, 0)
        printed.seek(0)
        errors.seek(0)
        code = os.waitstatus_to_exitcode(status)
        grown = usage.ru_maxrss * 1024 - before
        return Outcome(code, printed.read(), errors.read(), grown)


def _run(call: Callable[[], int | None], seconds: int, printed: int, errors: int) -> None:
    """Run in the child; never returns."""
    status = 70
    try:
        os.dup2(printed, 1)
        os.dup2(errors, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        for number in (signal.SIGALRM, signal.SIGPROF):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.alarm(_WAITS * seconds)
        limit = _address_bytes() + GIB + _SPARE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        status = call() or 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _resident_bytes() -> int:
    return _statm()[1]


def _address_bytes() -> int:
    return _statm()[0]


def _statm() -> list[int]:
    with open("/proc/self/statm", encoding="ascii") as file:
        return [int(pages) * resource.getpagesize() for pages in file.read().split()[:2]]
