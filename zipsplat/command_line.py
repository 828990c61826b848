"""A command-line parser that corrects misspelt options, and an option that commands share."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any

DTYPES = ("auto", "float32", "bfloat16")
_NUMBERS = re.compile(r"-[\d.]")  # values such as -1,0,2 look like options to argparse


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that suggests the nearest option for an unknown one, with the usage.

    Arguments that begin with a minus and a digit are values, even if they are lists of numbers.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse; unknown options end the program with status 2, as other mistakes do."""
        arguments = _joined(args or [])
        for argument in arguments[: arguments.index("--") if "--" in arguments else None]:
            self._check_option(argument.partition("=")[0])
        found, extras = super().parse_known_args(arguments, namespace)
        if extras:
            self.error(f"unrecognized arguments: {' '.join(extras)}")
        return found, extras

    def _check_option(self, name: str) -> None:
        known = [option for option in self._option_string_actions if option.startswith("--")]
        if not name.startswith("--") or any(option.startswith(name) for option in known):
            return
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        self.error(f"no option {name}" + (f"; did you mean {nearest[0]}?" if nearest else ""))


def _joined(arguments: Sequence[str]) -> list[str]:
    """Options and values that look like options, as "--option=value"."""
    joined: list[str] = []
    for argument in arguments:
        previous = joined[-1] if joined else ""
        if _NUMBERS.match(argument) and previous.startswith("--") and "=" not in previous:
            joined[-1] = f"{previous}={argument}"
        else:
            joined.append(argument)
    return joined


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Add `--dtype`, the precision that a network computes in."""
    parser.add_argument(
        "--dtype",
        choices=DTYPES,
        default="auto",
        help="precision of the network; auto (default) is bfloat16 where the GPU has it in"
        " hardware, or the CPU has and is faster with it for large networks, else float32",
    )
