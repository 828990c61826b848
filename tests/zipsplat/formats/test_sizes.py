"""Sizes that are promised, on the scene of benchmarks/formats.py."""

import pytest

from benchmarks.room_scene import room_scene


@pytest.mark.parametrize(("name", "most"), [("spz", 16.0), ("compressed_ply", 26.0)])
def test_bytes_per_gaussian(name: str, most: float):
    scene = room_scene(100_000)
    assert scene.max_sh_degree == 1
    assert len(scene.to_bytes(name)) / scene.num_gaussians <= most
