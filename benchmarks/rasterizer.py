"""Speed of the CPU rasterizer: by stage, against the processor's peak, and against plain PyTorch.

    python benchmarks/rasterizer.py                 # three scenes, throughput and peers
    python benchmarks/rasterizer.py --all           # six scenes; the stages are printed
    python benchmarks/rasterizer.py --plot out.png
    python benchmarks/rasterizer.py --threads 2     # what two threads gain, and what keeps them
    python benchmarks/rasterizer.py --turntable 2   # frames per second of a video, with two threads

Times that are not by the clock are CPU time of one thread, the minimum of several rounds, so
other load matters little. The peak is that of fused multiply-adds on 16-lane vectors,
measured in the same run and again between scenes. `rasterizer_scenes.py` describes scenes A and B.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from fma_peak import peak_gflops
from rasterizer_scenes import Scene, scene_a, scene_b, title_of
from rasterizer_stages import Stages
from rasterizer_threads import scaling
from rasterizer_turntable import turntable
from records import Record, Row, least_ms
from tiled_torch import plain_torch

from zipsplat.render import RenderSettings, Splats
from zipsplat.render.cpu import PLUGIN, set_num_threads

# Arithmetic of one evaluation (one Gaussian at one pixel), counting a fused multiply-add as two:
# exponent 5, exp2 14, alpha and transmittance 5, colour 6 forward; backward again the first two,
# 18 for alpha, transmittance and the chain rule, 19 for the sums. Horizontal sums are not counted.
FLOPS_FORWARD = 30
FLOPS_BACKWARD = 56

SCENES = [("A", 20_000, 252, 252), ("A", 100_000, 512, 512), ("B", 250_000, 512, 512)]
MORE_SCENES = [("A", 100_000, 252, 252), ("A", 250_000, 960, 540), ("B", 100_000, 252, 252)]
PROMISED = ("A", 100_000, 512)
PEAK_SHARE = 0.45


@dataclass
class Result:
    """One scene; times in milliseconds."""

    scene: str
    num: int
    width: int
    height: int
    intersections: int
    peak_gflops: float
    project: float
    list_tiles: float
    sort: float
    fill: float
    blend: float
    blend_backward: float
    project_backward: float
    forward: float
    both: float
    evaluations: int
    evaluations_forward: float
    evaluations_backward: float
    share_forward: float
    share_backward: float


def measure(scene: Scene, runs: int) -> Result:
    """All figures of one scene."""
    set_num_threads(1)
    parts = Stages(scene)
    parts.list_tiles()
    parts.sort()
    parts.blend()
    names = ("project", "list_tiles", "sort", "fill", "blend", "blend_backward", "project_backward")
    for name in names:
        getattr(parts, name)()
    peak = peak_gflops()
    times = {name: least_ms(getattr(parts, name), runs) for name in names}
    peak = max(peak, peak_gflops())
    forward, both = _whole(scene, runs)
    evaluations = parts.evaluations()
    rates = [evaluations / times[name] / 1e6 for name in ("blend", "blend_backward")]
    return Result(
        scene=scene.name,
        num=parts.scene.num,
        width=parts.width,
        height=parts.height,
        intersections=parts.num_intersections,
        peak_gflops=peak,
        **times,
        forward=forward,
        both=both,
        evaluations=evaluations,
        evaluations_forward=rates[0],
        evaluations_backward=rates[1],
        share_forward=rates[0] * FLOPS_FORWARD / peak,
        share_backward=rates[1] * FLOPS_BACKWARD / peak,
    )


def _whole(scene: Scene, runs: int) -> tuple[float, float]:
    """The renderer as users call it: forward, and forward plus backward."""
    leaves = [
        getattr(scene.splats, name).clone().requires_grad_()
        for name in ("means", "quats", "scales", "opacities", "sh_coeffs")
    ]
    weights = torch.randn(1, 3, scene.viewpoints.height, scene.viewpoints.width)

    def forward() -> None:
        with torch.no_grad():
            PLUGIN.render(scene.splats, scene.viewpoints, RenderSettings())

    def both() -> None:
        color = PLUGIN.render(Splats(*leaves), scene.viewpoints, RenderSettings()).color
        assert color is not None
        torch.autograd.grad(color, leaves, weights)

    both()
    return least_ms(forward, runs), least_ms(both, runs)


def against_torch(record: Record, scene: Scene, result: Result, rounds: int) -> None:
    """Rows from projected Gaussians to the image, and back, beside plain PyTorch."""
    parts = Stages(scene)
    parts.blend()
    parts.blend_backward()
    parts.sum_intersections()  # compiles
    forward = result.list_tiles + result.sort + result.fill + result.blend
    both = forward + result.blend_backward + least_ms(parts.sum_intersections, rounds)
    peer, (forward_torch, both_torch) = (
        "plain PyTorch, by tiles",
        plain_torch(parts, min(3, rounds)),
    )
    what = f"{title_of(scene)}, without projection"
    for how, ours, theirs in (
        ("forward", forward, forward_torch),
        ("forward and backward", both, both_torch),
    ):
        row = Row(f"{what}: {how}", ours, "ms", peer, theirs)
        record.add(replace(row, key=f"rasterizer, {row.what}"))


def add(record: Record, scene: Scene, result: Result) -> None:
    """Rows of one scene."""
    what = title_of(scene)
    record.add(Row(f"{what}: forward", result.forward, "ms"))
    record.add(Row(f"{what}: forward and backward", result.both, "ms"))
    is_promised = (scene.name, result.num, result.width) == PROMISED
    shares = {"forward": result.share_forward, "backward": result.share_backward}
    for how, share in shares.items():
        speed, peak = share * result.peak_gflops, result.peak_gflops
        row = Row(f"{what}: blending, {how}", speed, "GFLOP/s", "FMA peak", peak)
        wanted = PEAK_SHARE if is_promised and how == "forward" else None
        needs = "avx512f" if wanted else ""
        key = f"rasterizer, {row.what}" if wanted else ""
        record.add(replace(row, more_is_better=True, wanted=wanted, needs=needs, key=key))


def report(result: Result) -> str:
    """One scene as text."""
    r = result
    return (
        f"{r.scene} {r.num // 1000}k {r.width}x{r.height}: {r.intersections} intersections; "
        f"project {r.project:.1f}, "
        f"list {r.list_tiles:.1f}, sort {r.sort:.1f}, fill {r.fill:.1f}, blend {r.blend:.1f}, "
        f"blend_backward {r.blend_backward:.1f}, project_backward {r.project_backward:.1f} ms; "
        f"forward {r.forward:.1f}, both "
        f"{r.both:.1f} ms; {r.evaluations_forward:.2f} / {r.evaluations_backward:.2f} G "
        f"evaluations/s, {100 * r.share_forward:.0f} % / {100 * r.share_backward:.0f} % of "
        f"{r.peak_gflops:.0f} GFLOP/s"
    )


def plot(results: list[Result], path: Path) -> None:
    """Stacked bars of the stages."""
    from matplotlib import pyplot

    names = ("project", "list_tiles", "sort", "fill", "blend", "blend_backward", "project_backward")
    figure, axes = pyplot.subplots(figsize=(7, 2.8), layout="constrained")
    labels = [f"{r.scene} {r.num // 1000}k {r.width}×{r.height}" for r in results]
    left = np.zeros(len(results))
    for name in names:
        widths = np.array([getattr(r, name) for r in results])
        axes.barh(labels, widths, left=left, label=name.replace("_", " "))
        left += widths
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds of one core")
    figure.legend(fontsize="small", ncols=len(names), loc="outside upper center")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="six scenes instead of three")
    parser.add_argument("--rounds", type=int, default=9, help="how often each thing is measured")
    parser.add_argument("--plot", type=Path, help="where to plot the stages (needs matplotlib)")
    parser.add_argument("--turntable", type=int, metavar="THREADS", help="measure only a video")
    parser.add_argument("--threads", type=int, help="measure only the speed-up of N threads")
    options = parser.parse_args()
    torch.set_num_threads(1)
    set_num_threads(1)
    if options.threads:
        record = Record(
            "rasterizer_threads", f"CPU rasterizer, {options.threads} threads", options.threads
        )
        for make, num in itertools.product((scene_a, scene_b), (100_000, 1_000_000)):
            scaling(record, make(num, 512, 512), options.threads, options.rounds)
    elif options.turntable:
        record = Record("rasterizer_turntable", "CPU rasterizer, a turntable", options.turntable)
        turntable(record, options.turntable)
    else:
        record = Record("rasterizer", "CPU rasterizer, SH degree 3")
        results = by_scene(record, options.rounds, SCENES + MORE_SCENES * options.all)
        if options.plot:
            plot(results, options.plot)
    record.save()


def by_scene(
    record: Record, rounds: int, scenes: Sequence[tuple[str, int, int, int]]
) -> list[Result]:
    """Measure scene by scene."""
    results = []
    for name, num, width, height in scenes:
        scene = (scene_a if name == "A" else scene_b)(num, width, height)
        results.append(measure(scene, rounds))
        print(report(results[-1]), flush=True)
        add(record, scene, results[-1])
        if (name, num, width) == PROMISED:
            against_torch(record, scene, results[-1], rounds)
    return results


if __name__ == "__main__":
    main()
