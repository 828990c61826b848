"""The command `zipsplat view`, also `python -m zipsplat.viewer`: arguments, start, shutdown."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.command_line import CommandParser, add_dtype
from zipsplat.files import open_file
from zipsplat.option_types import count, share
from zipsplat.render.cpu.ahead import image_kernels, is_image_on_cpu
from zipsplat.terminal import EXPECTED_ERRORS, PrintableFormatter, error_line
from zipsplat.viewer.guard import is_loopback

if TYPE_CHECKING:
    import viser

    from zipsplat.viewer.app import Viewer
    from zipsplat.viewer.worker import Job

DEFAULT_PORT = 8080
EXAMPLES = """\
examples:
  zipsplat view photos/ --open
  zipsplat view clip.mp4 --num-frames 12 --compression 0.5
  zipsplat view scene.ply

`python -m zipsplat.viewer` is the same command.
"""


def main(argv: Sequence[str] | None = None, stop: threading.Event | None = None) -> int:
    """Run the viewer until it is interrupted.

    Args:
        argv: arguments; default is `sys.argv[1:]`.
        stop: ends the viewer when set, for programs that embed it.

    Returns:
        0, or 1 if the input, the weights or the address cannot be used.
    """
    arguments = parser().parse_args(sys.argv[1:] if argv is None else argv)
    if "torch" not in sys.modules:
        print("zipsplat viewer: starting PyTorch …", file=sys.stderr)  # noqa: T201
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # A browser may disconnect while something is sent to it; viser warns every time.
    warnings.filterwarnings("ignore", message="Queued a .* on a closed connection")
    try:
        return _run(arguments, threading.Event() if stop is None else stop)
    except KeyboardInterrupt:
        return 0
    except EXPECTED_ERRORS as error:
        print(f"zipsplat viewer: {error_line(error)}", file=sys.stderr)  # noqa: T201
        return 1


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    out = CommandParser(
        prog="zipsplat view",
        description="Show a scene in the browser: from photos, a video, or a scene file.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    out.add_argument(
        "input",
        nargs="+",
        metavar="INPUT",
        help="images, a folder, a quoted pattern, a video, or a saved scene such as scene.ply",
    )
    out.add_argument(
        "--weights",
        default="zipsplat",
        help="name, path or URL of the weights (default: %(default)s)",
    )
    out.add_argument(
        "--num-frames",
        type=count,
        default=24,
        help="frames to take from a video (default: %(default)s)",
    )
    out.add_argument(
        "--compression",
        type=share,
        default=1.0,
        help="share of tokens to keep, in (0, 1] (default: 1)",
    )
    out.add_argument(
        "--image-size",
        type=count,
        metavar="PIXELS",
        help="input side of the network in pixels (default: the training size of the weights)",
    )
    out.add_argument("--skip-bad", action="store_true", help="leave out unreadable images")
    out.add_argument(
        "--cameras",
        metavar="FILE",
        help="known cameras: a COLMAP folder, transforms.json, cameras.json or a camera path"
        " (default for a scene: the cameras file beside it)",
    )
    out.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    add_dtype(out)
    out.add_argument(
        "--port",
        type=_port,
        help=f"default: {DEFAULT_PORT} or the next free port; 0: any free port",
    )
    out.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    out.add_argument(
        "--max-upload", type=count, default=512, metavar="MB", help="upload limit (default: 512)"
    )
    out.add_argument("--open", action="store_true", help="open the page in a browser")
    return out


def _run(arguments: argparse.Namespace, stop: threading.Event) -> int:
    """Check the input, start the server, then load and reconstruct."""
    from zipsplat.viewer.server import Address, import_viser, start_server, stop_server
    from zipsplat.viewer.worker import StopRequested

    import_viser()
    load = _loader(arguments)
    port = DEFAULT_PORT if arguments.port is None else arguments.port
    server = start_server(Address(arguments.host, port, exact=arguments.port is not None))
    viewer = _viewer(arguments, server)
    failures = []

    def open_input(job: Job) -> None:
        try:
            load(viewer, job)
        except StopRequested:
            raise
        except Exception as error:
            failures.append(error)
            stop.set()

    # For images of our own renderer and videos, which somebody may ask for.
    compiling = image_kernels() if is_image_on_cpu(arguments.device) else nullcontext()
    try:
        with compiling:
            _announce(arguments, server.get_port())
            viewer.run("open", open_input)
            stop.wait()
    finally:
        viewer.close()
        stop_server(server)
    if failures:
        raise failures[0]
    return 0


def _viewer(arguments: argparse.Namespace, server: viser.ViserServer) -> Viewer:
    """Make the viewer; weights are loaded when photos are first reconstructed."""
    from zipsplat.predictor import ZipSplat, choose_device
    from zipsplat.viewer.app import Viewer
    from zipsplat.viewer.host import Options
    from zipsplat.viewer.tools import sharpening_tools
    from zipsplat.weights import licence_note

    device, size = choose_device(arguments.device), arguments.image_size

    def load_model() -> ZipSplat:
        return ZipSplat(arguments.weights, device, arguments.dtype, size)

    options = Options(
        name=_name(arguments.input),
        num_frames=arguments.num_frames,
        compression=arguments.compression,
        max_upload_bytes=arguments.max_upload * 1_000_000,
        exact=device.type == "cuda",
        note=licence_note(arguments.weights),
    )
    return Viewer(server, load_model, options, sharpening_tools())


def _loader(arguments: argparse.Namespace) -> Callable[[Viewer, Job], None]:
    """The function that loads the input into the viewer.

    Raises:
        OSError: a file does not exist.
        ValueError: there is no usable input.
    """
    from zipsplat.gaussians import Gaussians
    from zipsplat.inputs import find_inputs
    from zipsplat.predictor import choose_device
    from zipsplat.scene_files import read_scene
    from zipsplat.viewer.photo_source import (
        PhotoSource,
        load_photos,
        load_scene_cameras,
        names_scene_file,
    )
    from zipsplat.viewer.reconstruction import Reconstruction

    if len(arguments.input) == 1 and names_scene_file(arguments.input[0]):
        device = choose_device(arguments.device)
        open_file(arguments.input[0]).close()  # fails early if it is missing
        cameras = load_scene_cameras(arguments.cameras, arguments.input[0])

        def load_scene(viewer: Viewer, job: Job) -> None:
            job.stage("Opening the scene")
            arrays = read_scene(arguments.input[0]).arrays
            gaussians = Gaussians.from_arrays(arrays).to(device)
            remarks = arrays.remarks
            viewer.show_scene(Reconstruction(gaussians, cameras, note=arrays.note, remarks=remarks))

        return load_scene

    find_inputs(arguments.input)
    source = PhotoSource(
        tuple(arguments.input), arguments.cameras, arguments.num_frames, arguments.skip_bad
    )

    def load_views(viewer: Viewer, job: Job) -> None:
        photos = load_photos(source, job.stage("Reading the input"))
        viewer.reconstruct_now(photos, job)

    return load_views


def _announce(arguments: argparse.Namespace, port: int) -> None:
    """Print the address of the page, and warn if others can reach it."""
    is_local = is_loopback(arguments.host)
    host = "127.0.0.1" if arguments.host in ("0.0.0.0", "::") else arguments.host
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if not is_local:
        print(  # noqa: T201
            f"warning: the viewer listens on {arguments.host}: everyone who can reach this"
            " machine can see the scene and use its compute; there is no password",
            file=sys.stderr,
        )
    print(f"The viewer is at {address} (Ctrl-C stops it)", flush=True)  # noqa: T201
    if arguments.open:
        webbrowser.open(address)


def _name(sources: Sequence[str]) -> str:
    """A base name for downloads: the first input without its suffix."""
    stem = Path(sources[0]).absolute().name.split(".")[0]
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "scene"


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, got {text!r}")
    return int(text)
