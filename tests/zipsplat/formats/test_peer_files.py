"""Files that PlayCanvas's splat-transform made of one scene; see tests/golden/formats/README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zipsplat.formats.scenes import assert_within_tolerance
from zipsplat.formats import FORMATS, SplatArrays, by_suffix

FOLDER = Path(__file__).parents[2] / "golden" / "formats"


def load(name: str) -> SplatArrays:
    with open(FOLDER / name, "rb") as file:
        return by_suffix(name).read(file)


@pytest.mark.parametrize("name", ["peer.compressed.ply", "peer_v3.spz", "peer_v4.spz", "peer.glb"])
def test_files_of_a_peer_show_the_same_scene(name: str):
    if name == "peer_v4.spz":
        pytest.importorskip("zstandard")
    tolerance = FORMATS[by_suffix(name).name].tolerance
    assert_within_tolerance(tolerance, load(name), load("scene.ply"))
