"""`python -m splatfactory.training.release RUN -o FILE`: small weights of a finished run.

Keeps what inference needs and nothing else: tensors in float16, the architecture, the picture size,
no paths of the machine that trained. `ZipSplat(weights="FILE.safetensors")` loads the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splatfactory.config import ConfigError
from splatfactory.training import run_folder
from splatfactory.training.checkpoints import CheckpointError, export
from zipsplat import weights
from zipsplat.model.checkpoint_layout import network_from_tensors


def released_conf(conf: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of a training's configuration that says what the model is, without file names.

    Raises:
        ValueError: if the tensors are not those of a ZipSplat network.
    """
    network_from_tensors(tensors, conf)
    model = {**conf["model"], "weights": None}
    model["backbone"] = {**model["backbone"], "weights": None}
    return {"model": model}


def to_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in float16.

    Raises:
        ValueError: if a value does not fit, which would turn it into infinity.
    """
    limit = torch.finfo(torch.float16).max
    for name, values in tensors.items():
        if not bool((values.abs() <= limit).all()):
            raise ValueError(f"{name} has values beyond ±{limit:g} or not finite; no float16")
    return {name: values.to(torch.float16) for name, values in tensors.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="splatfactory.training.release", description="Small weights of a finished run."
    )
    parser.add_argument("run", help="name of a training run, or a weights file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="ends in .safetensors")
    options = parser.parse_args(argv)
    if options.output.suffix != ".safetensors":
        parser.error(f"the output must end in .safetensors, got {options.output}")
    try:
        is_file = Path(options.run).is_file()
        source = Path(options.run) if is_file else run_folder.weights_of(options.run)
        found = weights.read(source)
        conf = released_conf(found.conf, found.tensors)
        export(to_half(found.tensors), conf, options.output)
    except (ConfigError, CheckpointError, KeyError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    size = options.output.stat().st_size / 1e6
    sys.stdout.write(f"{options.output}: {size:.1f} MB, from {source}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
