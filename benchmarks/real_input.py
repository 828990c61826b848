"""Photos or videos end to end: read, reconstruct, write, render a video; with times and memory.

    python benchmarks/real_input.py [PATH …] [--weights NAME] [--output outputs/real_input]

Each PATH is one scene: an image, a folder, a quoted pattern, or a video; the default is the
rendered examples. Without weights, a network of the size of the smallest variant (ViT-S, 42 M
parameters) with random weights is used: times are real, scenes are meaningless. The time of each
stage is also given as a percentage of the total, to compare between machines.
"""

from __future__ import annotations

import argparse
import re
import resource
import sys
import time
import traceback
from pathlib import Path

from zipsplat import Gaussians, ZipSplat, viz
from zipsplat.figures import to_pixels
from zipsplat.images import to_square
from zipsplat.inputs import load_views
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.untrained import untrained_network

ROOT = Path(__file__).parents[1]
EXAMPLES = [ROOT / "assets/examples/office", ROOT / "assets/examples/drone.mp4"]


def main(argv: list[str] | None = None) -> int:
    """Run every input; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", default=EXAMPLES)
    parser.add_argument("--weights", help="default: random weights of ViT-S size")
    parser.add_argument("--output", type=Path, default=Path("outputs/real_input"))
    parser.add_argument("--num-frames", type=int, default=None, help="default: 24 of a video")
    parser.add_argument("--video-frames", type=int, default=12)
    options = parser.parse_args(argv)
    if options.weights is None:
        print("untrained weights: times are real, each scene is the first image as a relief")
        model = ZipSplat.from_network(untrained_network(ZipSplatConfig.variant("vits")))
    else:
        model = ZipSplat(options.weights)
    failed = 0
    for index, path in enumerate(options.paths):
        folder = options.output / re.sub(r"[^\w-]+", "_", f"{index}-{Path(path).stem}")
        try:
            run(model, path, folder, options.num_frames, options.video_frames)
        except (ValueError, OSError) as error:
            failed += 1
            print(f"{path}: FAILED: {error}", file=sys.stderr)
            traceback.print_exc()
    return 1 if failed else 0


def run(
    model: ZipSplat, path: str | Path, folder: Path, num_frames: int | None, video_frames: int
) -> None:
    """One scene: every stage timed, files written to a folder."""
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    views = load_views(path, num_frames=num_frames, max_side=1008)
    lap("read")
    gaussians: Gaussians = model(views)[0].cpu()
    lap("reconstruct")
    gaussians.save(folder / "scene.ply")
    again = Gaussians.load(folder / "scene.ply")
    lap("write and read .ply")
    frames = viz.turntable(
        again, folder / "wiggle.mp4", render_size=256, num_frames=video_frames, sweep_deg=None
    )
    lap(f"video of {video_frames} frames")
    inputs = [to_pixels(to_square(view)) for view in views]
    viz.save_image(viz.contact_sheet([*inputs, *frames[:4]]), folder / "sheet.png")
    total = sum(seconds.values())
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    sizes = sorted({f"{view.shape[-1]}×{view.shape[-2]}" for view in views})
    print(f"{path}: {len(views)} views ({', '.join(sizes)}), {gaussians.num_gaussians} Gaussians")
    for name, value in seconds.items():
        print(f"  {name:<20} {value:7.2f} s  {value / total:5.0%}")
    print(f"  {'all':<20} {total:7.2f} s, peak memory of the process {peak_gb:.1f} GB → {folder}")


if __name__ == "__main__":
    sys.exit(main())
