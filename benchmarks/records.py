"""Rows of benchmarks as JSON: one file a run, from which `scripts/benchmark_page.py` makes a page.

A benchmark collects its rows and saves them at its end:

    record = Record("ply", "`.ply`, 250 000 Gaussians of SH degree 1")
    times = in_turns({"ours": save, "gsply": save_by_gsply}, rounds=5)
    record.add(Row("save", times["ours"], "s", peer="gsply", peer_value=times["gsply"]))
    record.save()

Files go to `outputs/benchmarks/`, or to the folder that `$BENCHMARK_RESULTS` names; `make bench`
names `benchmarks/results/`, which is committed.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType

from zipsplat.files import write_text

FOLDER = Path("outputs/benchmarks")
PACKAGES = ("zipsplat", "torch", "numpy", "numba")
VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "bf16")


@dataclass(frozen=True)
class Row:
    """One figure, and what it is compared with in the same run.

    Args:
        what: was measured, as a line of a table.
        value: the figure.
        unit: "s", "ms", "MB", "GFLOP/s", "dB", …; times are CPU time unless `what` says otherwise.
        peer: what it is compared with; empty if with nothing.
        peer_value: its figure in the same unit; None if the peer is not installed here.
        more_is_better: whether `ratio` is value / peer_value, and not its inverse.
        wanted: least ratio that is promised, if one is.
        limit: promised bound of the figure itself: its most, or its least if more is better.
        needs: some of `FEATURES` and `VENDORS`, with spaces between them; the promise holds for
            processors that have all.
        key: how the first table of the page calls it; empty if it does not stand there.
    """

    what: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    more_is_better: bool = False
    wanted: float | None = None
    limit: float | None = None
    needs: str = ""
    key: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; None without one, and of decibels."""
        if not self.peer_value or not self.value or self.unit == "dB":
            return None
        ratio = self.value / self.peer_value
        return ratio if self.more_is_better else 1 / ratio


@dataclass
class Record:
    """All rows of one run of a benchmark.

    Args:
        name: of the file; a benchmark that is run in two ways has two names.
        title: heading of the table.
        threads: how many were used.
        packages: further packages whose versions matter, such as peers.
        command: what makes these rows; by default the one that runs.
    """

    name: str
    title: str
    threads: int = 1
    packages: tuple[str, ...] = ()
    command: str = field(
        default_factory=lambda: " ".join((f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]))
    )
    rows: list[Row] = field(default_factory=list)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def of_what(self) -> str:
        """What the title says after its first comma: what was measured on."""
        return self.title.partition(", ")[2]

    def add(self, row: Row) -> None:
        """Keep a row and print it."""
        self.rows.append(row)
        ratio = "" if row.ratio is None else f"   {row.ratio:.3g} x {row.peer}"
        print(f"{row.what:<60} {row.value:10.4g} {row.unit}{ratio}", flush=True)

    def save(self) -> Path:
        """Write the file; returns its path."""
        path = Path(os.environ.get("BENCHMARK_RESULTS", FOLDER)) / f"{self.name}.json"
        text = json.dumps(self.data(), indent=1, ensure_ascii=False) + "\n"
        write_text(path, text)
        print(f"wrote {path}")
        return path

    def data(self) -> dict[str, object]:
        """What the file holds."""
        load = [round(value, 1) for value in (self.load_before, os.getloadavg()[0])]
        return {
            "name": self.name,
            "title": self.title,
            "command": self.command,
            "threads": self.threads,
            "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            "machine": machine(),
            "load": load,
            "versions": {name: version(name) for name in (*PACKAGES, *self.packages)},
            "rows": [_row_data(row) for row in self.rows],
        }


def machine() -> dict[str, object]:
    """Processor, what it can do, cores, and gigabytes of memory."""
    lines = dict[str, str]()
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            lines.setdefault(name.strip(), value.strip())
    known = set(lines.get("flags", lines.get("Features", "")).split())
    family = f", family {lines['cpu family']}" if "cpu family" in lines else ""
    vendor = [name for id_, name in VENDORS.items() if lines.get("vendor_id") == id_]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": lines.get("model name", platform.processor() or platform.machine()) + family,
        "features": vendor + [name for name in FEATURES if name in known],
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "python": platform.python_version(),
    }


def version(package: str) -> str | None:
    """The version that is installed, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def optional(module: str) -> ModuleType | None:
    """A peer's module, or None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        return None


def in_turns(
    actions: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    clock: Callable[[], float] = time.process_time,
    *,
    warms_up: bool = True,
) -> dict[str, float]:
    """Smallest CPU seconds of each action; they take turns, so that load meets all of them.

    Args:
        actions: by name.
        rounds: how often each is timed.
        clock: `time.thread_time` leaves out other threads, `time.perf_counter` is by the clock.
        warms_up: whether each is run once before; without, for actions of minutes.
    """
    for action in actions.values() if warms_up else ():
        action()
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(rounds):
        for name, action in actions.items():
            start = clock()
            action()
            best[name] = min(best[name], clock() - start)
    return best


def least_s(
    action: Callable[[], object], rounds: int, clock: Callable[[], float] = time.process_time
) -> float:
    """Smallest seconds of one action, which is not run before."""
    return in_turns({"": action}, rounds, clock, warms_up=False)[""]


def least_ms(action: Callable[[], object], rounds: int) -> float:
    """Smallest milliseconds of CPU time that this thread spends on one action."""
    return 1e3 * least_s(action, rounds, time.thread_time)


def _row_data(row: Row) -> dict[str, object]:
    """Fields that say something, figures with four digits, and the ratio."""
    data = {name: _short(value) for name, value in asdict(row).items()}
    data["ratio"] = _short(row.ratio)
    return {name: value for name, value in data.items() if value not in (None, "", False)}


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value
