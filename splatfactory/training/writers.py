"""Where numbers and pictures of a run go: JSON lines always, TensorBoard or W&B on request."""

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
    """Takes numbers and pictures of one step."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers."""

    def image(self, step: int, name: str, picture: Tensor) -> None:
        """Write a picture (3, H, W) in [0, 1]."""

    def close(self) -> None:
        """Finish writing."""


class JsonLines:
    """One JSON object per line in `metrics.jsonl`; pictures as PNG files.

    Values that are not finite become null, as JSON knows no other. After a resume, lines of steps
    that are repeated follow the earlier ones; the later line counts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = (folder / JSONL).open("a", encoding="utf-8")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append a line."""
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        self.file.write(json.dumps({"step": step, **finite}) + "\n")
        self.file.flush()

    def image(self, step: int, name: str, picture: Tensor) -> None:
        """Write `figures/<name>/<step>.png`."""
        from PIL import Image

        path = self.folder / "figures" / name / f"{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (picture.detach().float().cpu().clamp(0, 1) * 255).round().byte()
        Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(path)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoard:
    """Event files for TensorBoard.

    Args:
        folder: Of the run.
        step: Where the run continues; later steps of earlier files are hidden, since they come
            again.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)

    def image(self, step: int, name: str, picture: Tensor) -> None:
        """Add a picture."""
        self.writer.add_image(name, picture.detach().float().cpu().clamp(0, 1), step)

    def close(self) -> None:
        """Write what is pending."""
        self.writer.close()


class WeightsAndBiases:
    """A run on wandb.ai, or offline as its own environment variables say."""

    def __init__(self, folder: Path, project: str, name: str, conf: Mapping[str, Any]) -> None:
        import wandb

        self.wandb: Any = wandb
        # The run's name is its identity, so that a resumed run continues its curves.
        self.run: Any = wandb.init(
            project=project, id=name.replace("/", "-"), name=name, dir=str(folder),
            config=dict(conf), resume="allow",
        )  # fmt: skip

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self.run.log(dict(values), step=step)

    def image(self, step: int, name: str, picture: Tensor) -> None:
        """Log a picture."""
        pixels = picture.detach().float().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
        self.run.log({name: self.wandb.Image(pixels)}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


def check_writers(names: str | None) -> list[str]:
    """The writers besides JSON lines that `train.writer` names.

    Raises:
        ValueError: For an unknown writer, or one whose package is missing.
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
    """JSON lines and the writers whose names occur in `names`.

    Args:
        names: As `train.writer` has them.
        folder: Of the run.
        project: On wandb.ai.
        name: Of the run.
        conf: Its configuration.
        step: Where it continues; 0 for a new run.

    Raises:
        ValueError: For an unknown writer, or one whose package is missing.
    """
    wanted = check_writers(names)
    writers: list[Writer] = []
    if "tensorboard" in wanted:
        writers.append(TensorBoard(folder, step))
    if "wandb" in wanted:
        writers.append(WeightsAndBiases(folder, project, name, conf))
    return [JsonLines(folder), *writers]
