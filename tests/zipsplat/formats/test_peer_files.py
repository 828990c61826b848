"""Files that PlayCanvas's splat-transform made of one scene; see tests/golden/formats/README.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.zipsplat.formats.scenes import (
    CELLS,
    assert_within_tolerance,
    in_lattice_order,
    largest_errors,
)
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


def test_a_sog_file_of_a_peer_shows_the_same_scene():
    got, wanted = (in_lattice_order(load(name), CELLS) for name in ("peer.sog", "scene.ply"))
    errors = largest_errors(got, wanted)
    assert errors.position < 1e-3
    assert errors.log_scale < 0.05
    assert errors.rotation_deg < 1.5
    assert errors.opacity < 1 / 255 + 1e-5
    visible = got.opacities > 0
    assert visible.sum() > 250
    shown, meant = got.select(visible), wanted.select(visible)
    assert largest_errors(shown, meant).dc < 0.02
    # A palette of 256 random rows of 45 numbers for 300: most are met, none is far off.
    wrong = (shown.sh_coeffs - meant.sh_coeffs)[:, 1:]
    assert abs(wrong).max() < 1.5
    assert (abs(wrong).max(axis=(1, 2)) < 0.05).mean() > 0.7
