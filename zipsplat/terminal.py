"""What commands write to a terminal: errors on one line, and no control characters of others.

Names, notes and messages come from files that anybody may have made; written as they are, they
could set the terminal's title, clear it, or show a line that no command wrote.
"""

from __future__ import annotations

import logging
import unicodedata

EXPECTED_ERRORS = (ValueError, OSError, RuntimeError, ImportError, MemoryError)
"""What a command answers with one line and a status; anything else is a fault of the program."""
_LONGEST = 2000
"""Letters of an error; the middle of a longer one, which quotes a file, is left out."""
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode: control, format, half a character, line ends


class PrintableFormatter(logging.Formatter):
    """A formatter whose records hold no control characters but their line ends."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return printable(super().format(record))


def printable(text: str) -> str:
    """A text whose control characters are shown as escapes; line ends stay."""
    return "".join(
        repr(letter)[1:-1] if letter != "\n" and unicodedata.category(letter) in _UNSAFE else letter
        for letter in text
    )


def error_line(error: BaseException) -> str:
    """What went wrong, on one line, with the name of the file."""
    if isinstance(error, MemoryError):
        reason = " ".join(str(error).split())
        return printable(f"there is not enough memory{f' ({reason})' if reason else ''}")
    if isinstance(error, OSError) and error.strerror and error.filename:
        return printable(f"{error.filename}: {error.strerror}")
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    return printable(text)
