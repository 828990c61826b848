"""`python -m splatfactory.training.run_page RUN`: write a page that shows the progress of a run.

`report.html` is self-contained: curves of losses, scores, rates and memory, the latest
validation images, configuration, machine and log. A run writes it when it ends or stops; the
command writes it at any time.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from splatfactory.config import ConfigError, read_yaml
from splatfactory.runtime import checkpoints, run_folder
from splatfactory.training.meters import duration
from splatfactory.training.writers import JSONL
from splatfactory.visualization import pages
from splatfactory.visualization.curves import chart, short
from zipsplat.files import write_text

PAGE = "report.html"
LOG_LINES, LOG_BYTES = 60, 1 << 16
MAX_IMAGES = 4
Series = dict[str, list[tuple[float, float]]]

TRAINING, EVAL = "training/", "eval/"
GROUPS = {
    "Losses": ("loss/",),
    "Image quality": ("psnr", "ssim", "lpips"),
    "Optimization": ("lr", "l2/", "schedule/", "nonfinite", "query_ratio", "scene_tokens", "epoch"),
    "Speed and memory": ("rate/", "time/", "memory/"),
}
OTHERS = "Gaussians and other numbers"
FIRST = ("loss/total", "psnr", "lr", "rate/views_per_s")
"""Charts shown first in their group."""
IMAGES = {"context_and_target": "context and target views, renders, errors", "depth": "depth"}


@dataclass(frozen=True)
class Run:
    """The output of a run so far.

    Attributes:
        folder: folder of the run.
        series: values by name and step, in ascending order of steps.
        config: the configuration, as nested dictionaries.
        environment: machine and package versions.
    """

    folder: Path
    series: Series
    config: Mapping[str, Any]
    environment: Mapping[str, Any]

    def last(self, name: str) -> float | None:
        """The latest value of a curve."""
        return self.series[name][-1][1] if self.series.get(name) else None

    @property
    def step(self) -> int:
        """Number of updates in the log."""
        return int(max((points[-1][0] for points in self.series.values()), default=0))


def read(folder: Path) -> Run:
    """Read a run's folder; the run may still be running.

    Raises:
        ConfigError: if the folder has no configuration.
    """
    path = folder / run_folder.ENVIRONMENT
    environment = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    config = read_yaml(folder / run_folder.CONFIG)
    return Run(folder, _series(folder / JSONL), config, environment)


def write(folder: Path, output: Path | None = None) -> Path:
    """Write the page of a run atomically; returns its path.

    Raises:
        ConfigError: if the folder does not hold a run.
        OSError: if it cannot be written.
    """
    path = output or folder / PAGE
    write_text(path, render(read(folder)))
    return path


def render(run: Run) -> str:
    """The page as HTML."""
    updated = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    curves = _curves(run)
    body = [pages.tiles(_tiles(run)), *curves[:2], *_images(run.folder), *curves[2:]]
    settings = (run.folder / run_folder.CONFIG).read_text(encoding="utf-8")
    details = [pages.folded("Configuration", pages.preformatted(settings))]
    if run.environment:
        rows = [["", ""], *([key, _text(value)] for key, value in run.environment.items())]
        details.append(pages.folded("Machine and versions", pages.table(rows)))
    log = run.folder / run_folder.LOG
    if log.is_file():
        details.append(pages.folded(f"Log, last {LOG_LINES} lines", pages.preformatted(_tail(log))))
    body.append(pages.section("Details", *details))
    return pages.page(f"Run {run.folder.name}", body, f"{run.folder}, as of {updated}")


def _series(path: Path) -> Series:
    """Curves of `metrics.jsonl`; if a resumed run repeats steps, later lines win."""
    series: Series = {}
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # a line that is still being written
        step = float(values.pop("step"))
        for name, value in values.items():
            points = series.setdefault(name, [])
            while points and points[-1][0] >= step:
                points.pop()
            points.append((step, math.nan if value is None else float(value)))
    return series


def _tiles(run: Run) -> list[tuple[str, str]]:
    options = run.config["train"]
    total, step = options.get("num_steps"), run.step
    rate = run.last(f"{TRAINING}rate/steps_per_s")
    is_done = (run.folder / checkpoints.LAST).is_file()
    progress = f"{step} of {total}" if total else str(step)
    tiles = [("steps" + (", finished" if is_done else ""), progress)]
    if total and rate and not is_done:
        tiles.append(("remaining at the current rate", duration((total - step) / rate)))
    key = options.get("best_key", "loss/total")
    tiles += _best(run, key)
    for name, text in (
        (f"{TRAINING}loss/total", "training loss"),
        (f"{EVAL}psnr", "validation PSNR, dB"),
        (f"{TRAINING}rate/views_per_s", "views per second"),
        (f"{TRAINING}memory/peak_gib", "peak memory, GiB"),
        (f"{TRAINING}nonfinite_steps", "non-finite gradients"),
    ):
        value = run.last(name)
        if value is not None:
            tiles.append((text, short(value)))
    return tiles


def _best(run: Run, key: str) -> list[tuple[str, str]]:
    record = run.folder / checkpoints.RECORD
    entries = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
    if not entries:
        return []
    return [(f"best {key}, at step {int(entries[0]['step'])}", short(float(entries[0]["value"])))]


def _curves(run: Run) -> list[str]:
    """Charts by group, losses and image quality first.

    Training and validation curves of a number share a chart.
    """
    charts: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    benchmarks: dict[str, dict[str, Sequence[tuple[float, float]]]] = {}
    for name, points in run.series.items():
        if not any(value for _, value in points):
            continue  # a loss with weight 0
        for prefix, label in ((TRAINING, "training"), (EVAL, "validation")):
            if name.startswith(prefix):
                charts.setdefault(name.removeprefix(prefix), {})[label] = points
                break
        else:
            benchmarks[name] = {"": points}
    grouped: dict[str, list[str]] = {title: [] for title in (*GROUPS, OTHERS)}
    for name in sorted(charts, key=lambda name: (name not in FIRST, name)):
        grouped[_group(name)].append(chart(name, charts[name]))
    sections = [_section(title, parts, title == OTHERS) for title, parts in grouped.items()]
    sections.append(
        _section(
            "Benchmarks", [chart(name, benchmarks[name]) for name in sorted(benchmarks)], False
        )
    )
    return sections


def _section(title: str, charts: Sequence[str], is_folded: bool) -> str:
    if not any(charts):
        return ""
    content = f'<div class="charts">{"".join(charts)}</div>'
    return pages.folded(title, content) if is_folded else pages.section(title, content)


def _group(name: str) -> str:
    return next((title for title, starts in GROUPS.items() if name.startswith(starts)), OTHERS)


def _images(folder: Path) -> list[str]:
    """The latest figures: of validation if there are any, else of training."""
    from PIL import Image

    for kind, title in (("eval/*", "Latest validation images"), ("training", "Latest images")):
        figures = []
        for name, text in IMAGES.items():
            places = sorted(folder.glob(f"figures/{kind}/{name}"))[:MAX_IMAGES]
            for place in places[: MAX_IMAGES if name == "context_and_target" else 1]:
                newest = max(place.glob("[0-9]*.png"), default=None)
                if newest is not None:
                    with Image.open(newest) as image:
                        pixels = np.asarray(image.convert("RGB"))
                    caption = f"{text}, step {int(newest.stem)}"
                    figures.append(pages.figure(pages.embedded(pixels), caption))
        if figures:
            return [pages.section(title, pages.gallery(figures))]
    return []


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-LOG_LINES:])


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(str(part) for part in value) or "none"
    return "unknown" if value is None else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.training.run_page",
        description="Write a page that shows the progress of a run.",
    )
    parser.add_argument("run", help="name of a training run")
    parser.add_argument("-o", "--output", type=Path, help=f"default: {PAGE} in the run's folder")
    options = parser.parse_args(argv)
    try:
        path = write(run_folder.existing_run(options.run), options.output)
    except (ConfigError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
