"""Progress shows on a terminal and keeps out of the way elsewhere."""

import io
import sys

import pytest

from zipsplat.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("reading", "frame") as report:
        for done in range(1, 6):
            report(done, 5)
    assert "reading" in terminal.getvalue()


@pytest.mark.parametrize(("stream", "is_quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_files_and_quiet_runs_see_nothing(monkeypatch, stream, is_quiet):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("reading", "frame", is_quiet=is_quiet) as report:
        report(1, 2)
        report(2, 2)
    assert stream.getvalue() == ""
