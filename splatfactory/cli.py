"""The command `splatfactory`: train, evaluate, compare, prepare data.

Each sub-command is the `main` of one module, which also runs as `python -m MODULE`. It is imported
only when it runs, so `--help` is quick. The exit status is that of the sub-command, 2 for an
unknown one, 130 if interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from splatfactory._version import __version__

INTERRUPTED, WRONG_ARGUMENTS = 130, 2
SCRIPTS = "splatfactory.datasets.scripts"


@dataclass(frozen=True)
class Command:
    """One sub-command.

    Attributes:
        module: module whose `main` it runs.
        text: its line in the help.
    """

    module: str
    text: str


COMMANDS = {
    "train": Command("splatfactory.train", "train a model"),
    "eval": Command("splatfactory.eval.run", "evaluate a model on a benchmark"),
    "report": Command("splatfactory.training.run_page", "write a page with the curves of a run"),
    "compare": Command("splatfactory.eval.compare", "compare results, with images side by side"),
    "index": Command("splatfactory.eval.indices", "make or download evaluation indices"),
    "release": Command("splatfactory.training.release", "export compact weights of a finished run"),
    "weights": Command(
        "splatfactory.models.encoders.dav3_encoder",
        "prepare downloaded Depth Anything 3 weights for training",
    ),
}
DATA_COMMANDS = {
    "generate": Command(f"{SCRIPTS}.synthetic.generate", "generate scenes with exact depth"),
    "preview": Command(f"{SCRIPTS}.synthetic.sheet", "write a contact sheet of generated scenes"),
    "convert": Command(f"{SCRIPTS}.custom.convert", "convert your own photos or video into shards"),
    "convert-re10k": Command(f"{SCRIPTS}.re10k.convert", "convert downloaded RE10K into shards"),
    "convert-dl3dv": Command(f"{SCRIPTS}.dl3dv.convert", "convert downloaded DL3DV into shards"),
    "convert-mipnerf360": Command(
        f"{SCRIPTS}.mipnerf360.convert", "convert downloaded Mip-NeRF 360 into shards"
    ),
    "download-re10k": Command(f"{SCRIPTS}.re10k.download", "download RE10K"),
    "download-dl3dv": Command(f"{SCRIPTS}.dl3dv.download", "download DL3DV"),
    "download-mipnerf360": Command(f"{SCRIPTS}.mipnerf360.download", "download Mip-NeRF 360"),
    "extract-depth": Command(
        f"{SCRIPTS}.extract_depth", "add depth maps predicted by Depth Anything 3"
    ),
    "describe": Command(f"{SCRIPTS}.describe", "summarise a shard folder; --check verifies it"),
    "repack": Command(f"{SCRIPTS}.repack", "rewrite shards, e.g. smaller or shuffled"),
    "resize": Command(f"{SCRIPTS}.resize", "resize the images of a shard folder"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"splatfactory {__version__}\n")
        return 0
    if arguments[:1] == ["data"]:
        return _dispatch("splatfactory data", DATA_COMMANDS, arguments[1:])
    return _dispatch("splatfactory", COMMANDS, arguments)


def _dispatch(program: str, commands: Mapping[str, Command], arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        (sys.stdout if arguments else sys.stderr).write(_help(program, commands))
        return 0 if arguments else WRONG_ARGUMENTS
    name, rest = arguments[0], list(arguments[1:])
    if name not in commands:
        close = difflib.get_close_matches(name, [*commands, "data"], n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; see {program} --help"
        sys.stderr.write(f"error: {program} has no command {name!r}{hint}\n")
        return WRONG_ARGUMENTS
    try:
        status: int = importlib.import_module(commands[name].module).main(rest)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader closed the pipe, e.g. `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _help(program: str, commands: Mapping[str, Command]) -> str:
    rows = [(name, command.text) for name, command in commands.items()]
    if commands is COMMANDS:
        rows.append(("data", "generate, convert, download, describe and repack training data"))
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:{width}}  {text}" for name, text in rows]
    return "\n".join(
        [f"usage: {program} COMMAND …", "", "commands:", *lines, "",
         f"`{program} COMMAND --help` explains each command.", ""]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
