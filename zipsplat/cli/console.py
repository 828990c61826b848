"""Console output of a command: stages with progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from zipsplat.progress import Report, ReportShare, progress_bar, share_bar
from zipsplat.terminal import printable


@dataclass
class Console:
    """Progress and results of one command.

    Args:
        is_quiet: shows no progress.
        is_json: prints the result as one JSON object.

    Attributes:
        seconds: how long each stage took.
    """

    is_quiet: bool = False
    is_json: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Flush, so that a closed pipe raises here."""
        if error is None:
            sys.stdout.flush()

    @contextmanager
    def stage(self, name: str, unit: str | None = None) -> Iterator[Report]:
        """Print the name of a stage, and at its end how long it took.

        Args:
            name: e.g. "reading images".
            unit: of the progress bar on a terminal, e.g. "frame"; no bar if not given.
        """
        start = time.perf_counter()
        is_terminal = sys.stderr.isatty() and not self.is_quiet
        if unit is None:
            if is_terminal:
                sys.stderr.write(f"{name} …")
                sys.stderr.flush()
            yield _ignore
        else:
            with progress_bar(name, unit, is_quiet=self.is_quiet) as report:
                yield report
        self.seconds[name] = round(time.perf_counter() - start, 3)
        if not self.is_quiet:
            back = "\r" if is_terminal else ""
            sys.stderr.write(f"{back}{name}: {self.seconds[name]:.1f} s\n")

    @contextmanager
    def share_stage(self, name: str) -> Iterator[ReportShare]:
        """A stage with a percentage bar and a short status text."""
        with self.stage(name, "%"), share_bar(name, is_quiet=self.is_quiet) as report:
            yield report

    def say(self, text: str) -> None:
        """A line for people on stderr, unless they want none."""
        if not self.is_quiet:
            sys.stderr.write(f"{printable(text)}\n")
            sys.stderr.flush()

    def result(self, text: Sequence[str], data: Mapping[str, Any]) -> None:
        """Print the result, as text or as JSON.

        Args:
            text: lines to read.
            data: the same as JSON-compatible containers.
        """
        if self.is_json:
            text = [json.dumps(data, indent=2, ensure_ascii=False)]
        sys.stdout.write(printable("\n".join(text)) + "\n")


class Stages:
    """Consecutive stages of a console, each begun by a callback."""

    def __init__(self, console: Console) -> None:
        self._console, self._stack = console, ExitStack()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def begin(self, name: str) -> None:
        """End the previous stage, if any, and begin the next."""
        self._stack.close()
        self._stack.enter_context(self._console.stage(name))


def file_line(path: Path) -> str:
    """Path and size of a written file."""
    return f"{path}  {readable_bytes(path.stat().st_size)}"


def readable_bytes(count: int) -> str:
    """A file size with its unit, e.g. "3.1 MB"."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def file_data(path: Path) -> dict[str, Any]:
    """Path and size of a written file, for JSON."""
    return {"path": str(path), "bytes": path.stat().st_size}


def table(rows: Mapping[str, object]) -> list[str]:
    """Aligned lines "name  value"."""
    width = max((len(name) for name in rows), default=0)
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def _ignore(done: int, total: int) -> None:
    """The report of a stage without a unit."""
