"""Latency of the viewer's compression slider, against a full reconstruction.

Six views at 252 pixels, the network "vits" with random weights (times do not depend on them), on
the CPU. Minimum CPU time over several runs, so other load matters little.

    python benchmarks/viewer.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.untrained import untrained_network
from zipsplat.predictor import ZipSplat
from zipsplat.viewer.appearance import Appearance, colors_from, painted, splat_buffers
from zipsplat.viewer.reconstruction import Photos, recompress, reconstruct

VIEWS, COMPRESSIONS = 6, (1.0, 0.5, 0.25, 0.1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    generator = torch.Generator().manual_seed(0)
    images = tuple(torch.rand(3, 252, 252, generator=generator) for _ in range(VIEWS))
    model = ZipSplat.from_network(untrained_network(ZipSplatConfig.variant("vits")), device="cpu")
    runs = []
    model.model.backbone.register_forward_pre_hook(lambda *_: runs.append(1))
    scene = reconstruct(model, Photos(images), 1.0, no_stage)

    print(f"{VIEWS} views, vits, {torch.get_num_threads()} threads; CPU seconds")
    print(f"{'compression':>12} {'Gaussians':>10} {'full':>11} {'slider':>8} {'ratio':>6}")
    for compression in COMPRESSIONS:
        before = len(runs)
        moved = smallest(lambda c=compression: recompress(model, scene, c, no_stage), repeats)
        assert len(runs) == before, "a slider move ran the backbone"
        again = smallest(
            lambda c=compression: reconstruct(model, Photos(images), c, no_stage), repeats
        )
        num = recompress(model, scene, compression, no_stage).gaussians.num_gaussians
        print(f"{compression:12} {num:10,} {again:11.2f} {moved:8.2f} {again / moved:6.1f}")

    shown = painted(scene.gaussians, Appearance(), scene.group_size)
    arrays = smallest(lambda: splat_buffers(shown), repeats)
    colors = smallest(lambda: colors_from(shown, torch.zeros(3)), repeats)
    print(f"arrays of {shown.num_gaussians:,} Gaussians for the browser: {arrays:.3f}")
    print(f"their colours for a fixed camera: {colors:.3f}")


def no_stage(_: str) -> Callable[[int, int], None]:
    """Report nothing."""
    return lambda *_: None


def smallest(work: Callable[[], object], repeats: int) -> float:
    """CPU time of the fastest run."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
