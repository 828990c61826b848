"""Latency of the viewer's compression slider, against a full reconstruction.

Six views at 252 pixels, the network "vits" with random weights (times do not depend on them), on
the CPU. Minimum CPU time over several runs, so other load matters little.

    python benchmarks/viewer.py [--rounds 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from records import Record, Row, least_s

from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.untrained import untrained_network
from zipsplat.predictor import ZipSplat
from zipsplat.viewer.appearance import Appearance, colors_from, painted, splat_buffers
from zipsplat.viewer.reconstruction import Photos, recompress, reconstruct

VIEWS, COMPRESSIONS = 6, (1.0, 0.5, 0.25, 0.1)


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    generator = torch.Generator().manual_seed(0)
    images = tuple(torch.rand(3, 252, 252, generator=generator) for _ in range(VIEWS))
    model = ZipSplat.from_network(untrained_network(ZipSplatConfig.variant("vits")), device="cpu")
    runs = []
    model.model.backbone.register_forward_pre_hook(lambda *_: runs.append(1))
    scene = reconstruct(model, Photos(images), 1.0, no_stage)

    title = f"The viewer's slider, {VIEWS} views at 252 px, ViT-S, CPU time"
    record = Record("viewer", title, torch.get_num_threads())
    for compression in COMPRESSIONS:
        before = len(runs)
        moved = least_s(lambda c=compression: recompress(model, scene, c, no_stage), rounds)
        assert len(runs) == before, "a slider move ran the backbone"
        again = least_s(
            lambda c=compression: reconstruct(model, Photos(images), c, no_stage), rounds
        )
        num = recompress(model, scene, compression, no_stage).gaussians.num_gaussians
        what = f"slider moved to {compression}, {num:,} Gaussians"
        record.add(Row(what, moved, "s", "reconstructing again", again))

    shown = painted(scene.gaussians, Appearance(), scene.group_size)
    arrays = least_s(lambda: splat_buffers(shown), rounds)
    colors = least_s(lambda: colors_from(shown, torch.zeros(3)), rounds)
    what = f"{shown.num_gaussians:,} Gaussians for the browser"
    record.add(Row(f"{what}, arrays", arrays, "s"))
    record.add(Row(f"{what}, colours for a camera at rest", colors, "s"))
    record.save()


def no_stage(_: str) -> Callable[[int, int], None]:
    """Report nothing."""
    return lambda *_: None


if __name__ == "__main__":
    main()
