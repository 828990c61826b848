"""Memory of loading the largest depth network and running it once (Linux)."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.zipsplat.model.depth_cases import released_shapes

LOAD_AND_RUN = """
import sys, torch
import zipsplat.depth.predictor, safetensors
from zipsplat import DepthAnything
status = lambda: open("/proc/self/status").read()
peak = lambda: int(status().split("VmHWM:")[1].split()[0]) * 1024
before = peak()
model = DepthAnything(sys.argv[1], device="cpu", dtype="float32", image_size=28)
loaded = peak() - before
model([torch.rand(3, 28, 28)])
print(sum(p.numel() for p in model.parameters()), loaded, peak() - before)
"""


def write_zeros(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A `.safetensors` file of zeros that takes no space on disk."""
    header, begin = {}, 0
    for name, shape in shapes.items():
        count = 1
        for side in shape:
            count *= side
        header[name] = {
            "dtype": "F32", "shape": list(shape), "data_offsets": [begin, begin + 4 * count],
        }  # fmt: skip
        begin += 4 * count
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + begin)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_peak_memory_of_the_giant(tmp_path: Path) -> None:
    path = tmp_path / "giant.safetensors"
    write_zeros(path, released_shapes("da3-giant"))
    size = path.stat().st_size
    command = [sys.executable, "-c", LOAD_AND_RUN, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    parameters, loading, running = (int(word) for word in done.stdout.split())
    assert 4 * parameters < size < 4.01 * parameters
    assert loading <= 0.1 * size  # nothing is read before it is used
    assert running <= 1.2 * size
    print(f"{size / 1e9:.2f} GB file: {loading / size:.2f} x loaded, {running / size:.2f} x run")
