"""Time of one optimization step of a scene on a CPU, by stage, beside one forward render.

    python benchmarks/refinement_step.py             # three sizes, one and two threads
    python benchmarks/refinement_step.py --quick     # the smallest size

A step activates the parameters (exponential of scales, sigmoid of opacities), renders one view,
computes 0.8 · L1 + 0.2 · (1 − SSIM) and its gradient, backpropagates, and updates the parameters
with PyTorch's fused Adam. Steps and forward renders alternate. One-thread times are CPU time,
the minimum of the rounds. Two threads are measured in wall-clock time, which is meaningful on
idle cores only, so the serial fraction of a step is printed too, with the speed-up that Amdahl's
law allows. Scene: Gaussians of log-uniform sizes all over the image, at depths of 1 to 5, harmonics
of degree 1, about 3.6 tiles each.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from records import Record, Row
from torch import Tensor

from zipsplat.photometric import PhotometricLoss
from zipsplat.render import RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import PLUGIN, set_num_threads
from zipsplat.render.cpu import view as stages

SIZES = [(424, 237, 30_000), (480, 360, 40_000), (640, 358, 60_000)]
RATES = {"means": 1e-5, "quats": 1e-4, "log_scales": 1e-4, "logits": 1e-4, "sh": 1e-4}
STAGES = ("project_scene", "bin_slots", "_blend_backward", "project_backward")
STEP_LIMIT = 2.45
GAIN_BY_TWO = 1.6
PARTS = {
    "_blend_backward": "back through blending",
    "project_backward": "back through projection",
    "Adam": "the optimizer",
}
THREADED = (*STAGES, "blend", "loss")
"""Stages that run on several threads, apart from their Python overhead."""


@dataclass
class Problem:
    """A scene, a camera and a true image."""

    parameters: dict[str, Tensor]
    viewpoints: Viewpoints
    truth: Tensor


def problem(width: int, height: int, num: int) -> Problem:
    """Gaussians at depths of 1 to 5, with standard deviations around 2 pixels."""
    random = np.random.default_rng(0)
    focal = 0.8 * width
    depth = random.uniform(1, 5, num)
    x = random.uniform(-0.5, 0.5, num) * width / focal * depth
    y = random.uniform(-0.5, 0.5, num) * height / focal * depth
    pixels = np.exp(random.uniform(np.log(0.8), np.log(5.6), (num, 3)))
    arrays = {
        "means": np.stack((x, y, depth), axis=1),
        "quats": random.normal(size=(num, 4)),
        "log_scales": np.log(pixels * (depth / focal)[:, None]),
        "logits": random.normal(size=num),
        "sh": 0.3 * random.normal(size=(num, 4, 3)),
    }
    parameters = {
        name: torch.from_numpy(values.astype(np.float32)).requires_grad_()
        for name, values in arrays.items()
    }
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    viewpoints = Viewpoints(torch.eye(4)[None], K[None], width, height)
    with torch.no_grad():
        truth = PLUGIN.render(activated(parameters), viewpoints, RenderSettings()).color
    assert truth is not None
    noise = torch.from_numpy(random.normal(size=truth.shape[1:]).astype(np.float32))
    return Problem(parameters, viewpoints, (truth[0] + 0.1 * noise).clamp(0, 1))


def activated(parameters: dict[str, Tensor]) -> Splats:
    """Splats from raw parameters."""
    return Splats(
        means=parameters["means"],
        quats=parameters["quats"],
        scales=parameters["log_scales"].exp(),
        opacities=parameters["logits"].sigmoid(),
        sh_coeffs=parameters["sh"],
    )


class Watch:
    """Seconds of each run of each stage."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function and record its time."""
        start = self.clock()
        result = function(*args)
        self.seconds[name].append(self.clock() - start)
        return result

    def best(self, name: str) -> float:
        """Smallest time in milliseconds."""
        return 1e3 * min(self.seconds[name])


class Stepper:
    """Steps on one problem.

    Args:
        given: the scene, camera and target.
        watch: records the times.
    """

    def __init__(self, given: Problem, watch: Watch) -> None:
        self.problem, self.watch = given, watch
        self.loss = PhotometricLoss(given.truth)
        groups = [{"params": [given.parameters[n]], "lr": rate} for n, rate in RATES.items()]
        self.optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)

    def render(self, splats: Splats) -> Tensor:
        """(1, 3, H, W)."""
        color = PLUGIN.render(splats, self.problem.viewpoints, RenderSettings()).color
        assert color is not None
        return color

    def forward(self) -> Tensor:
        """One render without gradients, the baseline of a step."""
        with torch.no_grad():
            return self.render(activated(self.problem.parameters))

    def step(self) -> None:
        """One step."""
        watch = self.watch
        splats = watch.time("activate", activated, self.problem.parameters)
        color = watch.time("render", self.render, splats)
        _, gradient = watch.time("loss", self.loss, color[0])
        watch.time("backward", color.backward, gradient[None])
        watch.time("Adam", self.optimizer.step)
        self.optimizer.zero_grad()


def watch_stages(watch: Watch) -> None:
    """Also time the renderer's stages."""
    for name in STAGES:
        timed = getattr(stages, name)
        setattr(stages, name, lambda *args, n=name, f=timed: watch.time(n, f, *args))
    blend_kernel = stages.blend_kernel
    stages.blend_kernel = lambda *args: (
        lambda *more: watch.time("blend", blend_kernel(*args), *more)
    )


def measure(record: Record, size: tuple[int, int, int], rounds: int) -> None:
    """Rows of one size on one thread."""
    width, height, num = size
    set_num_threads(1)
    watch = Watch(time.thread_time)
    stepper = Stepper(problem(width, height, num), watch)
    stepper.step()
    originals = {name: getattr(stages, name) for name in (*STAGES, "blend_kernel")}
    plain = Watch(time.thread_time)
    for _ in range(rounds):
        plain.time("step", stepper.step)
        plain.time("forward", stepper.forward)
    watch_stages(watch)
    for _ in range(rounds):
        watch.time("step", stepper.step)
    for name, function in originals.items():
        setattr(stages, name, function)
    what = told(size)
    step, forward = plain.best("step"), plain.best("forward")
    record.add(Row(f"{what}: a step", step, "ms"))
    ratio = step / forward
    record.add(Row(f"{what}: a step, in forward renders", ratio, "renders", limit=STEP_LIMIT))
    loss = watch.best("loss")
    record.add(Row(f"{what}: loss and its gradient", loss, "ms", "a forward render", forward))
    for name, part in PARTS.items():
        record.add(Row(f"{what}: {part}", watch.best(name), "ms"))
    serial = 1 - sum(watch.best(n) for n in THREADED) / watch.best("step")
    print(f"  serial {100 * serial:.0f} %: at most {2 / (1 + serial):.2f}x with two")


def told(size: tuple[int, int, int]) -> str:
    """What a size is, for tables."""
    width, height, num = size
    return f"{width} × {height}, {num:,} Gaussians"


def two_threads(record: Record, size: tuple[int, int, int], rounds: int) -> None:
    """Row of steps on one and two threads by the clock, in turns; PyTorch has one, as in use."""
    stepper = Stepper(problem(*size), Watch(time.perf_counter))
    whole = Watch(time.perf_counter)
    for _ in range(rounds):
        for num_threads in (1, 2):
            set_num_threads(num_threads)
            whole.time(f"{num_threads}", stepper.step)
    set_num_threads(1)
    what = f"{told(size)}: a step on two threads, by the clock"
    row = Row(what, whole.best("2"), "ms", "one thread", whole.best("1"))
    record.add(replace(row, wanted=GAIN_BY_TWO))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest size only")
    parser.add_argument("--rounds", type=int, default=15, help="how often a step is measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record = Record("refinement_step", "An optimization step of a scene")
    for size in SIZES[:1] if options.quick else SIZES:
        measure(record, size, options.rounds)
        two_threads(record, size, options.rounds)
    record.save()


if __name__ == "__main__":
    main()
