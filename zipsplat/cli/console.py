"""What the user sees while a command runs: stages with progress on stderr, results on stdout."""

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
        is_quiet: no progress.
        is_json: the result is one JSON object.

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
        """Leave nothing in the buffers, so that a closed pipe shows here."""
        if error is None:
            sys.stdout.flush()

    @contextmanager
    def stage(self, name: str, unit: str | None = None) -> Iterator[Report]:
        """Say what is going on and how long it took.

        Args:
            name: as "reading pictures".
            unit: what is counted; with it, a bar is shown on a terminal.
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
        """A stage with a bar of the share that is done, and a few words beside it."""
        with self.stage(name, "%"), share_bar(name, is_quiet=self.is_quiet) as report:
            yield report

    def say(self, text: str) -> None:
        """A line for people on stderr, unless they want none."""
        if not self.is_quiet:
            sys.stderr.write(f"{printable(text)}\n")
            sys.stderr.flush()

    def result(self, text: Sequence[str], data: Mapping[str, Any]) -> None:
        """Print what came out, for people or for programs.

        Args:
            text: lines for people.
            data: the same as plain containers.
        """
        if self.is_json:
            text = [json.dumps(data, indent=2, ensure_ascii=False)]
        sys.stdout.write(printable("\n".join(text)) + "\n")


class Stages:
    """One stage of a console after the other, as a callback begins them."""

    def __init__(self, console: Console) -> None:
        self._console, self._stack = console, ExitStack()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def begin(self, name: str) -> None:
        """End the stage before, if there is one, and begin another."""
        self._stack.close()
        self._stack.enter_context(self._console.stage(name))


def file_line(path: Path) -> str:
    """A file that was written, and its size."""
    return f"{path}  {readable_bytes(path.stat().st_size)}"


def readable_bytes(count: int) -> str:
    """A file size as people read it."""
    size = float(count)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def file_data(path: Path) -> dict[str, Any]:
    """A file that was written, for programs."""
    return {"path": str(path), "bytes": path.stat().st_size}


def table(rows: Mapping[str, object]) -> list[str]:
    """Aligned lines "name  value"."""
    width = max((len(name) for name in rows), default=0)
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]


def _ignore(done: int, total: int) -> None:
    """Report of a stage in which nothing is counted."""
