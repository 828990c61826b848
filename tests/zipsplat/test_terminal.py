"""What commands write to a terminal."""

from __future__ import annotations

from zipsplat.terminal import error_line


def test_an_error_that_quotes_a_file_is_short() -> None:
    line = error_line(ValueError("a.ply: damaged: " + "\n\x1b[2J" * 100_000 + " (try another)"))
    assert line.startswith("a.ply: damaged: \\x1b[2J")
    assert line.endswith("(try another)")
    assert len(line) < 10_000
    assert "\n" not in line
    assert "\x1b" not in line


def test_errors_without_a_text() -> None:
    assert error_line(ValueError()) == "ValueError"
    assert error_line(MemoryError()) == "there is not enough memory"
