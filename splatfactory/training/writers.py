"""Writers of a run's numbers and images: JSON lines always, TensorBoard or W&B on request."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

JSONL = "metrics.jsonl"


class Writer(Protocol):
    """Writes numbers and images of a step."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers."""

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Write an image (3, H, W) in [0, 1]."""

    def close(self) -> None:
        """Finish writing."""


class JsonLines:
    """One JSON object per line in `metrics.jsonl`; images as PNG files.

    Non-finite values become null, as JSON has no NaN. After a resume, lines of repeated steps
    follow the earlier ones; the later line wins.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = (folder / JSONL).open("a", encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line."""
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self.file.write(json.dumps({"step": step, **finite}) + "\n")
        self.file.flush()

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Write `figures/<name>/<step>.png`."""
        from PIL import Image

        path = self.folder / "figures" / name / f"{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (pixels.detach().float().cpu().clamp(0, 1) * 255).round().byte()
        Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(path)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard:
    """Event files for TensorBoard.

    Args:
        folder: folder of the run.
        step: step at which the run resumes; later steps in earlier files are hidden, since they are
            repeated.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Add an image."""
        self.writer.add_image(name, pixels.detach().float().cpu().clamp(0, 1), step)

    def close(self) -> None:
        """Write what is pending."""
        self.writer.close()


class WeightsAndBiases:
    """A run on wandb.ai, or offline, as wandb's environment variables say."""

    def __init__(self, folder: Path, project: str, name: str, conf: Mapping[str, Any]) -> None:
        import wandb

        self.wandb: Any = wandb
        # The run's name serves as its id, so a resumed run continues its curves.
        self.run: Any = wandb.init(
            project=project, id=name.replace("/", "-"), name=name, dir=str(folder),
            config=dict(conf), resume="allow",
        )  # fmt: skip

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self.run.log(dict(values), step=step)

    def image(self, step: int, name: str, pixels: Tensor) -> None:
        """Log an image."""
        array = pixels.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
        self.run.log({name: self.wandb.Image(array)}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


def check_writers(names: str | None) -> list[str]:
    """Validate `train.writer`; returns the writers it names besides JSON lines.

    Raises:
        ValueError: if a writer is unknown or its package is missing.
    """
    wanted = [part for part in re.split(r"[+,;\s]+", names or "") if part]
    for name in wanted:
        if name not in ("tensorboard", "wandb"):
            raise ValueError(f"train.writer must be tensorboard, wandb or both, got {name!r}")
        if importlib.util.find_spec(name) is None:
            raise ValueError(
                f'train.writer={name} needs the package {name}; pip install "splatfactory[{name}]"'
            )
    return wanted


def build_writers(
    names: str | None, folder: Path, project: str, name: str, conf: Mapping[str, Any], step: int
) -> list[Writer]:
    """Build the JSON-lines writer and those listed in `names`.

    Args:
        names: value of `train.writer`.
        folder: folder of the run.
        project: project on wandb.ai.
        name: name of the run.
        conf: configuration of the run.
        step: step at which it resumes; 0 for a new run.

    Raises:
        ValueError: if a writer is unknown or its package is missing.
    """
    wanted = check_writers(names)
    writers: list[Writer] = []
    if "tensorboard" in wanted:
        writers.append(TensorBoard(folder, step))
    if "wandb" in wanted:
        writers.append(WeightsAndBiases(folder, project, name, conf))
    return [JsonLines(folder), *writers]
