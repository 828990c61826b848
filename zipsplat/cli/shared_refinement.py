"""What `reconstruct` and `refine` share: options, progress and results of a refinement."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from zipsplat.cli.arguments import check_suffix
from zipsplat.cli.compiling import await_kernels
from zipsplat.cli.console import Console
from zipsplat.cli.posed_photos import AUTO
from zipsplat.option_types import count

if TYPE_CHECKING:
    from zipsplat.gaussians import Gaussians
    from zipsplat.posed_images import PosedImages
    from zipsplat.refinement import RefinedScene, RefinementProgress, RefinementSettings

DEFAULT_AMOUNT = "30"
DEFAULT_SIZE = 640


@dataclass(frozen=True)
class Amount:
    """How long to refine: seconds or a number of steps; the other is None."""

    seconds: float | None = None
    steps: int | None = None


def amount(text: str) -> Amount:
    """Parse "45", "45s" or "1500steps"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)s?|(\d+)steps?", text)
    seconds = float(match[1]) if match and match[1] else None
    steps = int(match[2]) if match and match[2] else None
    if not seconds and not steps:
        raise argparse.ArgumentTypeError(
            f"wanted seconds such as 30 or steps such as 1500steps, got {text!r} (name images"
            " before this option, or after --)"
        )
    return Amount(seconds, steps)


def hold_out(text: str) -> int:
    """0, or an integer of at least 2."""
    if not text.isdecimal() or int(text) == 1:
        raise argparse.ArgumentTypeError(f"wanted 0 or an integer of at least 2, got {text!r}")
    return int(text)


def add_refinement(parser: argparse.ArgumentParser) -> None:
    """Add the options of a refinement, except its duration."""
    group = parser.add_argument_group("refinement")
    group.add_argument(
        "--cameras",
        default=AUTO,
        metavar="FILE",
        help="COLMAP folder, transforms.json or cameras.json of the photos (default: estimated by"
        " structure from motion, which needs zipsplat[cameras])",
    )
    group.add_argument(
        "--save-cameras",
        type=Path,
        metavar="FILE.json",
        help="cameras file to write (default: NAME.cameras.json beside the scene NAME)",
    )
    group.add_argument(
        "--hold-out",
        type=hold_out,
        metavar="N",
        help="hold out every N-th photo for evaluation; 0: none (default: every 8th, if there are"
        " 8 or more)",
    )
    group.add_argument(
        "--refine-size",
        type=count,
        default=DEFAULT_SIZE,
        metavar="PIXELS",
        help=f"longer side of the training images (default {DEFAULT_SIZE})",
    )
    group.add_argument(
        "--max-gaussians",
        type=count,
        metavar="N",
        help="cap on the number of Gaussians (default by image size: 60000 at 640x360)",
    )
    group.add_argument(
        "--optimize-poses", action="store_true", help="also optimise the poses, if that fits better"
    )
    group.add_argument(
        "--optimize-color",
        action="store_true",
        help="fit an affine colour map per photo, for exposure and white balance",
    )


def settings_of(
    options: argparse.Namespace, chosen: Amount, photos: PosedImages, compression: float = 1.0
) -> RefinementSettings:
    """Settings from the options; `compression` is a share of the default cap on Gaussians."""
    from zipsplat.refinement import RefinementSettings
    from zipsplat.refinement.problem import gaussian_cap

    most: int | None = options.max_gaussians
    if most is None and compression < 1:
        cap = gaussian_cap(photos.resized(options.refine_size), None)
        most = max(1, round(compression * cap))
    return RefinementSettings(
        seconds=chosen.seconds,
        steps=chosen.steps,
        max_side=options.refine_size,
        max_gaussians=most,
        hold_out=options.hold_out,
        optimize_poses=options.optimize_poses,
        optimize_color=options.optimize_color,
    )


def camera_file(options: argparse.Namespace, scene: Path) -> Path:
    """The cameras file to write.

    Raises:
        ValueError: if it does not end in `.json`.
    """
    path: Path = options.save_cameras or scene.with_name(f"{scene.stem}.cameras.json")
    check_suffix(path, [".json"])
    return path


@contextmanager
def compiling_meanwhile(
    options: argparse.Namespace, inputs: Sequence[str], console: Console
) -> Iterator[None]:
    """Compile kernels in another process while the block runs, and wait for it at the end."""
    from zipsplat.devices import choose_device
    from zipsplat.inputs import DEFAULT_VIDEO_FRAMES, find_inputs
    from zipsplat.refinement.warm_up import refinement_kernels

    if choose_device(options.device).type != "cpu":
        yield
        return
    images = find_inputs(list(inputs)).images if inputs else ()
    num_photos = options.num_frames or len(images) or DEFAULT_VIDEO_FRAMES
    with refinement_kernels(num_photos) as kernels:
        yield
        await_kernels(kernels, console)


def run_refinement(
    scene: Gaussians | None, photos: PosedImages, settings: RefinementSettings, console: Console
) -> RefinedScene:
    """Refine with a progress bar; Ctrl-C keeps the best scene so far."""
    from zipsplat.refinement import refine

    with console.share_stage("refining") as report, _until_interrupted() as pressed:

        def on_step(progress: RefinementProgress) -> bool:
            report(progress.share, _status(progress))
            return not pressed

        return refine(
            scene,
            photos.images,
            photos.cameras,
            photos.poses,
            photos.points,
            settings,
            on_step,
            photos.masks,
        )


def refinement_lines(result: RefinedScene) -> list[str]:
    """The result as text."""
    start = result.curve[0]
    count = len(result.held_out)
    by = f"{count} held-out photo{'s' * (count > 1)}" if count else "the photos"
    ended = {"converged": ", converged", "interrupted": ", interrupted"}
    return [
        f"{by}: PSNR {start.psnr:.2f} -> {result.psnr:.2f} dB,"
        f" SSIM {start.ssim:.3f} -> {result.ssim:.3f}",
        f"{start.num_gaussians} -> {result.gaussians.num_gaussians} Gaussians in"
        f" {result.num_steps} steps{ended.get(result.stopped, '')}",
    ]


def refinement_data(result: RefinedScene) -> dict[str, Any]:
    """The result for JSON."""
    return {
        "steps": result.num_steps,
        "stopped": result.stopped,
        "held_out": list(result.held_out),
        "psnr_before": result.start_psnr,
        "psnr": result.psnr,
        "ssim_before": result.curve[0].ssim,
        "ssim": result.ssim,
        "curve": [
            {
                "step": point.step,
                "seconds": round(point.seconds, 3),
                "gaussians": point.num_gaussians,
                "psnr": point.psnr,
                "ssim": point.ssim,
            }
            for point in result.curve
        ],
    }


def _status(progress: RefinementProgress) -> str:
    """PSNR, number of Gaussians and time left."""
    held_out = progress.held_out_psnr
    held_out_text = "" if held_out is None else f", held out {held_out:.1f}"
    return (
        f"PSNR {progress.train_psnr:.1f}{held_out_text} dB, {progress.num_gaussians} Gaussians,"
        f" {progress.seconds_left:.0f} s left"
    )


@contextmanager
def _until_interrupted() -> Iterator[list[int]]:
    """A list that the first Ctrl-C appends to; a second Ctrl-C interrupts as usual."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        pressed.append(number)
        signal.signal(signal.SIGINT, before)
        sys.stderr.write("\nstopping and keeping the best so far (Ctrl-C again discards it)\n")

    signal.signal(signal.SIGINT, handle)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
