"""The model to evaluate: a released one, a file, or the best of a training run."""

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
from splatfactory.runtime import run_folder
from zipsplat import weights
from zipsplat.digests import sha256_of
from zipsplat.model.backbones import BACKBONES


@dataclass(frozen=True)
class ModelSource:
    """Where the model to evaluate comes from.

    Attributes:
        tag: default name of the results.
        weights: name, path or URL.
        model: its model options, or None if the configuration has them.
    """

    tag: str
    weights: str
    model: Mapping[str, Any] | None


def from_checkpoint(name: str, overrides: Sequence[str] = ()) -> ModelSource:
    """Find a training run by name or folder, or a weights file.

    Args:
        name: name of the run, its folder, or the file.
        overrides: command-line overrides; a file's custom backbone must be named there too.

    Raises:
        ConfigError: if nothing is found under this name.
    """
    path = Path(name)
    if path.is_file():
        conf = weights.load(path).conf
        _check_backbone(conf, path, overrides)
        return ModelSource(path.stem, str(path), conf.get("model"))
    root = outputs_root() / "training"
    experiment = name
    if path.is_dir() and root.resolve() in path.resolve().parents:
        experiment = str(path.resolve().relative_to(root.resolve()))
    folder = run_folder.existing_run(experiment)
    model = read_yaml(folder / run_folder.CONFIG).get("model")
    if not isinstance(model, dict):
        raise ConfigError(f"{folder / run_folder.CONFIG} has no model section")
    # The weights the run started from are not needed, and may not exist on this machine.
    model = {**model, "weights": None}
    tag = experiment.replace("/", "-")
    return ModelSource(tag, str(run_folder.weights_of(experiment)), model)


def _check_backbone(conf: Mapping[str, Any], path: Path, overrides: Sequence[str]) -> None:
    """Never let a weights file alone decide what code is imported."""
    backbone = (conf.get("model") or {}).get("backbone") or {}
    override = f"model.backbone.name={backbone.get('name')}"
    if override in overrides:
        return
    try:
        BACKBONES.check_trusted(str(backbone.get("name")), str(path))
    except ValueError as error:
        raise ConfigError(f"{error}, or give {override}") from None


def load_model(config: Config, source: str) -> tuple[nn.Module, str]:
    """Build the model on the CPU with its weights; also returns the digest of their file.

    Raises:
        ValueError: if the weights do not fit the configuration.
        OSError: if they cannot be read or downloaded.
    """
    checkpoint = weights.load(source)
    with torch.device("meta"):  # skip initialising values that are replaced anyway
        model = build_model(config.model, with_initial_weights=False)
    load_strictly(model.network, checkpoint.tensors, str(checkpoint.path), assign=True)
    return model.eval(), sha256_of(checkpoint.path)
