"""Loading a checkpoint of the released size: memory of about one copy of the weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.network import ZipSplatNetwork

LOAD_AND_RUN = """
import sys, torch
from zipsplat import ZipSplat
from zipsplat.model import checkpoint_layout, network
import PIL.Image, safetensors.torch, zipfile
def peak():
    with open("/proc/self/status") as file:  # getrusage would count the parent's peak as well
        return int(file.read().split("VmHWM:")[1].split()[0]) * 1024
before = peak()
model = ZipSplat(sys.argv[1], device="cpu", dtype="float32", image_size=28)
loaded = peak()
model([torch.rand(3, 28, 28)])
print(sum(p.numel() for p in model.parameters()), loaded - before, peak() - before)
"""


def write_giant(path: Path) -> None:
    """A full checkpoint of the released size, from a sparse file: little memory is needed."""
    config = ZipSplatConfig.variant("vitg")
    with torch.device("meta"):
        shapes = {n: v.shape for n, v in ZipSplatNetwork(config).state_dict().items()}
    sizes = {name: 4 * shape.numel() for name, shape in shapes.items()}
    zeros = path.with_suffix(".zeros")
    mapped = torch.UntypedStorage.from_file(str(zeros), shared=True, nbytes=sum(sizes.values()))
    state, begin = {}, 0
    for name, shape in shapes.items():
        part = mapped[begin : begin + sizes[name]]
        state[name] = torch.empty(0).set_(part, 0, shape)
        begin += sizes[name]
    torch.save({"model": state, "conf": config.to_conf(), "epoch": 1, "eval": None}, path)
    zeros.unlink()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_peak_memory_of_the_released_size(tmp_path: Path) -> None:
    path = tmp_path / "giant.tar"
    write_giant(path)
    try:
        size = path.stat().st_size
        command = [sys.executable, "-c", LOAD_AND_RUN, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        parameters, loading, running = (int(word) for word in done.stdout.split())
        assert parameters == 1447701472
        assert size > 4 * parameters
        assert loading <= 0.1 * size  # nothing is read before it is used
        assert running <= 1.2 * size
    finally:
        path.unlink()
