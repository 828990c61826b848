"""`python -m splatfactory.models.encoders.dav3_encoder --size giant`: prepare DA3 weights.

Reads the published Depth-Anything-3 file, keeps the transformer and the camera encoder, and writes
them under the names the network uses. Training also reads the published file directly, so this
step only saves space and time. Key names: Hugging Face `depth-anything/DA3-*`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from splatfactory.paths import resolve, weights_root
from zipsplat.files import atomic_path
from zipsplat.terminal import EXPECTED_ERRORS, error_line
from zipsplat.torch_files import read_torch_file

SIZES = ("small", "base", "large", "giant")
SUFFIXES = (".safetensors", ".safetensor")
"""The second spelling comes from the project's first instructions."""
PREFIXES = {
    "model.backbone.pretrained.": "backbone.",
    "model.cam_enc.": "cam_enc.",
    "backbone.pretrained.": "backbone.",
    "backbone.backbone.": "backbone.",
    "backbone.cam_enc.": "cam_enc.",
    "backbone.": "backbone.",
    "cam_enc.": "cam_enc.",
}
"""Key prefixes of published and of converted files; the first match is used."""


def read_backbone(path: Path) -> dict[str, Tensor]:
    """Read the weights of the transformer and the camera encoder, under the network's names.

    Args:
        path: `.pth`, `.safetensors` or `.safetensor`; a missing `.pth` is looked up
            under the other suffixes.

    Raises:
        ValueError: if the file does not exist or holds no such weights.
    """
    found = _find(resolve(path))
    state = convert(_read(found))
    if not state:
        raise ValueError(f"{found} holds no Depth-Anything-3 backbone")
    return state


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors in use and drop the others (depth, camera, Gaussian heads)."""
    renamed = {}
    for name, tensor in state.items():
        for prefix, ours in PREFIXES.items():
            if name.startswith(prefix):
                renamed[ours + name[len(prefix) :]] = tensor
                break
    return renamed


def main(argv: Sequence[str] | None = None) -> int:
    """Convert one size; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m splatfactory.models.encoders.dav3_encoder")
    parser.description = "Prepare Depth-Anything-3 weights to start training from."
    parser.add_argument("--size", choices=SIZES, required=True, help="published model")
    parser.add_argument("--input", type=Path, help="published file; default: weights/da3-<size>.*")
    parser.add_argument("--output", type=Path, help="output file; default: weights/da3-<size>.pth")
    options = parser.parse_args(argv)
    source = options.input or weights_root() / f"da3-{options.size}.safetensors"
    target = options.output or weights_root() / f"da3-{options.size}.pth"
    try:
        state = read_backbone(source)
        with atomic_path(target) as temporary:
            torch.save(state, temporary)
    except EXPECTED_ERRORS as error:
        sys.stderr.write(f"error: {error_line(error)}\n")
        return 1
    sys.stdout.write(f"{len(state)} tensors written to {target}\n")
    return 0


def _find(path: Path) -> Path:
    candidates = [path, *(path.with_suffix(suffix) for suffix in SUFFIXES)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    size = next((size for size in SIZES if size in path.stem), "giant")
    raise ValueError(
        f"backbone weights {path} are missing; fetch them with `hf download "
        f"depth-anything/DA3-{size.upper()} model.safetensors --local-dir weights`, rename the "
        f"file to {path.stem}.safetensors, or set model.backbone.weights=null for random weights"
    )


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix in SUFFIXES:
        from safetensors.torch import load_file

        return dict(load_file(path))
    state = read_torch_file(path)
    if not isinstance(state, dict) or not isinstance(state.get("model", state), dict):
        raise ValueError(f"{path} does not hold a state dict")
    return dict(state.get("model", state))


if __name__ == "__main__":
    sys.exit(main())
