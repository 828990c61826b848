"""The model that is judged: a released one, a file, or a training run's best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from splatfactory.config import Config, ConfigError, read_yaml
from splatfactory.models import build_model
from splatfactory.models.initialisation import load_strictly
from splatfactory.paths import outputs_root
from splatfactory.runtime import checkpoints, run_folder
from zipsplat import weights
from zipsplat.model.backbones import BACKBONES


@dataclass(frozen=True)
class Judged:
    """Where the model to be judged comes from.

    Attributes:
        tag: Name of the results, unless another is given.
        weights: Name, path or address.
        model: Its model options, or None where the configuration has them.
    """

    tag: str
    weights: str
    model: Mapping[str, Any] | None


def from_checkpoint(name: str, overrides: Sequence[str] = ()) -> Judged:
    """A training run by its name, a run's folder, or a weights file.

    Args:
        name: Of one of these.
        overrides: Of the command line; a file's own backbone has to be named there, too.

    Raises:
        ConfigError: If there is no such thing.
    """
    path = Path(name)
    if path.is_file():
        conf = weights.load(path).conf
        _check_backbone(conf, path, overrides)
        return Judged(path.stem, str(path), conf.get("model"))
    root = outputs_root() / "training"
    experiment = name
    if path.is_dir() and root.resolve() in path.resolve().parents:
        experiment = str(path.resolve().relative_to(root.resolve()))
    folder = run_folder.existing_run(experiment)
    model = read_yaml(folder / run_folder.CONFIG).get("model")
    if not isinstance(model, dict):
        raise ConfigError(f"{folder / run_folder.CONFIG} has no model section")
    # The run's own start is not needed, and may not be on this machine.
    model = {**model, "weights": None}
    tag = experiment.replace("/", "-")
    return Judged(tag, str(run_folder.weights_of(experiment)), model)


def _check_backbone(conf: Mapping[str, Any], path: Path, overrides: Sequence[str]) -> None:
    """A file of weights alone does not decide what code is imported."""
    backbone = (conf.get("model") or {}).get("backbone") or {}
    override = f"model.backbone.name={backbone.get('name')}"
    if override in overrides:
        return
    try:
        BACKBONES.check_trusted(str(backbone.get("name")), str(path))
    except ValueError as error:
        raise ConfigError(f"{error}, or give {override}") from None


def load_model(config: Config, source: str) -> tuple[nn.Module, str]:
    """Build the model on the CPU with its weights, and the digest of their file.

    Raises:
        ValueError: If the weights do not fit the configuration.
        OSError: If they cannot be had.
    """
    checkpoint = weights.load(source)
    with torch.device("meta"):  # no memory and no time for values that are replaced at once
        model = build_model(config.model, with_initial_weights=False)
    load_strictly(model.network, checkpoint.tensors, str(checkpoint.path), assign=True)
    return model.eval(), checkpoints.sha256(checkpoint.path)
