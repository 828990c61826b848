"""Readers and writers in Python: plyfile and gsply read ours, we read theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.zipsplat.formats.scenes import assert_within_tolerance, scene
from zipsplat.formats import FORMATS, SplatArrays
from zipsplat.formats.ply import property_names, sigmoid
from zipsplat.scene_files import read_scene


def save(path: Path, name: str, arrays: SplatArrays) -> Path:
    with open(path, "wb") as file:
        FORMATS[name].write(file, arrays)
    return path


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_plyfile_reads_our_ply(tmp_path: Path, degree: int):
    plyfile = pytest.importorskip("plyfile")
    wanted = scene(50, degree)
    vertices = plyfile.PlyData.read(save(tmp_path / "a.ply", "ply", wanted))["vertex"]
    assert [p.name for p in vertices.properties] == property_names((degree + 1) ** 2)
    np.testing.assert_array_equal(vertices["x"], wanted.means[:, 0])
    np.testing.assert_array_equal(vertices["f_dc_2"], wanted.sh_coeffs[:, 0, 2])
    np.testing.assert_allclose(sigmoid(vertices["opacity"]), wanted.opacities, atol=2e-6)


def test_we_read_the_ply_of_plyfile_with_other_types_and_elements(tmp_path: Path):
    plyfile: Any = pytest.importorskip("plyfile")
    wanted = scene(50, 1)
    own = plyfile.PlyData.read(save(tmp_path / "a.ply", "ply", wanted))["vertex"].data
    wide = own.astype([(name, "<f8") for name in own.dtype.names])
    faces = np.array([([0, 1, 2],)], dtype=[("vertex_indices", "O")])
    elements = [
        plyfile.PlyElement.describe(wide, "vertex"),
        plyfile.PlyElement.describe(faces, "face"),
    ]
    plyfile.PlyData(elements, byte_order="<").write(tmp_path / "b.ply")
    got = read_scene(tmp_path / "b.ply").arrays
    assert_within_tolerance(FORMATS["ply"].tolerance, got, wanted)


def arrays_of(data: Any) -> SplatArrays:
    """Gsply's logits and logarithms as ours."""
    num = len(data.means)
    rest = np.zeros((num, 0, 3), np.float32) if data.shN is None else data.shN
    return SplatArrays(
        np.asarray(data.means, np.float32),
        np.exp(np.asarray(data.scales, np.float32)),
        np.asarray(data.quats, np.float32),
        sigmoid(np.asarray(data.opacities, np.float32).reshape(num)),
        np.concatenate((np.asarray(data.sh0).reshape(num, 1, 3), rest), axis=1, dtype=np.float32),
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["ply", "compressed_ply"])
def test_gsply_reads_ours_and_we_read_its_own(tmp_path: Path, name: str, degree: int):
    gsply = pytest.importorskip("gsply")
    wanted = scene(300, degree)
    suffix = FORMATS[name].suffixes[0]
    data = gsply.plyread(str(save(tmp_path / f"ours{suffix}", name, wanted)))
    assert_within_tolerance(FORMATS[name].tolerance, arrays_of(data), wanted)
    gsply.plywrite(str(tmp_path / f"theirs{suffix}"), data, compressed=name != "ply")
    theirs = read_scene(tmp_path / f"theirs{suffix}")
    assert theirs.format is FORMATS[name]
    assert_within_tolerance(FORMATS[name].tolerance, theirs.arrays, arrays_of(data))


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_gsply_reads_our_sog(tmp_path: Path, degree: int):
    pytest.importorskip("imagecodecs", reason="gsply reads .sog with imagecodecs")
    reader = pytest.importorskip("gsply.sog_reader")
    wanted = scene(300, degree)
    data = reader.sogread(str(save(tmp_path / "ours.sog", "sog", wanted)))
    assert_within_tolerance(FORMATS["sog"].tolerance, arrays_of(data), wanted)
