"""The interface of scene files: bytes to plain arrays and back.

Every public module of this package is one format, found by name or by the suffix of a path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.plugins import Plugins

Array = NDArray[np.float32]
Logarithm = Callable[[Array], Array]
NOTE_MAX = 300
MAX_SH_COEFFS = 16  # degree 3
HEAD_BYTES = 1 << 16


def rounded_log(values: Array) -> Array:
    """Natural logarithm of positive float32 values, correctly rounded, so equal everywhere."""
    return np.log(values, dtype=np.float64).astype(np.float32)


@dataclass(frozen=True)
class SplatArrays:
    """One scene as float32 arrays in physical units; OpenCV axes, as in a 3DGS `.ply`.

    Args:
        means: (N, 3) world units.
        scales: (N, 3) standard deviations, world units.
        quats: (N, 4) wxyz.
        opacities: (N,) in [0, 1].
        sh_coeffs: (N, S, 3) spherical harmonics, S = (degree + 1)².
        note: a line about licences, which `.ply`, `.compressed.ply`, `.glb` and `.sog` keep.
        antialiased: whether it was made to be drawn with opacities that make up for the blur of
            small Gaussians; see `RenderSettings.antialiased`. `.glb` and `.splat` cannot say so.
        log: natural logarithm for formats that store float32 logarithms. PyTorch's in scenes that
            come from tensors: libraries differ in the last bit, and the released model's own files
            are written with PyTorch's.
        remarks: of a reader: what it left out, clamped, converted or did not understand, each a
            clause without the name of the file.

    Raises:
        ValueError: if the shapes do not fit together, or the note is longer than 300 characters.
    """

    means: Array
    scales: Array
    quats: Array
    opacities: Array
    sh_coeffs: Array
    note: str = field(default="", kw_only=True)
    antialiased: bool = field(default=False, kw_only=True)
    log: Logarithm = field(default=rounded_log, kw_only=True)
    remarks: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """Check the shapes and the note."""
        if len(self.note) > NOTE_MAX:
            raise ValueError(
                f"a note has at most {NOTE_MAX} characters, this one has {len(self.note)}"
            )
        num = len(self.means)
        wanted = {"means": (num, 3), "scales": (num, 3), "quats": (num, 4), "opacities": (num,)}
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape}, got {getattr(self, name).shape}")
        shape = self.sh_coeffs.shape
        if len(shape) != 3 or shape[0] != num or shape[1] not in (1, 4, 9, 16) or shape[2] != 3:
            raise ValueError(f"sh_coeffs must be ({num}, 1 | 4 | 9 | 16, 3), got {shape}")

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh_coeffs.shape[1]]

    def select(self, which: NDArray[np.bool_] | NDArray[np.integer] | slice) -> SplatArrays:
        """Some of the Gaussians, by a mask (N,), by indices, or as a view by a slice."""
        names = ("means", "scales", "quats", "opacities", "sh_coeffs")
        values = {name: _rows(getattr(self, name), which) for name in names}
        return replace(self, **values)

    def remarked(self, *remarks: str) -> SplatArrays:
        """The same with further remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))


def _rows(values: Any, which: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Any:
    """Some rows of an array; by indices in half the time that indexing takes."""
    if isinstance(which, slice) or which.dtype == bool:
        return values[which]
    return np.take(values, which, axis=0)


@dataclass(frozen=True)
class SplatTolerance:
    """How far arrays may be off after they were written and read, as largest absolute errors.

    Args:
        position: world units, for scenes within ±10 units.
        log_scale: natural logarithm of a scale.
        rotation_deg: angle between rotations.
        opacity: in [0, 1].
        dc: coefficient of degree 0.
        sh: the other coefficients, within ±1.
        max_sh_degree: higher degrees are dropped.
    """

    position: float
    log_scale: float
    rotation_deg: float
    opacity: float
    dc: float
    sh: float
    max_sh_degree: int = 3


@dataclass(frozen=True)
class Format:
    """One file format.

    Args:
        name: how it is called, as the module that defines it.
        suffixes: endings of file names, with the dot, lower case.
        read: makes arrays from a seekable file; a `ValueError` says what is wrong with it.
        write: writes arrays to a file.
        tolerance: what `write` then `read` changes.
        recognise: whether a file that begins with these bytes, at most `HEAD_BYTES`, is of this
            format; not given if its contents cannot tell.
        has_antialiased: whether it keeps `SplatArrays.antialiased`.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[BinaryIO], SplatArrays]
    write: Callable[[BinaryIO, SplatArrays], None]
    tolerance: SplatTolerance
    recognise: Callable[[bytes], bool] | None = None
    has_antialiased: bool = True


FORMATS: Plugins[Format] = Plugins("zipsplat.formats", "scene format")


def by_content(head: bytes) -> Format | None:
    """Find the format by the first `HEAD_BYTES` of a file; None if they do not tell."""
    for name in FORMATS.names():
        recognise = FORMATS[name].recognise
        if recognise is not None and recognise(head):
            return FORMATS[name]
    return None


def by_suffix(path: str | PathLike[str]) -> Format:
    """Find the format whose suffix a file name has; of several, the longest suffix counts.

    Raises:
        ValueError: if no format has this suffix.
    """
    name = fspath(path).lower()
    if name.endswith((".html", ".htm")):
        raise ValueError(
            f"{fspath(path)!r} names a page, which is no scene file: pages are written by `zipsplat"
            " convert` and zipsplat.webpage.write_page; their button Save .spz gives the scene back"
        )
    if name.endswith(".ksplat"):
        raise ValueError(
            f"{fspath(path)!r}: .ksplat, the format of GaussianSplats3D, is neither read nor"
            " written; `npx @playcanvas/splat-transform IN.ksplat OUT.ply` makes a .ply of it"
        )
    suffixes = {s: f for f in (FORMATS[n] for n in FORMATS.names()) for s in f.suffixes}
    matching = [suffix for suffix in suffixes if name.endswith(suffix)]
    if not matching:
        known = ", ".join(sorted(suffixes))
        raise ValueError(f"no scene format has the suffix of {fspath(path)!r}; known: {known}")
    return suffixes[max(matching, key=len)]


def up_to_degree_3(sh_coeffs: NDArray[np.floating]) -> tuple[Array, tuple[str, ...]]:
    """Harmonics (N, S, 3) of any degree cut to degree 3, and the remark about it, if any."""
    num = sh_coeffs.shape[1]
    cut = np.asarray(sh_coeffs[:, :MAX_SH_COEFFS], np.float32)
    return cut, higher_degree_remarks(round(num**0.5) - 1)


def higher_degree_remarks(degree: int) -> tuple[str, ...]:
    """The remark of a reader that cut harmonics of this degree to degree 3, if it had to."""
    if degree <= 3:
        return ()
    return (f"left out the harmonics of degree {degree}; 3 is the highest used",)
