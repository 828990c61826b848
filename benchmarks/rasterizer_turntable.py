"""Frames per second of a turntable on the CPU rasterizer; see `rasterizer.py`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rasterizer_scenes import tensor
from records import Record, Row

from zipsplat.pose import Pose
from zipsplat.render import RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import PLUGIN, set_num_threads
from zipsplat.video import write_video


def turntable(record: Record, num_threads: int) -> None:
    """Rows of frames per second by the clock of one turn around a ball of 100 000 Gaussians."""
    num, size, num_frames, radius = 100_000, 512, 120, 2.2
    random = np.random.default_rng(0)
    focal = 0.9 * size
    directions = random.normal(size=(num, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sigma = np.exp(random.uniform(np.log(2), np.log(4), (num, 3)))
    splats = Splats(
        means=tensor(directions * np.cbrt(random.uniform(0, 1, (num, 1)))),
        quats=tensor(random.normal(size=(num, 4))),
        scales=tensor(sigma * radius / focal),
        opacities=tensor(random.uniform(0.1, 1, num)),
        sh_coeffs=tensor(0.2 * random.normal(size=(num, 16, 3))),
    )
    poses = Pose.orbit(torch.zeros(3), radius, torch.linspace(0, 360, num_frames + 1)[:-1])
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])[None]
    set_num_threads(num_threads)

    def images() -> Iterator[np.ndarray]:
        for pose in poses.Rt:
            color = PLUGIN.render(splats, Viewpoints(pose[None], K, size, size), RenderSettings())
            assert color.color is not None
            yield color.color[0].permute(1, 2, 0).mul(255).clamp(0, 255).byte().numpy()

    next(images())
    start = time.perf_counter()
    for _ in images():
        pass
    rendered = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "turntable.mp4", images())
    ended = time.perf_counter()
    what = f"turntable of {num:,} Gaussians, {size} × {size}, {num_threads} threads"
    for how, seconds in (("rendered", rendered - start), ("and encoded", ended - rendered)):
        rate = num_frames / seconds
        record.add(Row(f"{what}, {how}, by the clock", rate, "frames/s", more_is_better=True))
