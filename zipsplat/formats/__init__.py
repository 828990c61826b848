"""The interface of scene file formats: bytes to plain arrays and back.

Every public module of this package is one format, found by name or by file suffix.
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
        note: a licence note, which `.ply`, `.compressed.ply`, `.glb` and `.sog` store.
        antialiased: whether the scene was optimised for antialiased rendering; see
            `RenderSettings.antialiased`. `.glb` and `.splat` do not store it.
        log: natural logarithm for formats that store float32 logarithms. PyTorch's in scenes that
            come from tensors: libraries differ in the last bit, and the released model's own files
            are written with PyTorch's.
        remarks: of a reader: what it left out, clamped, converted or did not understand, each a
            clause without the file name.

    Raises:
        ValueError: if the shapes do not match, or the note is longer than 300 characters.
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
            raise ValueError(f"a note may have at most {NOTE_MAX} characters, got {len(self.note)}")
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
        """Select Gaussians by a mask (N,), by indices, or (as a view) by a slice."""
        names = ("means", "scales", "quats", "opacities", "sh_coeffs")
        values = {name: _rows(getattr(self, name), which) for name in names}
        return replace(self, **values)

    def remarked(self, *remarks: str) -> SplatArrays:
        """The same with further remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))


def _rows(values: Any, which: NDArray[np.bool_] | NDArray[np.integer] | slice) -> Any:
    """Select rows; `np.take` takes half the time of indexing by integers."""
    if isinstance(which, slice) or which.dtype == bool:
        return values[which]
    return np.take(values, which, axis=0)


@dataclass(frozen=True)
class SplatTolerance:
    """Largest absolute errors of arrays after writing and reading.

    Args:
        position: world units, for scenes within ±10 units.
        log_scale: natural logarithm of a scale.
        rotation_deg: angle between rotations.
        opacity: in [0, 1].
        dc: SH coefficient of degree 0.
        sh: the other SH coefficients, within ±1.
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
        name: the name of its module.
        suffixes: file name suffixes, with the dot, lower case.
        read: reads arrays from a seekable file; raises a `ValueError` that says what is wrong.
        write: writes arrays to a file.
        tolerance: error of writing and reading.
        recognise: whether a file that begins with these bytes, at most `HEAD_BYTES`, has this
            format; None if its contents do not tell.
        has_antialiased: whether it stores `SplatArrays.antialiased`.
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
    """Find the format from the first `HEAD_BYTES` of a file; None if they do not tell."""
    for name in FORMATS.names():
        recognise = FORMATS[name].recognise
        if recognise is not None and recognise(head):
            return FORMATS[name]
    return None


def by_suffix(path: str | PathLike[str]) -> Format:
    """Find the format from the suffix of a file name; the longest matching suffix counts.

    Raises:
        ValueError: if no format has this suffix.
    """
    name = fspath(path).lower()
    if name.endswith((".html", ".htm")):
        raise ValueError(
            f"{fspath(path)!r} is an HTML page, not a scene file: `zipsplat convert` and"
            " zipsplat.webpage.write_page write pages; their button Save .spz returns the scene"
        )
    if name.endswith(".ksplat"):
        raise ValueError(
            f"{fspath(path)!r}: .ksplat, the format of GaussianSplats3D, is not supported;"
            " `npx @playcanvas/splat-transform IN.ksplat OUT.ply` converts it to .ply"
        )
    suffixes = {s: f for f in (FORMATS[n] for n in FORMATS.names()) for s in f.suffixes}
    matching = [suffix for suffix in suffixes if name.endswith(suffix)]
    if not matching:
        known = ", ".join(sorted(suffixes))
        raise ValueError(f"no scene format has the suffix of {fspath(path)!r}; known: {known}")
    return suffixes[max(matching, key=len)]


def up_to_degree_3(sh_coeffs: NDArray[np.floating]) -> tuple[Array, tuple[str, ...]]:
    """Truncate harmonics (N, S, 3) to degree 3; returns a remark if any were cut."""
    num = sh_coeffs.shape[1]
    cut = np.asarray(sh_coeffs[:, :MAX_SH_COEFFS], np.float32)
    return cut, higher_degree_remarks(round(num**0.5) - 1)


def higher_degree_remarks(degree: int) -> tuple[str, ...]:
    """The remark on truncating harmonics of this degree to degree 3, if necessary."""
    if degree <= 3:
        return ()
    return (f"left out the harmonics of degree {degree}; 3 is the highest used",)
