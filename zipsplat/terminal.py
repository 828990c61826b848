"""Safe terminal output: errors on one line, and no foreign control characters.

Names, notes and messages come from untrusted files; unescaped, they could set the terminal's title,
clear it, or fake a line of output.
"""

from __future__ import annotations

import logging
import unicodedata

EXPECTED_ERRORS = (ValueError, OSError, RuntimeError, ImportError, MemoryError)
"""Errors that a command reports in one line; all others are bugs and show a traceback."""
_LONGEST = 2000
"""Characters of an error message; the middle of a longer one, which quotes a file, is cut out."""
# Unicode: control, format, surrogates, line and paragraph separators
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")


class PrintableFormatter(logging.Formatter):
    """A formatter that escapes control characters other than line ends."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return printable(super().format(record))


def printable(text: str) -> str:
    """Escape control characters; line ends stay."""
    return "".join(
        repr(letter)[1:-1] if letter != "\n" and unicodedata.category(letter) in _UNSAFE else letter
        for letter in text
    )


def error_line(error: BaseException) -> str:
    """An error on one line, with the name of the file."""
    if isinstance(error, MemoryError):
        reason = " ".join(str(error).split())
        return printable(f"there is not enough memory{f' ({reason})' if reason else ''}")
    if isinstance(error, OSError) and error.strerror and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return printable(text)
