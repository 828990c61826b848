"""Progress of long work on stderr: a bar on a terminal, otherwise nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]
ReportShare = Callable[[float, str], None]


@contextmanager
def progress_bar(description: str, unit: str = "it", *, is_quiet: bool = False) -> Iterator[Report]:
    """Show a bar while the block runs.

    Args:
        description: text in front of the bar.
        unit: name of what is counted.
        is_quiet: show nothing, even on a terminal.

    Yields:
        a function to call with (done, total); the total may change.
    """
    from tqdm import tqdm

    bar = tqdm(
        desc=description,
        unit=unit,
        leave=False,
        disable=True if is_quiet else None,  # None: unless stderr is not a terminal
        dynamic_ncols=True,
    )

    def report(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield report
    finally:
        bar.close()


@contextmanager
def share_bar(description: str, *, is_quiet: bool = False) -> Iterator[ReportShare]:
    """Show a bar of the fraction done while the block runs.

    Args:
        description: text in front of the bar.
        is_quiet: show nothing, even on a terminal.

    Yields:
        a function to call with the fraction in [0, 1] and a few words on the state.
    """
    from tqdm import tqdm

    bar = tqdm(
        desc=description,
        total=1.0,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {postfix}",
        leave=False,
        disable=True if is_quiet else None,  # None: unless stderr is not a terminal
        dynamic_ncols=True,
    )

    def report(share: float, status: str) -> None:
        bar.set_postfix_str(status, refresh=False)
        bar.update(share - bar.n)

    try:
        yield report
    finally:
        bar.close()
