"""What every format must do: keep scenes within its tolerance, and refuse what is no scene."""

from __future__ import annotations

import io
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zipsplat import Gaussians
from zipsplat.formats import FORMATS, Format, SplatArrays, by_suffix

every_format = pytest.mark.parametrize("name", FORMATS.names())

CELLS = 8  # per axis, of the lattice within ±10 that positions are drawn from


def scene(num: int, degree: int, seed: int = 0, cells: int = CELLS) -> SplatArrays:
    """Random values over the whole range that all formats are made for, including its ends.

    At most one Gaussian lies in each cell of a lattice, so that they can be matched after a format
    has changed their order.
    """
    rng = np.random.default_rng(seed)
    places = np.stack(np.unravel_index(rng.permutation(cells**3)[:num], (cells,) * 3), axis=1)
    places = places + 0.5 + rng.uniform(-0.3, 0.3, (num, 3))
    quats = rng.normal(size=(num, 4)) * rng.uniform(0.2, 5, (num, 1))
    dc = rng.uniform(0, 1, (num, 1, 3)).round(rng.integers(0, 3)) / 0.28209479177387814 - 1.77
    rest = rng.uniform(-1, 1, (num, (degree + 1) ** 2 - 1, 3))
    return as_arrays(
        places * (20 / cells) - 10,
        np.exp(rng.uniform(-9.9, 5.9, (num, 3))),
        quats,
        rng.uniform(0, 1, num).round(rng.integers(0, 6)),
        np.concatenate((dc, rest), axis=1),
    )


def as_arrays(*values: np.ndarray) -> SplatArrays:
    return SplatArrays(*(np.asarray(value, np.float32) for value in values))


def to_bytes(chosen: Format, arrays: SplatArrays) -> bytes:
    file = io.BytesIO()
    chosen.write(file, arrays)
    return file.getvalue()


def round_trip(chosen: Format, arrays: SplatArrays) -> SplatArrays:
    return chosen.read(io.BytesIO(to_bytes(chosen, arrays)))


def in_lattice_order(arrays: SplatArrays, cells: int) -> SplatArrays:
    places = np.floor((arrays.means + 10) * (cells / 20)).astype(int)
    order = np.ravel_multi_index(tuple(places.T), (cells,) * 3).argsort()
    return SplatArrays(*(getattr(arrays, name)[order] for name in SplatArrays.__annotations__))


@dataclass(frozen=True)
class Errors:
    position: float
    log_scale: float
    rotation_deg: float
    opacity: float
    dc: float
    sh: float


def largest_errors(got: SplatArrays, wanted: SplatArrays) -> Errors:
    """Of scenes in the same order, over the harmonics that both have."""

    def error(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.astype(np.float64) - b).max(initial=0))

    num = min(got.sh_coeffs.shape[1], wanted.sh_coeffs.shape[1])
    units = [a.quats.astype(np.float64) for a in (got, wanted)]
    units = [q / np.linalg.norm(q, axis=1, keepdims=True) for q in units]
    sine = np.linalg.norm(
        units[0] - units[1] * np.sign((units[0] * units[1]).sum(1))[:, None], axis=1
    )
    return Errors(
        position=error(got.means, wanted.means),
        log_scale=error(np.log(got.scales), np.log(wanted.scales)),
        rotation_deg=float(np.degrees(4 * np.arcsin(sine / 2)).max(initial=0)),
        opacity=error(got.opacities, wanted.opacities),
        dc=error(got.sh_coeffs[:, 0], wanted.sh_coeffs[:, 0]),
        sh=error(got.sh_coeffs[:, 1:num], wanted.sh_coeffs[:, 1:num]),
    )


def assert_within_tolerance(
    chosen: Format, got: SplatArrays, wanted: SplatArrays, cells: int = CELLS
) -> None:
    assert len(got.means) == len(wanted.means)
    assert got.sh_degree == min(wanted.sh_degree, chosen.tolerance.max_sh_degree)
    errors = largest_errors(in_lattice_order(got, cells), in_lattice_order(wanted, cells))
    for field, error in vars(errors).items():
        allowed = getattr(chosen.tolerance, field)
        assert error <= allowed * 1.001 + 2e-6, f"{field}: {error} > {allowed}"


@every_format
@settings(max_examples=40, deadline=None)
@given(num=st.integers(0, 500), degree=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))
def test_write_then_read_is_within_the_tolerance(name: str, num: int, degree: int, seed: int):
    wanted = scene(num, degree, seed)
    got = round_trip(FORMATS[name], wanted)
    assert_within_tolerance(FORMATS[name], got, wanted)


@every_format
@pytest.mark.parametrize("num", [0, 1, 256, 257])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_empty_one_and_many(name: str, num: int, degree: int):
    wanted = scene(num, degree)
    got = round_trip(FORMATS[name], wanted)
    assert_within_tolerance(FORMATS[name], got, wanted)
    Gaussians.from_arrays(got).check()


@pytest.mark.slow
@every_format
def test_a_million(name: str):
    wanted = scene(1_000_000, 1, cells=100)
    got = round_trip(FORMATS[name], wanted)
    assert_within_tolerance(FORMATS[name], got, wanted, cells=100)


def extreme_scene() -> SplatArrays:
    quats = [
        [1, 0, 0, 0],
        [0, 0, 0, -1],
        [1e-30, 0, 0, 1e-30],
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


@every_format
def test_extreme_values_are_clamped_to_what_the_format_holds(name: str):
    first = round_trip(FORMATS[name], extreme_scene())
    assert len(first.means) == 5
    Gaussians.from_arrays(first).check()
    second = round_trip(FORMATS[name], first)
    for key in SplatArrays.__annotations__:
        a, b = (np.sort(getattr(arrays, key).reshape(5, -1), axis=0) for arrays in (first, second))
        assert np.abs(a - b).max() <= 1e-3 * max(1, np.abs(a).max()), key


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


@every_format
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_a_scene_or_one_clear_error(name: str, data: st.DataObject):
    damaged = bytearray(to_bytes(FORMATS[name], scene(20, 1)))
    # Half of the damage near the start, where headers are.
    place = st.integers(0, 63) | st.integers(0, len(damaged) - 1)
    for position in data.draw(st.lists(place, min_size=1, max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    reads_or_refuses(FORMATS[name], bytes(damaged))


@every_format
@pytest.mark.parametrize("fill", [0x00, 0x7F, 0x80, 0xFF])
def test_a_body_of_one_byte_gives_a_scene_or_one_clear_error(name: str, fill: int):
    data = to_bytes(FORMATS[name], scene(300, 3))
    for kept in (
        2500,
        3000,
        10_000,
    ):  # beyond the headers; as floats these are 0, huge or no number
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


@every_format
def test_save_and_load_through_a_file(name: str, tmp_path):
    wanted = scene(30, 1)
    path = tmp_path / f"scene{FORMATS[name].suffixes[0]}"
    Gaussians.from_arrays(wanted).save(path)
    assert_within_tolerance(FORMATS[name], Gaussians.load(path).arrays(), wanted)
