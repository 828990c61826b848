"""Scene files after bug reports; see tests/files_of_people/README.md."""

from __future__ import annotations

import io
import json
import logging
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.zipsplat.formats.scenes import as_arrays, largest_errors, scene
from zipsplat import Gaussians, Pose
from zipsplat.formats import FORMATS, SplatArrays, by_suffix
from zipsplat.formats._affine import moved
from zipsplat.formats._axes import with_flipped
from zipsplat.formats._linear_colors import to_srgb
from zipsplat.harmonics import evaluate, spread_directions
from zipsplat.rotations import matrix_from_quat
from zipsplat.scene_files import read_scene

FOLDER = Path(__file__).parents[2] / "files_of_people"


def arrays_of(name: str) -> SplatArrays:
    return read_scene(FOLDER / name).arrays


def in_order(arrays: SplatArrays) -> SplatArrays:
    """Sorted by position, as some formats change the order."""
    return arrays.select(np.lexsort(arrays.means.round(1).T))


def assert_same(name: str, base: str, *, sorted_first: bool = False, **allowed: float) -> None:
    got, wanted = arrays_of(name), arrays_of(base)
    assert len(got.means) == len(wanted.means)
    if sorted_first:
        got, wanted = in_order(got), in_order(wanted)
    errors = vars(largest_errors(got, wanted))
    for field, error in errors.items():
        assert error <= allowed.get(field, 1e-4), f"{name}: {field} {error}"


PACKED = {
    "position": 0.003,
    "log_scale": 0.02,
    "rotation_deg": 0.3,
    "opacity": 0.003,
    "dc": 0.02,
    "sh": 0.02,
}


@pytest.mark.parametrize(
    ("name", "num", "words"),
    [
        (
            "p16_nan_xyz.ply",
            37,
            "left out 3 of 40 Gaussians: 3 with a position that is not finite (rows 0, 1, 2)",
        ),
        ("p16c_inf_sh.ply", 39, "1 with colours that are not finite (row"),
        ("p17_one_zero_quat.ply", 39, "1 with a rotation of length zero (row"),
        (
            "p17b_postshot_zero_rows.ply",
            1,
            "39 with a rotation of length zero (rows 1, 2, 3, 4, 5, …)",
        ),
        ("p26_huge_scale.ply", 39, "1 with a scale that is not finite (row"),
    ],
)
def test_bad_gaussians_are_left_out_and_said_once(name, num, words, tmp_path, caplog):
    found = read_scene(FOLDER / name)
    assert sum(found.left_out.values()) == 40 - num
    read = Gaussians.load(FOLDER / name)
    assert read.num_gaussians == num
    read.check()
    assert [words in record.getMessage() for record in caplog.records] == [True]
    caplog.clear()
    read.save(tmp_path / "clean.ply")
    Gaussians.load(tmp_path / "clean.ply")
    assert not caplog.records


def test_the_good_gaussians_are_those_of_the_file():
    wanted = arrays_of("base_sh1.ply")
    row = int(np.flatnonzero((arrays_of_raw("p17_one_zero_quat.ply").quats == 0).all(axis=1))[0])
    got = arrays_of("p17_one_zero_quat.ply")
    np.testing.assert_array_equal(got.means, np.delete(wanted.means, row, axis=0))


def arrays_of_raw(name: str) -> SplatArrays:
    with open(FOLDER / name, "rb") as file:
        return FORMATS["ply"].read(file)


def test_saving_stays_strict_and_extremes_stay(tmp_path):
    base = Gaussians.load(FOLDER / "base_sh1.ply")
    means = base.means.clone()
    means[3, 1] = torch.nan
    with pytest.raises(ValueError, match="means must be finite"):
        replace(base, means=means).save(tmp_path / "bad.ply")
    data = bytearray((FOLDER / "base_sh1.ply").read_bytes())
    start, floats = data.index(b"end_header\n") + 11, 26  # a row: 18 + opacity, 3 scales, 4 quats
    struct.pack_into("<ff", data, start + 4 * 18, np.inf, -np.inf)
    struct.pack_into("<f", data, start + 4 * (floats + 18), -np.inf)
    path = tmp_path / "extreme.ply"
    path.write_bytes(data)
    found = read_scene(path)
    assert found.left_out == {}
    assert found.arrays.opacities[:2].tolist() == [1, 0]
    assert found.arrays.scales[0, 0] == 0


def test_a_file_of_bad_gaussians_alone_is_an_error(tmp_path):
    data = bytearray((FOLDER / "base_sh1.ply").read_bytes())
    start = data.index(b"end_header\n") + 11
    data[start:] = bytes(len(data) - start)
    path = tmp_path / "zero.ply"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"zero\.ply: none of the 40 Gaussians.*length zero"):
        Gaussians.load(path)


@pytest.mark.parametrize(
    "name",
    [
        *("g01_identity_matrix.glb", "g03_parent_node.glb", "g05_two_nodes.glb"),
        *("g06_two_primitives.glb", "g09_json_nul_padded.glb"),
    ],
)
def test_glb_files_show_the_base_scene(name):
    assert_same(name, "base.glb")


def test_a_node_that_turns_by_half_a_turn():
    """About glTF's x axis, which is ours mirrored: y and z change their signs."""
    wanted = with_flipped(arrays_of("base.glb"), "yz")
    errors = largest_errors(arrays_of("g02_rotation_node.glb"), wanted)
    assert max(errors.position, errors.log_scale, errors.sh, errors.dc) < 1e-5
    assert errors.rotation_deg < 0.05


def covariances(arrays: SplatArrays) -> np.ndarray:
    quats = torch.from_numpy(arrays.quats.astype(np.float64))
    axes = matrix_from_quat(quats).numpy() * arrays.scales[:, None, :]
    return axes @ axes.transpose(0, 2, 1)


@pytest.mark.parametrize("seed", range(4))
def test_any_matrix_moves_places_and_ellipsoids_as_it_says(seed):
    """Rotations with a scale, mirrors, and matrices that stretch: M p + t and M Σ Mᵀ."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    linear = [
        rotation * np.sign(np.linalg.det(rotation)) * 0.7,
        -rotation * np.sign(np.linalg.det(rotation)),
        rotation @ np.diag([1, 2, 0.5]),
        rng.normal(size=(3, 3)),
    ][seed]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, (1, -2, 3)
    before = arrays_of("base_sh3.ply")
    after = moved(before, matrix)
    np.testing.assert_allclose(after.means, before.means @ linear.T + [1, -2, 3], atol=1e-4)
    wanted = linear @ covariances(before) @ linear.T
    np.testing.assert_allclose(covariances(after), wanted, rtol=1e-3, atol=1e-4)
    assert len(after.remarks) == (seed > 1)


def test_harmonics_are_mirrored_and_turned_with_the_scene():
    """The colour in the direction M d is the colour that was seen in the direction d."""
    rotation = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))[0]
    rotation = -rotation * np.sign(np.linalg.det(rotation))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    before = arrays_of("base_sh3.ply")
    after = moved(before, matrix)
    directions = spread_directions(20)[:, None]
    old, new = (torch.from_numpy(a.sh_coeffs.astype(np.float64)) for a in (before, after))
    turned = directions @ torch.from_numpy(rotation).T
    torch.testing.assert_close(
        evaluate(new[None], turned), evaluate(old[None], directions), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    "name",
    ["s03_v3_coord6.spz", "s03_v4_coord6.spz", "s03_v4_coord7.spz", "s03_v4_coord8.spz"],
)
def test_axes_of_spz_files_are_applied(name):
    pytest.importorskip("zstandard")
    assert_same(name, "ref_v4_sh1.spz", sh=0.07)
    assert arrays_of(name).remarks == ()


def test_unknown_extensions_of_spz_are_remarked_on(tmp_path):
    pytest.importorskip("zstandard")
    data = (FOLDER / "s03_v4_coord6.spz").read_bytes()
    path = tmp_path / "other.spz"
    path.write_bytes(data.replace(struct.pack("<I", 0xADBE0003), struct.pack("<I", 0xADBE0099)))
    assert arrays_of_path(path).remarks == ("ignored the unknown extension 0xadbe0099",)


def arrays_of_path(path: Path) -> SplatArrays:
    return read_scene(path).arrays


@pytest.mark.parametrize(
    ("name", "base"), [("p12_sh4.ply", "base_sh3.ply"), ("s04_v4_sh4.spz", "")]
)
def test_harmonics_of_degree_4_are_cut_with_a_remark(name, base):
    pytest.importorskip("zstandard")
    arrays = arrays_of(name)
    assert arrays.sh_degree == 3
    assert len(arrays.means) == 40
    assert arrays.remarks == ("left out the harmonics of degree 4; 3 is the highest used",)
    if base:
        wanted = arrays_of_raw_harmonics(name)
        np.testing.assert_array_equal(arrays.sh_coeffs, wanted)


def arrays_of_raw_harmonics(name: str) -> np.ndarray:
    """The first 15 of 24 harmonics of each channel, by hand from the bytes."""
    data = (FOLDER / name).read_bytes()
    start = data.index(b"end_header\n") + 11
    names = [line.split()[2] for line in data[:start].decode().splitlines() if "property" in line]
    rows = np.frombuffer(data[start:], "<f4").reshape(-1, len(names))
    columns = {name: rows[:, i] for i, name in enumerate(names)}
    out = np.zeros((len(rows), 16, 3), np.float32)
    for channel in range(3):
        out[:, 0, channel] = columns[f"f_dc_{channel}"]
        for k in range(15):
            out[:, k + 1, channel] = columns[f"f_rest_{channel * 24 + k}"]
    return out


@pytest.mark.parametrize(
    "name", ["s02_v3_antialiased.spz", "s02_v4_antialiased.spz", "p28_mip_comment_brush.ply"]
)
@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".v4.spz", ".sog"])
def test_the_antialiased_flag_goes_through_every_format_that_has_it(name, suffix, tmp_path):
    pytest.importorskip("zstandard")
    scene_read = Gaussians.load(FOLDER / name)
    assert scene_read.antialiased
    scene_read.save(tmp_path / f"out{suffix}")
    assert Gaussians.load(tmp_path / f"out{suffix}").antialiased
    replace(scene_read, antialiased=False).save(tmp_path / f"out{suffix}")
    assert not Gaussians.load(tmp_path / f"out{suffix}").antialiased


def test_formats_without_a_place_for_the_flag_say_so(tmp_path, caplog):
    flagged = replace(Gaussians.load(FOLDER / "base_sh1.ply"), antialiased=True).with_sh_degree(0)
    for suffix in (".splat", ".glb"):
        caplog.clear()
        flagged.save(tmp_path / f"out{suffix}")
        assert "antialiased" in caplog.records[0].getMessage()


def test_linear_colours_become_srgb():
    """Mid grey, 0.2140 of the light, is level 0.5; dark stays near black; harmonics follow."""
    linear, found = arrays_of("base.glb"), arrays_of("g10_linear_colorspace.glb")
    assert "linear colours" in found.remarks[0]
    dc = np.array([0.2140411, 1.0, 0.0])[None, None] / 0.28209479 - 0.5 / 0.28209479
    flat = as_arrays(np.zeros((1, 3)), np.ones((1, 3)), np.eye(4)[:1], np.ones(1), dc)
    np.testing.assert_allclose(
        to_srgb(flat).sh_coeffs[0, 0] * 0.28209479 + 0.5, [0.5, 1, 0], atol=1e-4
    )
    np.testing.assert_allclose(found.means, linear.means)
    bright = linear.sh_coeffs[:, 0] * 0.28209479 + 0.5 > 0.3
    assert (found.sh_coeffs[:, 0][bright] > linear.sh_coeffs[:, 0][bright] - 1).all()


def test_compressed_files_of_other_layouts():
    assert_same("c02_gsplat_sh0.compressed.ply", "base_sh1.ply", sorted_first=True, **PACKED)
    assert_same("c03_compressed_named.ply", "base_sh1.ply", sorted_first=True, **PACKED)
    # Without ranges, colours are held to [0, 1].
    got, wanted = (
        in_order(arrays_of("c01_12col.compressed.ply")),
        in_order(arrays_of("base_sh1.ply")),
    )
    rgb, wanted_rgb = (a.sh_coeffs[:, 0] * 0.28209479 + 0.5 for a in (got, wanted))
    np.testing.assert_allclose(rgb, wanted_rgb.clip(0, 1), atol=0.5 / 255 + 0.002)


@pytest.mark.parametrize(
    "name",
    [
        *("c04_plain_named.compressed.ply", "p05b_long_comment.ply"),
        *("p10_face_list_empty.ply", "p10b_face_list_two.ply", "p28_mip_comment_brush.ply"),
    ],
)
def test_plain_files_of_other_layouts(name):
    assert_same(name, "base_sh1.ply")


def test_lists_in_front_of_the_vertices_are_refused_by_name():
    data = (FOLDER / "p10b_face_list_two.ply").read_bytes()
    head, _, rest = data.partition(b"element vertex 40\n")
    head += b"element face 1\nproperty list uchar int vertex_indices\nelement vertex 40\n"
    with pytest.raises(ValueError, match="list properties in element 'face'"):
        FORMATS["ply"].read(io.BytesIO(head + rest))


def test_a_file_of_2d_gaussian_splatting_has_flat_gaussians():
    got, wanted = arrays_of("p11_2dgs.ply"), arrays_of("base_sh1.ply")
    np.testing.assert_allclose(got.scales[:, :2], wanted.scales[:, :2], rtol=1e-6)
    assert (got.scales[:, 2] == np.float32(1e-6)).all()


def glb_with_spz(arrays: SplatArrays) -> bytes:
    """A .glb with SPZ data, by KHR_gaussian_splatting_compression_spz_2."""
    file = io.BytesIO()
    FORMATS["spz"].write(file, arrays)
    data = file.getvalue() + bytes(-len(file.getvalue()) % 4)
    compression = {"KHR_gaussian_splatting_compression_spz_2": {"bufferView": 0}}
    primitive = {
        "attributes": {},
        "mode": 0,
        "extensions": {"KHR_gaussian_splatting": {"extensions": compression}},
    }
    asset = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "translation": [1, 0, 0]}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": len(data)}],
        "bufferViews": [{"buffer": 0, "byteLength": len(file.getvalue())}],
    }
    text = json.dumps(asset).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(data), 0x004E4942) + data
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def test_spz_inside_a_glb_is_read_and_moved_by_its_node():
    wanted = in_order(arrays_of("base_sh1.ply"))
    got = in_order(FORMATS["glb"].read(io.BytesIO(glb_with_spz(arrays_of("base_sh1.ply")))))
    moved_back = got.means + np.array([1, 0, 0])  # glTF's x points left
    np.testing.assert_allclose(moved_back, wanted.means, atol=2e-3)
    assert largest_errors(got, wanted).rotation_deg < 0.3


def test_unsupported_glb_features_are_remarked_on():
    data = (FOLDER / "base.glb").read_bytes()
    other = data.replace(b'"kernel":"ellipse"', b'"kernel":"triangl"')
    if other == data:
        other = data.replace(b'"kernel": "ellipse"', b'"kernel": "triangl"')
    got = FORMATS["glb"].read(io.BytesIO(other))
    assert got.remarks == ("treated kernel 'triangl' as 'ellipse'",)
    assert len(got.means) == 40


def test_a_glb_that_promises_spz_but_holds_none_is_one_error():
    with pytest.raises(ValueError, match=r"g11_spz_compressed\.glb: .*SPZ"):
        Gaussians.load(FOLDER / "g11_spz_compressed.glb")


@pytest.mark.parametrize("distance", [3e5, 1e7])
def test_one_stray_gaussian_costs_the_others_no_precision(distance, caplog):
    """It is pulled in along its direction and shrunk alike: from the origin it looks the same."""
    base = scene(100, 1)
    means, scales = base.means.copy(), base.scales.copy()
    means[7], scales[7] = (0, -0.6 * distance, distance), 0.01 * distance
    wanted = replace(base, means=means, scales=scales)
    file = io.BytesIO()
    FORMATS["spz"].write(file, wanted)
    file.seek(0)
    got = FORMATS["spz"].read(file)
    assert "1 of 100 Gaussians lie farther out than ±2048" in caplog.records[0].getMessage()
    stray = np.abs(got.means).max(axis=1) > 100
    assert stray.sum() == 1
    np.testing.assert_allclose(got.means[stray][0] / 2047, [0, -0.6, 1], atol=1e-3)
    np.testing.assert_allclose(got.scales[stray] / got.means[stray][0, 2], 0.01, rtol=0.04)
    rest = np.delete(base.means, 7, axis=0)
    nearest = np.abs(got.means[~stray][:, None] - rest[None]).max(axis=2).min(axis=1)
    assert nearest.max() <= 2**-13 + 1e-6


def test_a_large_scene_keeps_what_bits_there_are(caplog):
    wanted = replace(scene(100, 0), means=scene(100, 0).means * 1000)
    file = io.BytesIO()
    FORMATS["spz"].write(file, wanted)
    file.seek(0)
    got = FORMATS["spz"].read(file)
    assert "9 of 12 fractional bits" in caplog.records[0].getMessage()
    assert np.abs(np.sort(got.means, axis=0) - np.sort(wanted.means, axis=0)).max() <= 2**-10 + 1e-3


def test_spz_may_hold_more_than_ten_million_gaussians(tmp_path):
    """The header alone: it is refused as cut short, not for its number."""
    header = struct.pack("<IIIBBBB", 0x5053474E, 3, 12_000_000, 0, 12, 0, 0)
    packed = zlib.compress(header + bytes(1000), wbits=31) + bytes(16 << 20)
    with pytest.raises(ValueError, match="cut short"):
        FORMATS["spz"].read(io.BytesIO(packed))


def test_ksplat_is_refused_by_name(tmp_path):
    path = tmp_path / "scene.ksplat"
    path.write_bytes(bytes(100))
    with pytest.raises(ValueError, match=r"splat-transform IN\.ksplat"):
        Gaussians.load(path)
    with pytest.raises(ValueError, match=r"is not supported"):
        by_suffix("out.ksplat")


def test_transforms_and_joins_keep_the_flag():
    flagged = replace(Gaussians.load(FOLDER / "base_sh1.ply"), antialiased=True)
    assert flagged.transform(Pose.identity(), 2.0).antialiased
    assert torch.cat([flagged, flagged]).antialiased
    with pytest.raises(ValueError, match="antialiased"):
        torch.cat([flagged, replace(flagged, antialiased=False)])
    assert repr(flagged) == "Gaussians(40, SH degree 1, float32 on cpu, antialiased)"


def test_warnings_are_logged_by_the_library(caplog):
    caplog.set_level(logging.WARNING)
    Gaussians.load(FOLDER / "p12_sh4.ply")
    assert [record.name for record in caplog.records] == ["zipsplat.scene_files"]
