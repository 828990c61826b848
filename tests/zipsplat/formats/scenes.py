"""Random scenes for the tests of formats, and how far two scenes are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zipsplat.formats import SplatArrays, SplatTolerance

CELLS = 8  # per axis, of the lattice within ±10 that positions are sampled from
VALUES = ("means", "scales", "quats", "opacities", "sh_coeffs")


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


def in_lattice_order(arrays: SplatArrays, cells: int) -> SplatArrays:
    places = np.floor((arrays.means + 10) * (cells / 20)).astype(int)
    order = np.ravel_multi_index(tuple(places.T), (cells,) * 3).argsort()
    return SplatArrays(*(getattr(arrays, name)[order] for name in VALUES))


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
    return Errors(
        position=error(got.means, wanted.means),
        log_scale=error(np.log(got.scales), np.log(wanted.scales)),
        rotation_deg=rotation_angles_deg(got.quats, wanted.quats).max(initial=0),
        opacity=error(got.opacities, wanted.opacities),
        dc=error(got.sh_coeffs[:, 0], wanted.sh_coeffs[:, 0]),
        sh=error(got.sh_coeffs[:, 1:num], wanted.sh_coeffs[:, 1:num]),
    )


def rotation_angles_deg(quats: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Smallest angles between the ellipsoids' axes: half a turn about one changes nothing."""
    a, b = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (quats.astype("f8"), others))
    w, x, y, z = b.T
    turned = np.array([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]])
    distances = [np.linalg.norm(a.T - sign * t, axis=0) for t in turned for sign in (1, -1)]
    return np.degrees(4 * np.arcsin(np.min(distances, axis=0) / 2))


def assert_within_tolerance(
    tolerance: SplatTolerance, got: SplatArrays, wanted: SplatArrays, cells: int = CELLS
) -> None:
    assert len(got.means) == len(wanted.means)
    assert got.sh_degree == min(wanted.sh_degree, tolerance.max_sh_degree)
    errors = largest_errors(in_lattice_order(got, cells), in_lattice_order(wanted, cells))
    for field, error in vars(errors).items():
        allowed = getattr(tolerance, field)
        assert error <= allowed * 1.001 + 2e-6, f"{field}: {error} > {allowed}"
