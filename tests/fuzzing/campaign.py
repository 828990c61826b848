"""`make fuzz`: feed damaged files to every reader, with limits on time and memory.

A fault is anything but a result or an expected error: another exception, a crash, more than ten
seconds, more than 1 GiB. The file that triggers it is saved in `tests/regressions/`, where the
tests read it. A seed reproduces the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

from tests.contained import GIB
from tests.fuzzing.mutations import mutate
from tests.fuzzing.readers import READERS, Reader

REGRESSIONS = Path(__file__).parents[1] / "regressions"
SECONDS, BLOCKED_SECONDS = 10, 200
_BATCH = 500
_SPARE = 3 * GIB


@dataclass(frozen=True)
class Fault:
    """A damaged file that breaks a reader.

    Attributes:
        name: file name: reader, digest and name of the seed file.
        data: its content.
        reason: one line, or a traceback.
    """

    name: str
    data: bytes
    reason: str


def damaged(name: str, seeds: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """File name and content of mutation `number`."""
    rng = random.Random(f"{name} {seed} {number}")
    chosen = rng.choice(sorted(seeds))
    return chosen, mutate(seeds[chosen], rng)


def campaign(name: str, reader: Reader, count: int, seed: int = 0) -> list[Fault]:
    """Feed `count` damaged files to one reader.

    Args:
        name: name of the reader.
        reader: the reader.
        count: number of files.
        seed: seed of the damage.
    """
    seeds, faults, number = reader.seeds(), [], 0
    while number < count:
        end = min(count, number + _BATCH)
        done, reason = _batch(name, reader, seeds, seed, range(number, end))
        number += done
        if reason:
            chosen, data = damaged(name, seeds, seed, number)
            digest = hashlib.sha256(data).hexdigest()[:8]
            faults.append(Fault(f"{name}-{digest}-{chosen}", data, reason))
            number += 1
    return faults


def _batch(
    name: str, reader: Reader, seeds: dict[str, bytes], seed: int, numbers: range
) -> tuple[int, str]:
    """Read files in a child process; returns how many passed, and the fault that ended it."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _in_child(name, reader, seeds, seed, numbers, send)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        output = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    done, _, reason = output.partition("!")
    if not reason and status:
        code = os.waitstatus_to_exitcode(status)
        hung = code in (-signal.SIGALRM, -signal.SIGPROF)
        reason = f"did not end in {SECONDS} s" if hung else f"ended by {code}"
    return done.count("\n"), reason


def _in_child(
    name: str, reader: Reader, seeds: dict[str, bytes], seed: int, numbers: range, send: int
) -> None:
    """Write a line per file that passed, or "!" and the fault; never returns."""
    folder = Path(tempfile.mkdtemp(prefix="zipsplat-fuzz-", dir=_memory_folder()))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)  # NumPy warnings that users would see
    with open("/proc/self/statm", encoding="ascii") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + _SPARE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warm, content = next(iter(seeds.items()))
    (folder / warm).write_bytes(content)
    fault_of(reader, folder / warm)  # warm up: imports and compilation do not count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        chosen, data = damaged(name, seeds, seed, number)
        path = folder / chosen
        path.write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # CPU time, as machines may be busy
        signal.alarm(BLOCKED_SECONDS)
        reason = fault_of(reader, path)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if not reason and grown > GIB:
            reason = f"took {grown / GIB:.1f} GiB"
        os.write(send, f"!{reason}".encode() if reason else b"\n")
        if reason:
            break
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def fault_of(reader: Reader, path: Path) -> str:
    """Read one file; returns the traceback of an unexpected error, or ""."""
    try:
        reader.read(path)
    except reader.allowed as error:
        return "" if len(str(error)) < 5000 else "an error message of more than 5000 characters"
    except BaseException:
        return traceback.format_exc(limit=-8)
    return ""


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def keep(fault: Fault) -> Path:
    """Save a fault where the tests find it."""
    REGRESSIONS.mkdir(exist_ok=True)
    path = REGRESSIONS / fault.name
    path.write_bytes(fault.data)
    return path


def main() -> int:
    """Run the campaign; the status is 1 if there are faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "readers", nargs="*", help=f"readers, of {', '.join(READERS)}; default: all"
    )
    parser.add_argument("--count", type=int, default=1000, help="files per reader")
    parser.add_argument("--hours", type=float, help="continue with other seeds for this long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="use atheris, for one reader")
    options = parser.parse_args()
    names = options.readers or list(READERS)
    if options.guided:
        command = [sys.executable, "-m", "tests.fuzzing.guided", names[0]]
        os.execv(sys.executable, command)  # what it measures has to be imported by it
    until = time.monotonic() + 3600 * (options.hours or 0)
    seed, found = options.seed, 0
    while True:
        for name in names:
            faults = campaign(name, READERS[name], options.count, seed)
            print(f"{name}: {options.count} files, seed {seed}: {len(faults)} faults", flush=True)
            for fault in faults:
                print(f"  {keep(fault)}: {fault.reason.strip().splitlines()[-1]}", flush=True)
            found += len(faults)
        if time.monotonic() >= until:
            print(f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s of CPU time")
            return 1 if found else 0
        seed += 1


if __name__ == "__main__":
    sys.exit(main())
