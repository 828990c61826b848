"""Where the time of a training step goes on a CPU.

    python benchmarks/training.py [--rounds 9] [--conf quickstart]

Generates scenes into a temporary folder, builds a run as `splatfactory.train` does, and takes its
steps with the trainer's own model, objective, optimizer and data loader. Markers in the autograd
graph split the backward pass by part: time after the marker behind the renderer is the renderer's,
after the one behind the network is the network's, and the rest is the losses'. Figures are CPU time
of this process, the median over steps.
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import Record, Row
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from splatfactory import train
from splatfactory.config import Request, load
from splatfactory.datasets.samples import Batch
from splatfactory.datasets.scripts.synthetic import generate
from splatfactory.runtime import distributed
from splatfactory.training.trainer import Trainer
from zipsplat.render import Rendered, Renderer, RenderSettings, Splats, Viewpoints

CONFIGURATIONS = {"quickstart": 8, "zipsplat-tiny": 16}
"""Shipped configurations that train on a CPU, and the number of frames in their scenes."""

PARTS = ("data", "network", "rendering", "losses", "optimizer")


class Clock:
    """CPU time by part; one part runs at a time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._part, self._since = "", time.process_time()

    def switch(self, part: str) -> None:
        """Attribute the time from here on to this part."""
        now = time.process_time()
        self.seconds[self._part] += now - self._since
        self._part, self._since = part, now


class Mark(torch.autograd.Function):
    """Identity; in the backward pass, attributes the time that follows to a part."""

    @staticmethod
    def forward(ctx: Any, clock: Clock, part: str, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: D102
        ctx.clock, ctx.part = clock, part
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:  # noqa: D102
        ctx.clock.switch(ctx.part)
        return (None, None, *gradients)


def marked(item: Any, clock: Clock, part: str) -> Any:
    """Pass the dataclass's tensors that need gradients through a `Mark`."""
    fields = {f.name: getattr(item, f.name) for f in dataclasses.fields(item)}
    names = [n for n, v in fields.items() if isinstance(v, Tensor) and v.requires_grad]
    if not names:
        return item
    passed = Mark.apply(clock, part, *(fields[name] for name in names))  # type: ignore[no-untyped-call]
    return dataclasses.replace(item, **dict(zip(names, passed, strict=True)))


class ClockedRenderer:
    """Wraps a renderer and attributes its forward and backward time to rendering."""

    def __init__(self, renderer: Renderer, clock: Clock) -> None:
        self._renderer, self._clock = renderer, clock
        self.name = renderer.name

    def unavailable(self, device: torch.device) -> str | None:
        """See `Renderer.unavailable`."""
        return self._renderer.unavailable(device)

    def render(self, splats: Splats, viewpoints: Viewpoints, settings: RenderSettings) -> Rendered:
        """See `Renderer.render`."""
        self._clock.switch("rendering")
        rendered = self._renderer.render(
            marked(splats, self._clock, "losses"), viewpoints, settings
        )
        self._clock.switch("losses")
        return marked(rendered, self._clock, "rendering")  # type: ignore[no-any-return]


def step(trainer: Trainer, batches: Iterator[Batch]) -> tuple[dict[str, float], int]:
    """Take one step; returns seconds by part, and the number of views read."""
    clock = Clock()
    objective = trainer.parts.objective
    plain = objective.renderer
    objective.renderer = ClockedRenderer(plain, clock)
    clock.switch("data")
    batch = next(batches).to("cpu")
    clock.switch("network")
    prediction = trainer.parts.model(batch.context)
    prediction = dataclasses.replace(
        prediction, gaussians=marked(prediction.gaussians, clock, "network")
    )
    clock.switch("losses")
    terms, _ = objective(prediction, batch, is_training=True)
    terms["total"].mean().backward()
    clock.switch("optimizer")
    torch.nn.utils.clip_grad_norm_(trainer.parameters, 1.0)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad(set_to_none=True)
    clock.switch("")
    objective.renderer = plain
    views = len(batch) * (batch.context.shape[1] + batch.target.shape[1])
    return {part: clock.seconds[part] for part in PARTS}, views


def endless(trainer: Trainer) -> Iterator[Batch]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from trainer.parts.source


def measure(record: Record, conf: str, num_views: int, num_steps: int, folder: Path) -> None:
    """Rows of a configuration."""
    side = load(Request(conf, ())).data.preprocessing.resize
    options = ["--size", str(side), "--num-scenes", "48", "--split", "train"]
    options += ["--num-views", str(num_views), "--output-dir", str(folder / conf)]
    if generate.main(options):
        raise SystemExit("generating scenes failed")
    shards = next((folder / conf).rglob("train-scenes")).parent
    threads = torch.get_num_threads()
    overrides = (f"data.dataset_dir={shards}", "data.val_scenes=0", "train.writer=null")
    config = load(Request(conf, (*overrides, f"train.num_threads={threads}")))
    with distributed.join(1, "cpu") as world:
        trainer = train.build(config, world, folder, is_restored=False)
    trainer.parts.model.train()
    batches = endless(trainer)
    steps = list(islice((step(trainer, batches) for _ in iter(int, 1)), num_steps + 3))[3:]
    parts = {part: float(np.median([seconds[part] for seconds, _ in steps])) for part in PARTS}
    total = sum(parts.values())
    views = float(np.mean([count for _, count in steps]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = sum(p.numel() for p in trainer.parameters) / 1e6
    what = f"`{conf}`, {size:.2f} M parameters, {side} px"
    record.add(Row(f"{what}: a step", total, "s"))
    for part in PARTS:
        record.add(Row(f"{what}: share of the {part}", 100 * parts[part] / total, "%"))
    record.add(Row(f"{what}: views", views / total, "views/CPU s"))
    record.add(Row(f"{what}: peak memory of the process", memory, "GB"))


def attention_ms(attend: Callable[..., Tensor], num_tokens: int) -> float:
    """CPU milliseconds of self-attention, forward and backward, with two heads of 32 channels."""
    q, k, v = torch.randn(3, 8, 2, num_tokens, 32).requires_grad_().unbind()
    times = []
    for _ in range(8):
        begin = time.process_time()
        attend(q, k, v).sum().backward(retain_graph=True)
        times.append(time.process_time() - begin)
    return min(times) * 1000


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Textbook attention, with the whole matrix in memory."""
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, dim=-1) @ v


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="steps; three more warm up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--conf", nargs="+", choices=tuple(CONFIGURATIONS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record = Record("training", "A training step", options.threads)
    with tempfile.TemporaryDirectory() as folder:
        for conf in options.conf or CONFIGURATIONS:
            measure(record, conf, CONFIGURATIONS[conf], options.rounds, Path(folder))
    for num_tokens in (130, 650, 1300):
        ours = attention_ms(scaled_dot_product_attention, num_tokens)
        plain = attention_ms(plain_attention, num_tokens)
        what = f"attention of {num_tokens} tokens, forward and backward"
        record.add(Row(what, ours, "ms", "the textbook's formula", plain))
    record.save()


if __name__ == "__main__":
    main()
