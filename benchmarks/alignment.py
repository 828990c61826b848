"""Fast pose alignment against the exact protocol: CPU time and PSNR, side by side in one run.

    python benchmarks/alignment.py [--scenes 3] [--size 112] [--views 4]

The aligned scene differs from the photographed one, as a prediction would: every
Gaussian is moved and recoloured a little. Initial poses are off by about one degree and 2 % of the
distance. Times are CPU seconds of this process, so other load matters little.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import torch
from records import Record, Row

from zipsplat.alignment import EXACT, FAST, refine_poses, rotation_from_vector
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.pose import Pose


def scene(generator: torch.Generator, count: int) -> Gaussians:
    """Gaussians of many sizes in front of a textured wall."""
    means = torch.rand(count, 3, generator=generator) * torch.tensor([4.0, 4.0, 2.0])
    means = means - torch.tensor([2.0, 2.0, -2.0])
    means[: count // 2, 2] = 4.0
    scales = 0.02 + 0.1 * torch.rand(count, 3, generator=generator)
    quats = torch.randn(count, 4, generator=generator)
    colors = torch.rand(count, 3, generator=generator)
    opacities = 0.5 + 0.5 * torch.rand(count, generator=generator)
    return Gaussians(means, scales, quats, opacities, dc_from_rgb(colors)[:, None])


def disturbed(true: Gaussians, generator: torch.Generator) -> Gaussians:
    """The scene with the errors of a typical prediction."""
    return dataclasses.replace(
        true,
        means=true.means + 0.01 * torch.randn(true.means.shape, generator=generator),
        sh_coeffs=true.sh_coeffs + 0.2 * torch.randn(true.sh_coeffs.shape, generator=generator),
    )


def poses(num_views: int, generator: torch.Generator) -> tuple[Pose, Pose]:
    """True poses along a line, and the initial poses of the alignment."""
    t = torch.zeros(num_views, 3)
    t[:, 0] = torch.linspace(-0.4, 0.4, num_views)
    true = Pose(torch.eye(3).expand(num_views, 3, 3), t)
    turn = rotation_from_vector(0.015 * torch.randn(num_views, 3, generator=generator))
    return true, Pose(true.R @ turn, t + 0.04 * torch.randn(num_views, 3, generator=generator))


def psnr(images: torch.Tensor, rendered: torch.Tensor) -> float:
    """Mean over views, decibels."""
    error = (images.clamp(0, 1) - rendered.clamp(0, 1)).square().mean(dim=(1, 2, 3))
    return float(-10 * torch.log10(error).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--gaussians", type=int, default=3000)
    options = parser.parse_args()
    camera = Camera.from_fov(0.9, w=options.size, h=options.size)
    cameras = camera.map(lambda value: value.expand(options.views, 2))
    settings = {
        "200 full steps": dataclasses.replace(EXACT, threshold=0.0),
        "protocol (may stop early)": EXACT,
        "fast": FAST,
    }
    totals: dict[str, list[float]] = {"start": [], **{name: [] for name in settings}}
    seconds = dict.fromkeys(settings, 0.0)
    for number in range(options.scenes):
        generator = torch.Generator().manual_seed(number)
        truth = scene(generator, options.gaussians)
        made = disturbed(truth, generator)
        true, start = poses(options.views, generator)
        images = truth.render(cameras, true)[0].clamp(0, 1)
        totals["start"].append(psnr(images, made.render(cameras, start)[0]))
        for name, chosen in settings.items():
            begin = time.process_time()
            refined = refine_poses(made, images, cameras, start, settings=chosen)
            seconds[name] += time.process_time() - begin
            totals[name].append(psnr(images, made.render(cameras, refined.poses)[0]))
    means = {name: sum(values) / len(values) for name, values in totals.items()}
    record = Record(
        "alignment",
        f"Aligning poses for scores, {options.scenes} scenes, {options.views} views of"
        f" {options.size}², {options.gaussians} Gaussians",
        torch.get_num_threads(),
    )
    for name in list(settings)[:2]:
        record.add(Row("fast alignment, CPU time", seconds["fast"], "s", name, seconds[name]))
    record.add(Row("PSNR without alignment", means["start"], "dB"))
    for name in list(settings)[:2]:
        row = Row("PSNR after fast alignment", means["fast"], "dB", name, means[name])
        record.add(dataclasses.replace(row, more_is_better=True))
    record.save()


if __name__ == "__main__":
    main()
