"""`python -m splatfactory.training.release RUN -o FILE`: export compact weights of a finished run.

Keeps only what inference needs: tensors in float16, the architecture and the image size, without
paths of the training machine. `ZipSplat(weights="FILE.safetensors")` loads the file.

`--blend OTHER SHARE` averages with the run that this one started from, as `zipsplat-tiny` does; see
`splatfactory.tiny.blending`.
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
from splatfactory.runtime import run_folder
from splatfactory.runtime.checkpoints import CheckpointError, export
from splatfactory.tiny.blending import blend
from zipsplat import weights
from zipsplat.model.checkpoint_layout import network_from_tensors


def released_conf(conf: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of a training configuration that defines the model, without file names.

    Raises:
        ValueError: if the tensors do not belong to a ZipSplat network.
    """
    network_from_tensors(tensors, conf)
    model = {**conf["model"], "weights": None}
    model["backbone"] = {**model["backbone"], "weights": None}
    return {"model": model}


def to_half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert tensors to float16.

    Raises:
        ValueError: if a value would overflow to infinity.
    """
    limit = torch.finfo(torch.float16).max
    for name, values in tensors.items():
        if not bool((values.abs() <= limit).all()):
            raise ValueError(
                f"{name} does not fit float16: it has values beyond ±{limit:g} or not finite"
            )
    return {name: values.to(torch.float16) for name, values in tensors.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.training.release",
        description="Export compact weights of a finished run.",
    )
    parser.add_argument("run", help="name of a training run (its best weights), or a weights file")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="output file (.safetensors)"
    )
    parser.add_argument(
        "--blend",
        nargs=2,
        metavar=("OTHER", "SHARE"),
        help="average with OTHER (a run or weights file), which gets this share, e.g. 0.4",
    )
    options = parser.parse_args(argv)
    if options.output.suffix != ".safetensors":
        parser.error(f"the output must end in .safetensors, got {options.output}")
    try:
        source = _file(options.run)
        found = weights.read(source)
        tensors, conf = found.tensors, released_conf(found.conf, found.tensors)
        if options.blend:
            other, share = options.blend
            tensors = blend(tensors, weights.read(_file(other)).tensors, float(share))
        export(to_half(tensors), conf, options.output)
    except (ConfigError, CheckpointError, KeyError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    size = options.output.stat().st_size / 1e6
    sys.stdout.write(f"{options.output}: {size:.1f} MB, from {source}\n")
    return 0


def _file(run: str) -> Path:
    return Path(run) if Path(run).is_file() else run_folder.weights_of(run)


if __name__ == "__main__":
    sys.exit(main())
