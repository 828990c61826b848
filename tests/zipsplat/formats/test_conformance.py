"""What every format must do: keep scenes within its tolerance, and refuse what is not a scene."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.zipsplat.formats.scenes import VALUES, as_arrays, assert_within_tolerance, scene
from zipsplat import Gaussians
from zipsplat.formats import FORMATS, Format, SplatArrays, by_suffix
from zipsplat.formats._quaternions import unit

every_format = pytest.mark.parametrize("name", FORMATS.names())


def to_bytes(chosen: Format, arrays: SplatArrays) -> bytes:
    file = io.BytesIO()
    chosen.write(file, arrays)
    return file.getvalue()


def round_trip(chosen: Format, arrays: SplatArrays) -> SplatArrays:
    return chosen.read(io.BytesIO(to_bytes(chosen, arrays)))


@every_format
@settings(max_examples=40, deadline=None)
@given(num=st.integers(0, 500), degree=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_write_then_read_is_within_the_tolerance(name: str, num: int, degree: int, seed: int):
    wanted = scene(num, degree, seed)
    got = round_trip(FORMATS[name], wanted)
    assert_within_tolerance(FORMATS[name].tolerance, got, wanted)


@every_format
@pytest.mark.parametrize("num", [0, 1, 256, 257])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_empty_one_and_many(name: str, num: int, degree: int):
    wanted = scene(num, degree)
    got = round_trip(FORMATS[name], wanted)
    assert_within_tolerance(FORMATS[name].tolerance, got, wanted)
    Gaussians.from_arrays(got).check()


@pytest.mark.slow
@every_format
def test_a_million(name: str):
    wanted = scene(1_000_000, 1, cells=100)
    got = round_trip(FORMATS[name], wanted)
    assert_within_tolerance(FORMATS[name].tolerance, got, wanted, cells=100)


def extreme_scene() -> SplatArrays:
    quats = [
        [1, 0, 0, 0],
        [0, 0, 0, -1],
        [1e-18, 0, 0, 1e-18],
        [1e18, -1e18, 1e18, 1e18],
        [1, 1, 1, 1],
    ]
    return as_arrays(
        [[0, 0, 0], [1e6, -1e6, 1e6], [-1e-6, 1e-20, 0], [8e6, 0, 0], [1, 2, 3]],
        [[1e-12] * 3, [1e6, 1e-12, 1], [0, 0, 0], [3e-6, 1e3, 1e3], [1, 1, 1]],
        quats,
        [0, 1, 1e-9, 1 - 1e-7, 0.5],
        np.stack([np.full((16, 3), value) for value in (0, 50, -50, 1, -1)]),
    )


def comparable(arrays: SplatArrays, key: str) -> np.ndarray:
    """One row for each Gaussian; of quaternions, whose sign means nothing, the products."""
    values = getattr(arrays, key)
    if key == "quats":
        values = unit(values)
        values = values[:, :, None] * values[:, None, :]
    return values.reshape(len(values), -1)


@every_format
def test_extreme_values_are_clamped_to_what_the_format_holds(name: str):
    first = round_trip(FORMATS[name], extreme_scene())
    assert len(first.means) == 5
    Gaussians.from_arrays(first).check()
    second = round_trip(FORMATS[name], first)
    for key in VALUES:
        a, b = (np.sort(comparable(arrays, key), axis=0) for arrays in (first, second))
        # Of two equal parts of a quaternion either may be left out: one more rounding.
        step = np.radians(FORMATS[name].tolerance.rotation_deg) / 2 if key == "quats" else 0
        assert np.abs(a - b).max() <= max(1e-3, step) * max(1, np.abs(a).max()), key


@every_format
def test_colors_near_the_end_of_float32_are_written_without_a_warning(name: str):
    wanted = scene(40, 3)
    wanted = replace(wanted, sh_coeffs=wanted.sh_coeffs * np.float32(1e38))
    assert len(round_trip(FORMATS[name], wanted).means) == 40


def reads_or_refuses(chosen: Format, data: bytes) -> bool:
    """Whether the bytes are a scene; anything but a `ValueError` gets out."""
    try:
        Gaussians.from_arrays(chosen.read(io.BytesIO(data))).check()
    except ValueError:
        return False
    return True


@every_format
def test_a_file_cut_short_is_refused(name: str):
    data = to_bytes(FORMATS[name], scene(40, 1))
    for size in [*range(0, 300, 7), *range(300, len(data), 97), len(data) - 1]:
        whole_records = name == "splat" and size % 32 == 0  # has no header that could tell
        assert reads_or_refuses(FORMATS[name], data[:size]) == whole_records, size


# Half of the damage near the start, where headers are; the rest anywhere, modulo the length.
PLACES = st.integers(0, 63) | st.integers(0, 1 << 20)


@every_format
@settings(max_examples=150, deadline=None)
@given(damage=st.lists(st.tuples(PLACES, st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_give_a_scene_or_one_clear_error(name: str, damage: list[tuple[int, int]]):
    damaged = bytearray(to_bytes(FORMATS[name], scene(20, 1)))
    for place, byte in damage:
        damaged[place % len(damaged)] = byte
    reads_or_refuses(FORMATS[name], bytes(damaged))


@every_format
@pytest.mark.parametrize("fill", [0x00, 0x7F, 0x80, 0xFF])
def test_a_body_of_one_byte_gives_a_scene_or_one_clear_error(name: str, fill: int):
    data = to_bytes(FORMATS[name], scene(300, 3))
    for kept in (
        2500,
        3000,
        10_000,
    ):  # beyond the headers; as floats these are 0, huge or NaN
        reads_or_refuses(FORMATS[name], data[:kept] + bytes([fill]) * (len(data) - kept))


@every_format
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(name: str, data: bytes):
    if name != "splat":
        assert not reads_or_refuses(FORMATS[name], data)
    else:
        reads_or_refuses(FORMATS[name], data)


@every_format
def test_a_header_that_promises_too_much_costs_no_memory(name: str):
    data = to_bytes(FORMATS[name], scene(20, 1))
    hostile = [data[:i] + b"\xff\xff\xff" + data[i + 3 :] for i in range(0, 64)]
    hostile += [
        data.replace(b" 20\n", count) for count in (b" 2000000000\n", b" 999999999999999\n")
    ]
    tracemalloc.start()
    try:
        for one in hostile:
            reads_or_refuses(FORMATS[name], one)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@every_format
def test_suffixes_find_the_format(name: str):
    for suffix in FORMATS[name].suffixes:
        assert by_suffix(f"folder.ply/Scene{suffix.upper()}") is FORMATS[name]


@pytest.mark.parametrize("name", ["scene.html", "SCENE.HTM"])
def test_pages_are_no_scene_files_and_the_error_says_how_they_come_about(name: str, tmp_path):
    with pytest.raises(ValueError, match=r"zipsplat\.webpage\.write_page.*Save \.spz"):
        Gaussians.from_arrays(scene(3, 0)).save(tmp_path / name)
    (tmp_path / name).write_text("<!doctype html>")
    with pytest.raises(ValueError, match=r"is an HTML page"):
        Gaussians.load(tmp_path / name)


@every_format
def test_save_and_load_through_a_file(name: str, tmp_path):
    wanted = scene(30, 1)
    path = tmp_path / f"scene{FORMATS[name].suffixes[0]}"
    Gaussians.from_arrays(wanted).save(path)
    assert_within_tolerance(FORMATS[name].tolerance, Gaussians.load(path).arrays(), wanted)


@every_format
def test_what_is_dropped_is_said_once(name: str, tmp_path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / f"scene{FORMATS[name].suffixes[0]}"
    Gaussians.from_arrays(scene(3, FORMATS[name].tolerance.max_sh_degree)).save(path)
    assert not caplog.records
    Gaussians.from_arrays(scene(3, 3)).save(path)
    assert len(caplog.records) == (1 if FORMATS[name].tolerance.max_sh_degree < 3 else 0)
