"""Count the modules between the words of a command line and the optimizer.

A module counts if `sys.setprofile` sees one of its functions called between the call of
`splatfactory.train.main` and PyTorch's constructor of the optimizer; imports and work done at
import do not count. The modules of `splatfactory` are those one reads to follow an option from the
command line to its effect; those of `zipsplat`, which build the network, are listed as well.
Nothing is written: the walk ends at the optimizer.

    python scripts/module_walk.py [--conf quickstart] [key=value …]
"""

from __future__ import annotations

import argparse
import sys
from types import FrameType
from typing import Any

import torch

from splatfactory import train

PACKAGES = ("splatfactory", "zipsplat")


class _ArrivedError(BaseException):
    """Ends the walk; no `except Exception` on the way catches it."""


def walk(arguments: list[str]) -> dict[str, list[str]]:
    """Modules in the order in which they are entered, with the functions that were called.

    Args:
        arguments: The command line of `splatfactory.train`.

    Raises:
        RuntimeError: If the command ends before there is an optimizer.
    """
    entered: dict[str, list[str]] = {}
    arrival = torch.optim.Optimizer.__init__.__code__

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call":
            return
        if frame.f_code is arrival:
            raise _ArrivedError
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in PACKAGES:
            functions = entered.setdefault(module, [])
            if frame.f_code.co_name not in functions:
                functions.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        status = train.main(arguments)
    except _ArrivedError:
        return entered
    finally:
        sys.setprofile(before)
    raise RuntimeError(f"the command ended with status {status} before there was an optimizer")


def main() -> None:
    """Print the modules and their number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conf", default="quickstart")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    entered = walk(["module-walk", "--conf", options.conf, *options.overrides])
    for package in PACKAGES:
        modules = [name for name in entered if name.partition(".")[0] == package]
        sys.stdout.write(f"{package}: {len(modules)} modules\n")
        for name in modules:
            sys.stdout.write(f"  {name}: {', '.join(entered[name][:6])}\n")


if __name__ == "__main__":
    main()
