"""Memory of reading a photo of 200 million pixels for a network (Linux)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

READ = """
import sys
from zipsplat.images import load_image
from zipsplat.inputs import load_views
status = lambda: open("/proc/self/status").read()
peak = lambda: int(status().split("VmHWM:")[1].split()[0]) * 1024
load_image(sys.argv[2])
before = peak()
(view,) = load_views(sys.argv[1], max_side=4 * 504, min_side=2 * 504)
print(*view.shape, peak() - before, float(view[0, 0].mean()), float(view[0, -1].mean()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_two_hundred_megapixels_are_read_in_half_a_gibibyte(tmp_path: Path) -> None:
    """As `reconstruct` reads it for a network that sees 504 pixels."""
    small = tmp_path / "small.jpg"
    Image.new("RGB", (64, 48)).save(small)
    down = Image.linear_gradient("L").resize((16320, 12240))  # black to white
    path = tmp_path / "large.jpg"
    Image.merge("RGB", (down, down, down)).save(path, quality=80)
    del down
    command = [sys.executable, "-c", READ, str(path), str(small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    channels, height, width, peak, top, bottom = (float(word) for word in done.stdout.split())
    assert (channels, height, width) == (3, 1512, 2016)
    assert top < 0.02
    assert bottom > 0.98
    assert peak <= 512 << 20
