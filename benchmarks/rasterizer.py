"""Speed of the CPU rasterizer: by stage, against the processor's peak, and against plain PyTorch.

    python benchmarks/rasterizer.py                 # three scenes, throughput and peers
    python benchmarks/rasterizer.py --all           # six scenes; the stages are printed
    python benchmarks/rasterizer.py --plot out.png
    python benchmarks/rasterizer.py --threads 2     # what two threads gain, and what keeps them
    python benchmarks/rasterizer.py --turntable 2   # frames per second of a video, with two threads

Times that are not by the clock are CPU time of one thread, the minimum of several rounds, so
other load matters little. The peak is that of fused multiply-adds on 16-lane vectors,
measured in the same run and again between scenes. Scenes:

- A: depths uniform in 2…10, standard deviations of each axis log-uniform in 2…4 pixels, opacities
  uniform in 0.1…1, harmonics of degree 3;
- B ("surf"): three smooth layers, standard deviations log-uniform in 0.6…2.5 pixels.

In both, centres are uniform over an area 1.1 times as wide and high as the image, so that about
one Gaussian in nine is outside the view.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import tempfile
import time
import unittest.mock as mock
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fma_peak import best, peak_gflops
from records import Record, Row, in_turns
from tiled_torch import plain_torch
from torch import Tensor

from zipsplat.pose import Pose
from zipsplat.render import RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import PLUGIN, set_num_threads
from zipsplat.render.cpu import view as stages
from zipsplat.render.cpu.batch import BATCH, batch_in, prepare
from zipsplat.render.cpu.compiler import kernel
from zipsplat.render.cpu.layout import (
    INTERSECTION,
    TILE,
    Culling,
    FloatArray,
    ImageGradients,
    ImageSize,
    Inputs,
    IntArray,
    Intersections,
    RasterSettings,
    SceneGradients,
    Shading,
    Slots,
    TileLists,
    Workspace,
    grid_of,
)
from zipsplat.render.cpu.operation import _cameras
from zipsplat.render.cpu.project_backward import _gather
from zipsplat.render.cpu.simd import (
    aligned_empty,
    count_bits,
    lane,
    zeros,
)
from zipsplat.render.cpu.tile import tile_at
from zipsplat.render.cpu.view import Plan
from zipsplat.video import write_video

# Arithmetic of one evaluation (one Gaussian at one pixel), counting a fused multiply-add as two:
# exponent 5, exp2 14, alpha and transmittance 5, colour 6 forward; backward again the first two,
# 18 for alpha, transmittance and the chain rule, 19 for the sums. Horizontal sums are not counted.
FLOPS_FORWARD = 30
FLOPS_BACKWARD = 56

AREA = 1.1  # extent of the centres, in image sizes

SCENES = [("A", 20_000, 252, 252), ("A", 100_000, 512, 512), ("B", 250_000, 512, 512)]
MORE_SCENES = [("A", 100_000, 252, 252), ("A", 250_000, 960, 540), ("B", 100_000, 252, 252)]
KINDS = {"A": "scattered", "B": "on surfaces"}
PROMISED = ("A", 100_000, 512)
PEAK_SHARE = 0.45
GAIN_BY_TWO = 1.8


@dataclass(frozen=True)
class Scene:
    """Gaussians and one camera."""

    name: str
    splats: Splats
    viewpoints: Viewpoints


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


def scene_a(num: int, width: int, height: int) -> Scene:
    """Gaussians scattered in space."""
    random = np.random.default_rng(0)
    depth = random.uniform(2, 10, num)
    sigma = np.exp(random.uniform(np.log(2), np.log(4), (num, 3)))
    opacity = random.uniform(0.1, 1, num)
    return _scene("A", random, depth, sigma, opacity, width, height)


def scene_b(num: int, width: int, height: int) -> Scene:
    """Three smooth surfaces, one behind the other."""
    random = np.random.default_rng(0)
    layer = random.integers(0, 3, num)
    depth = 3.0 + 2.0 * layer + 0.3 * np.sin(np.arange(num) * 0.01)
    sigma = np.exp(random.uniform(np.log(0.6), np.log(2.5), (num, 3)))
    opacity = random.uniform(0.1, 1, num)
    return _scene("B", random, depth, sigma, opacity, width, height)


def _scene(
    name: str,
    random: np.random.Generator,
    depth: np.ndarray,
    sigma: np.ndarray,
    opacity: np.ndarray,
    width: int,
    height: int,
) -> Scene:
    num, focal = len(depth), 0.9 * width
    x = random.uniform(-0.5, 0.5, num) * AREA * width / focal * depth
    y = random.uniform(-0.5, 0.5, num) * AREA * height / focal * depth
    splats = Splats(
        means=_tensor(np.stack((x, y, depth), axis=1)),
        quats=_tensor(random.normal(size=(num, 4))),
        scales=_tensor(sigma * (depth / focal)[:, None]),
        opacities=_tensor(opacity),
        sh_coeffs=_tensor(0.2 * random.normal(size=(num, 16, 3))),
    )
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Scene(name, splats, Viewpoints(torch.eye(4)[None], K[None], width, height))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


class Stages:
    """The stages of one view, to be run one by one."""

    def __init__(self, scene: Scene) -> None:
        splats, viewpoints = scene.splats, scene.viewpoints
        self.inputs = Inputs(
            *(
                t.numpy().reshape(-1)
                for t in (
                    splats.means,
                    splats.quats,
                    splats.scales,
                    splats.opacities,
                    splats.sh_coeffs,
                )
            )
        )
        self.scene = stages.scene_of(self.inputs)
        self.width, self.height = viewpoints.width, viewpoints.height
        self.plan = _plan(viewpoints)
        self.camera = _camera(viewpoints)
        self.grid = grid_of(self.plan.settings.size)
        self.tiles_x, self.tiles_y = self.grid
        self.num_tiles = self.tiles_x * self.tiles_y
        self.slots = self.project()
        self.num_slots, self.num_intersections = map(int, stages.number_intersections(self.slots))
        self.drawing = stages.bin_slots(
            self.slots, self.num_slots, self.num_intersections, self.plan
        )
        self.buffers = stages.blend_lists(self.drawing, 0, self.plan)
        size = self.width * self.height
        random = np.random.default_rng(0)
        self.v_image = ImageGradients(
            random.normal(size=3 * size).astype(np.float32),
            random.normal(size=size).astype(np.float32),
        )
        self.intersections = Intersections(
            aligned_empty(self.num_intersections * INTERSECTION + 16),
            np.zeros(self.num_intersections, np.uint8),
            self.plan.num_features,
        )
        self.gradients = Inputs(*(aligned_empty(a.size) for a in self.inputs))
        self.work = stages._workspace()
        self.sorted = [
            stages.Sortable(*(np.empty(self.num_slots, np.int32) for _ in range(2)))
            for _ in range(2)
        ]

    def project(self) -> Any:
        """Projection, culling and colour."""
        return stages.project_scene(self.scene, self.camera, self.plan)

    def list_tiles(self) -> None:
        """Intersect Gaussians with tiles."""
        self.listed = stages.list_slots(self.slots, self.num_intersections, self.plan)

    def sort(self) -> None:
        """Sort by depth."""
        parted, counts = self.listed.parted, self.listed.slot_counts[:, 0]
        starts = self.listed.part_starts
        in_first = stages.sort_slots(parted, starts, counts, *self.sorted, self.work)
        self.order = self.sorted[0 if in_first else 1].slots

    def fill(self) -> None:
        """Fill the list of each tile."""
        starts, entries = self.drawing.tile_offsets.copy(), self.drawing.entries.view(np.int64)
        stages.fill_tiles(self.slots, self.order, self.listed.intersection_tiles, starts, entries)

    def blend(self) -> None:
        """Blend the image."""
        stages.blend_kernel(3, False)(self.drawing, 0, self.num_tiles, self.buffers, self.work)

    def blend_backward(self) -> None:
        """Gradients of conics and colours."""
        blend_backward = stages.blend_backward_kernel(3)
        drawing, buffers = self.drawing, self.buffers
        blend_backward(
            drawing, 0, self.num_tiles, buffers, self.v_image, self.intersections, self.work
        )

    def project_backward(self) -> None:
        """Gradients of the Gaussians."""
        chunks = len(self.slots.chunk_count)
        stages.project_backward(
            self.scene,
            self.camera,
            self.plan.settings,
            self.slots,
            self.intersections,
            SceneGradients(self.gradients, True, np.zeros(12 * chunks)),
            0,
            chunks,
            self.work,
        )

    def sum_intersections(self) -> None:
        """Sum gradients over the intersections of each Gaussian, as the baseline does too."""
        _sum_intersections(self.slots, self.intersections, self.work)

    def evaluations(self) -> int:
        """How often the forward pass computes an opacity: 16 per Gaussian and block it enters."""
        return int(_count_evaluations(self.drawing, self.buffers.stops, self.work))


def scaling(record: Record, scene: Scene, num_threads: int, rounds: int) -> None:
    """Rows of what threads gain, by the clock and by CPU times, which other load hardly changes.

    For the second, the call for several threads runs on one, part by part, and the smallest time of
    each part is taken. What lies outside of the parts is serial. Threads take the parts in order,
    as in `pool`.
    """
    parts = Stages(scene)
    num, what = len(parts.inputs.opacities), told(scene)
    ours = in_turns(
        {n: functools.partial(_render, scene, n) for n in (1, num_threads)},
        rounds,
        time.perf_counter,
    )
    one = best(lambda: stages.render_view(parts.scene, parts.camera, parts.plan), rounds)
    smallest = _parts_alone(parts, scene, num_threads, rounds)
    paths = {name: _makespan(times, num_threads) for name, times in smallest.items()}
    is_large = num >= 1_000_000
    rows = (
        ("by the clock", 1e3 * ours[num_threads], 1e3 * ours[1]),
        ("longest path by CPU time", sum(paths.values()), one),
    )
    for how, value, alone in rows:
        row = Row(f"{what}: {num_threads} threads, {how}", value, "ms", "one thread", alone)
        wanted = GAIN_BY_TWO if is_large and num_threads == 2 else None
        record.add(replace(row, wanted=wanted, key=f"rasterizer, {row.what}" if is_large else ""))
    for name, path in paths.items() if is_large else ():
        row = Row(f"{what}: {name}, longest path", path, "ms", "its parts in a row")
        record.add(replace(row, peer_value=sum(smallest[name])))


def _render(scene: Scene, num_threads: int) -> None:
    set_num_threads(num_threads)
    with torch.no_grad():
        PLUGIN.render(scene.splats, scene.viewpoints, RenderSettings())
    set_num_threads(1)


def _parts_alone(
    parts: Stages, scene: Scene, num_threads: int, rounds: int
) -> dict[str, list[float]]:
    """Smallest milliseconds of each part of each stage, and of what is in none."""
    plan = _plan(scene.viewpoints, num_threads)
    measured: list[list[list[float]]] = []  # by round and stage

    def run_alone(task: Callable[..., Any], ranges: Any, _num_threads: int) -> None:
        times = []
        for part in ranges:
            start = time.thread_time()
            task(*part)
            times.append(1e3 * (time.thread_time() - start))
        measured[-1].append(times)

    with mock.patch.object(stages, "run", run_alone):
        for _ in range(rounds):
            measured.append([])
            start = time.thread_time()
            stages.render_view(parts.scene, parts.camera, plan)
            whole = 1e3 * (time.thread_time() - start)
            measured[-1].append([whole - sum(map(sum, measured[-1]))])
    names = ("projection", "lists of tiles", "sort and fill", "blending", "serial rest")
    smallest = [np.min(stage, axis=0).tolist() for stage in zip(*measured, strict=True)]
    return dict(zip(names, smallest, strict=True))


def told(scene: Scene) -> str:
    """What a scene is, for tables."""
    num, view = scene.splats.means.shape[-2], scene.viewpoints
    return f"{num:,} Gaussians {KINDS[scene.name]}, {view.width} × {view.height}"


def _makespan(times: list[float], num_threads: int) -> float:
    """When the last of some threads ends, each taking the next part when it is free."""
    ends = [0.0] * num_threads
    for part in times:
        ends[ends.index(min(ends))] += part
    return max(ends)


def _camera(viewpoints: Viewpoints) -> FloatArray:
    pose = viewpoints.world_from_camera.numpy()
    return _cameras(_plan(viewpoints), pose[:, :3, :3].transpose(0, 2, 1), pose[:, :3, 3])[0]


def _plan(viewpoints: Viewpoints, num_threads: int = 1) -> Plan:
    size = ImageSize(viewpoints.width, viewpoints.height)
    settings = RasterSettings(size, Culling(0.01, 1e10, 0.0), Shading(3, 16), eps2d=0.3)
    return Plan(viewpoints.K.numpy(), settings, 3, 0.999, False, num_threads)


@kernel
def _sum_intersections(slots: Slots, intersections: Intersections, work: Workspace) -> float:
    """Add up the intersections of all Gaussians."""
    total = zeros()
    for group in range(len(slots.group_bits)):
        bits = slots.group_bits[group]
        total = total + _gather(slots, slots.group_slot[group], bits, intersections, work.floats)[0]
    return lane(total, 0)


@kernel
def _count_evaluations(drawing: TileLists, stops: IntArray, work: Workspace) -> int:
    """Sixteen per Gaussian and block that the pixel loop visits."""
    batch = batch_in(drawing, work.floats, work.ints)
    total = 0
    for number in range(len(drawing.tile_offsets) - 1):
        tile = tile_at(drawing, number)
        start, end = drawing.tile_offsets[number], drawing.tile_offsets[number + 1]
        for first in range(start, end, BATCH):
            last = min(first + BATCH, end)
            alive = 0
            for pixel in range(TILE * TILE):
                if stops[number * TILE * TILE + pixel] > first - start:
                    alive |= 1 << (pixel >> 4)
            prepare(drawing, tile, first, last, alive, batch, last)
            for j in range(last - first):
                total += 16 * count_bits(batch.block_bits[j])
    return total


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
    times = {name: best(getattr(parts, name), runs) for name in names}
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
    return best(forward, runs), best(both, runs)


def turntable(record: Record, num_threads: int) -> None:
    """Rows of frames per second by the clock of one turn around a ball of 100 000 Gaussians."""
    num, size, num_frames, radius = 100_000, 512, 120, 2.2
    random = np.random.default_rng(0)
    focal = 0.9 * size
    directions = random.normal(size=(num, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sigma = np.exp(random.uniform(np.log(2), np.log(4), (num, 3)))
    splats = Splats(
        means=_tensor(directions * np.cbrt(random.uniform(0, 1, (num, 1)))),
        quats=_tensor(random.normal(size=(num, 4))),
        scales=_tensor(sigma * radius / focal),
        opacities=_tensor(random.uniform(0.1, 1, num)),
        sh_coeffs=_tensor(0.2 * random.normal(size=(num, 16, 3))),
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


def against_torch(record: Record, scene: Scene, result: Result, rounds: int) -> None:
    """Rows from projected Gaussians to the image, and back, beside plain PyTorch."""
    parts = Stages(scene)
    parts.blend()
    parts.blend_backward()
    parts.sum_intersections()  # compiles
    forward = result.list_tiles + result.sort + result.fill + result.blend
    both = forward + result.blend_backward + best(parts.sum_intersections, rounds)
    peer, (forward_torch, both_torch) = (
        "plain PyTorch, by tiles",
        plain_torch(parts, min(3, rounds)),
    )
    what = f"{told(scene)}, without projection"
    for how, ours, theirs in (
        ("forward", forward, forward_torch),
        ("forward and backward", both, both_torch),
    ):
        row = Row(f"{what}: {how}", ours, "ms", peer, theirs)
        record.add(replace(row, key=f"rasterizer, {row.what}"))


def add(record: Record, scene: Scene, result: Result) -> None:
    """Rows of one scene."""
    what = told(scene)
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
