"""The command `zipsplat`: reconstruct, refine, cameras, depth, render, view, convert, info, doctor.

Results go to stdout, progress and messages to stderr. The exit status is 0 on success, 1 on
failure, 2 for wrong arguments and 130 after Ctrl-C. Each sub-command is the module of its name,
imported only if used; it imports heavy packages only when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from zipsplat._version import __version__
from zipsplat.cli.console import Console
from zipsplat.command_line import CommandParser
from zipsplat.terminal import EXPECTED_ERRORS, PrintableFormatter, error_line

EXAMPLES = """\
examples:
  zipsplat reconstruct photos/ -o scene.ply --refine   photos to a refined scene
  zipsplat reconstruct photos/ -o scene.ply            one forward pass
  zipsplat reconstruct clip.mp4 -o scene.spz --turntable orbit.mp4
  zipsplat refine scene.ply photos/ --cameras scene.cameras.json -o better.ply
  zipsplat cameras photos/ -o house/                   COLMAP, nerfstudio and 3DGS cameras
  zipsplat render scene.ply -o orbit.mp4               render a video
  zipsplat depth photos/ -o depth/                     depth maps and cameras
  zipsplat view scene.ply                              show it in the browser
  zipsplat convert scene.ply scene.splat               convert between scene formats
  zipsplat info scene.ply                              what is in a file
  zipsplat doctor                                      what is installed and what would be used

`zipsplat COMMAND --help` explains every option.
"""
COMMANDS = ("reconstruct", "refine", "cameras", "depth", "render", "convert", "info", "doctor")
NEED_TORCH = frozenset({"reconstruct", "refine", "cameras", "depth", "render"})
OK, FAILED, INTERRUPTED = 0, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see the module.

    Args:
        argv: arguments after the program name; default is `sys.argv[1:]`.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["view"]:  # parses its own arguments
        from zipsplat.viewer import main as view

        return view(arguments[1:])
    options = _parser(arguments[:1]).parse_args(arguments)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("zipsplat: %(message)s"))
    logging.basicConfig(level=logging.ERROR if options.quiet else level, handlers=[handler])
    try:
        with Console(is_quiet=options.quiet, is_json=options.json) as console:
            if arguments[0] in NEED_TORCH and "torch" not in sys.modules:
                with console.stage("starting PyTorch"):  # takes a second or more
                    importlib.import_module("torch")
            options.run(options, console)
    except KeyboardInterrupt:
        sys.stderr.write("\nzipsplat: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:  # the reader closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except EXPECTED_ERRORS as error:
        if options.verbose:
            traceback.print_exc()
        sys.stderr.write(f"zipsplat: error: {error_line(error)}\n")
        return FAILED
    return OK


def _parser(first: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser, with one command only if that is the first argument."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="zipsplat",
        description="Turn a few photos or a video into a scene of 3D Gaussians.",
        epilog=EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"zipsplat {__version__}")
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for name in [name for name in first if name in COMMANDS] or COMMANDS:
        command = importlib.import_module(f"zipsplat.cli.{name}")
        sub = subparsers.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EXAMPLES,
            formatter_class=raw,
        )
        command.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print the result as JSON")
        sub.add_argument("-q", "--quiet", action="store_true", help="no progress, no warnings")
        sub.add_argument("-v", "--verbose", action="count", default=0, help="more messages")
        sub.set_defaults(run=command.run)
    subparsers.add_parser("view", help="show a scene, images or a video in the browser")
    return parser
