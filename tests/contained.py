"""Run something in a child process that may neither hang nor take all memory."""

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
_SPARE = 3 * GIB  # addresses are not memory: threads and mapped files take them, too


@dataclass(frozen=True)
class Outcome:
    """How a contained call ended.

    Attributes:
        status: what it returned, or minus the signal that ended it.
        output: what it wrote to stdout and stderr.
        grown: bytes by which the memory of its process grew, at most.
    """

    status: int
    output: str
    grown: int

    @property
    def lines(self) -> list[str]:
        """The lines of its output."""
        return self.output.strip().splitlines()


def contained(call: Callable[[], int | None], seconds: int = 60) -> Outcome:
    """Call in a fork of this process, with limits of time and memory.

    Args:
        call: gives the exit status; an exception is written to the output, as Python would.
        seconds: after which the child is ended; far more than it needs.
    """
    receive, send = os.pipe()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        child = os.fork()
        if child == 0:
            # A fork has less of its own than its parent: pages of files are not counted.
            os.write(send, b"%d" % _resident_bytes())
            _run(call, seconds, output.fileno())
        before = int(os.read(receive, 32))
        os.close(send)
        os.close(receive)
        _, status, usage = os.wait4(child, 0)
        output.seek(0)
        text = output.read()
    code = os.waitstatus_to_exitcode(status)
    return Outcome(code, text, usage.ru_maxrss * 1024 - before)


def _run(call: Callable[[], int | None], seconds: int, output: int) -> None:
    """In the child; never returns."""
    status = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
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
