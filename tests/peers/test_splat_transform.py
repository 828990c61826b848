"""PlayCanvas's converter reads ours, and we read its files, with errors as its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.zipsplat.formats.scenes import (
    CELLS,
    assert_within_tolerance,
    in_lattice_order,
    largest_errors,
    scene,
)
from zipsplat.formats import SplatArrays, by_suffix

Convert = Callable[..., None]


@pytest.fixture
def convert(peers: Path) -> Convert:
    program = peers / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
    if not program.is_file():
        pytest.skip("@playcanvas/splat-transform is not installed")

    def run(source: Path, target: Path, *options: str) -> None:
        command = [
            "node",
            str(program),
            "--overwrite",
            "--quiet",
            *options,
            str(source),
            str(target),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    return run


def save(path: Path, arrays: SplatArrays) -> Path:
    with open(path, "wb") as file:
        by_suffix(path).write(file, arrays)
    return path


def load(path: Path) -> SplatArrays:
    with open(path, "rb") as file:
        return by_suffix(path).read(file)


def tolerance_of(name: str):
    """Ours; the peer takes the bytes of .splat's rotations for 255ths of ±1, not 128ths."""
    tolerance = by_suffix(name).tolerance
    return replace(tolerance, rotation_deg=1.8) if name.endswith(".splat") else tolerance


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("suffix", [".ply", ".compressed.ply", ".spz", ".v4.spz", ".sog", ".splat"])
def test_it_reads_ours(tmp_path: Path, convert: Convert, suffix: str, degree: int):
    wanted = replace(scene(300, degree), note="Weights: CC BY-NC 4.0, © them")
    ours = save(tmp_path / f"ours{suffix}", wanted)
    convert(ours, tmp_path / "read.ply")
    assert_within_tolerance(tolerance_of(ours.name), load(tmp_path / "read.ply"), wanted)


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".ply", ()),
        (".compressed.ply", ()),
        (".spz", ("--spz-version", "3")),
        (".spz", ("--spz-version", "4")),
        (".glb", ()),
    ],
)
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_we_read_its_files(
    tmp_path: Path, convert: Convert, suffix: str, options: tuple[str, ...], degree: int
):
    if "4" in options:
        pytest.importorskip("zstandard")
    wanted = scene(300, degree)
    theirs = tmp_path / f"theirs{suffix}"
    convert(save(tmp_path / "scene.ply", wanted), theirs, *options)
    assert_within_tolerance(by_suffix(theirs).tolerance, load(theirs), wanted)


@pytest.mark.parametrize(
    ("suffix", "options"), [(".compressed.ply", ()), (".spz", ("--spz-version", "3"))]
)
def test_our_errors_are_as_its_own(
    tmp_path: Path, convert: Convert, suffix: str, options: tuple[str, ...]
):
    wanted = scene(500, 3)
    source = save(tmp_path / "scene.ply", wanted)
    convert(source, tmp_path / f"theirs{suffix}", *options)
    ours, theirs = (save(tmp_path / f"ours{suffix}", wanted), tmp_path / f"theirs{suffix}")
    errors = []
    for path in (ours, theirs):
        convert(path, tmp_path / "read.ply")
        got = in_lattice_order(load(tmp_path / "read.ply"), CELLS)
        errors.append(vars(largest_errors(got, in_lattice_order(wanted, CELLS))))
    for key, error in errors[0].items():
        assert error <= 1.05 * errors[1][key] + 1e-6, key
