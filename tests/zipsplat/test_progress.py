"""Progress shows on a terminal and keeps out of the way elsewhere."""

import io
import sys
import time

import pytest

from zipsplat.progress import progress_bar, share_bar


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


def test_a_share_comes_with_words(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with share_bar("refining") as report:
        report(0.25, "PSNR 20.0 dB")
        time.sleep(0.2)  # it is rendered ten times a second at most
        report(1.0, "PSNR 30.0 dB")
    assert "refining" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert "PSNR 30.0 dB" in terminal.getvalue()


@pytest.mark.parametrize(("stream", "is_quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_shares_do_not_show_elsewhere(monkeypatch, stream, is_quiet):
    monkeypatch.setattr(sys, "stderr", stream)
    with share_bar("refining", is_quiet=is_quiet) as report:
        report(0.5, "half")
    assert stream.getvalue() == ""
