"""The `.ply` of 3D Gaussian splatting, binary little-endian, all properties float32.

Source: the file layout of Kerbl et al., 2023. Opacities are stored as logits, scales as logarithms
and the higher harmonics channel by channel.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from zipsplat.formats import (
    MAX_SH_COEFFS,
    Array,
    Format,
    SplatArrays,
    SplatTolerance,
    higher_degree_remarks,
)
from zipsplat.formats._blocks import blocks
from zipsplat.formats._ply_elements import (
    Records,
    comment_lines,
    find_rows,
    has_property,
    read_header,
)

OPACITY_MARGIN = 1e-6  # keeps logits finite
SCALE_MIN = 1e-6
_DEGREES = {0: 0, 9: 1, 24: 2, 45: 3, 72: 4}  # by the number of higher harmonics


def property_names(num_coeffs: int) -> list[str]:
    """Property names of a vertex, in order, for S harmonics."""
    return [
        *"xyz", "nx", "ny", "nz",
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(3 * (num_coeffs - 1))),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]  # fmt: skip


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write a standard file; normals are zero, quaternions are stored as they are."""
    names = property_names(splats.sh_coeffs.shape[1])
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *comment_lines(splats),
        f"element vertex {len(splats.means)}",
        *(f"property float {name}" for name in names),
        "end_header\n",
    ]
    file.write("\n".join(lines).encode("ascii"))
    first, *others = blocks(len(splats.means))
    table = np.zeros((min(len(splats.means), first.stop), len(names)), dtype="<f4")
    for rows in (first, *others):
        part = splats.select(rows)
        _fill(table[: len(part.means)], part)
        file.write(table[: len(part.means)].data)


def _fill(table: Array, splats: SplatArrays) -> None:
    """Fill rows of a file (n, properties), except the normals."""
    margin = np.float32(OPACITY_MARGIN)
    opacity = np.clip(splats.opacities, margin, np.float32(1) - margin)
    num_rest = splats.sh_coeffs.shape[1] - 1
    rest = 9 + 3 * num_rest
    table[:, 0:3] = splats.means
    table[:, 6:9] = splats.sh_coeffs[:, 0]
    for channel, first in enumerate(range(9, rest, num_rest or 1)):
        table[:, first : first + num_rest] = splats.sh_coeffs[:, 1:, channel]
    table[:, rest] = splats.log(opacity / (1 - opacity))
    table[:, rest + 1 : rest + 4] = splats.log(np.maximum(splats.scales, np.float32(SCALE_MIN)))
    table[:, rest + 4 : rest + 8] = splats.quats


def read(file: BinaryIO) -> SplatArrays:
    """Read a standard file: properties of any numeric type in any order; others are ignored.

    Files of 2D Gaussian splatting (Huang et al., 2024) have no third scale: it is set to the
    smallest scale that is written, which makes the Gaussians flat.

    Raises:
        ValueError: if it is not a binary file with the properties of Gaussians, or ends too early.
    """
    header = read_header(file)
    vertices = find_rows(file, header).get("vertex")
    names = () if vertices is None else vertices.dtype.names or ()
    optional = {"nx", "ny", "nz", "scale_2"}
    missing = [name for name in property_names(1) if name not in {*names, *optional}]
    if vertices is None or missing:
        listing = ", ".join(missing) or "vertices"
        raise ValueError(f"this .ply contains no Gaussians: it has no {listing}")
    num, degree = vertices.count, _degree(names)
    scene = SplatArrays(
        means=np.empty((num, 3), np.float32),
        scales=np.empty((num, 3), np.float32),
        quats=np.empty((num, 4), np.float32),
        opacities=np.empty(num, np.float32),
        sh_coeffs=np.empty((num, (min(degree, 3) + 1) ** 2, 3), np.float32),
        note=header.note,
        antialiased=header.antialiased,
        remarks=higher_degree_remarks(degree),
    )
    for rows, records in vertices.read_blocks(file):
        with np.errstate(over="ignore", invalid="ignore"):  # such Gaussians are left out later
            _unpack(_Table(records), scene.select(rows), degree, "scale_2" in names)
    return scene


def _degree(names: tuple[str, ...]) -> int:
    """Degree of the harmonics, 0 to 4."""
    num = sum(name.startswith("f_rest_") for name in names)
    if num not in _DEGREES:
        raise ValueError(f"a .ply must have 0, 9, 24, 45 or 72 properties f_rest_*, got {num}")
    return _DEGREES[num]


def _unpack(table: _Table, scene: SplatArrays, degree: int, has_third: bool) -> None:
    """Fill some rows of a scene."""
    for axis, name in enumerate("xyz"):
        scene.means[:, axis] = table.columns(name)[:, 0]
    num_scales = 3 if has_third else 2
    scene.scales[:, 2] = SCALE_MIN
    np.exp(table.columns("scale_", num_scales), out=scene.scales[:, :num_scales])
    scene.quats[:] = table.columns("rot_", 4)
    scene.opacities[:] = sigmoid(table.columns("opacity")[:, 0])
    scene.sh_coeffs[:, 0] = table.columns("f_dc_", 3)
    num_rest = (degree + 1) ** 2 - 1
    rest = table.columns("f_rest_", 3 * num_rest)
    for channel in range(3):
        of_channel = rest[:, channel * num_rest : (channel + 1) * num_rest]
        scene.sh_coeffs[:, 1:, channel] = of_channel[:, : MAX_SH_COEFFS - 1]


def sigmoid(logits: Array) -> Array:
    """Logistic function without overflow."""
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


class _Table:
    """Vertex properties as float32 columns, without a copy if all of them are float32."""

    def __init__(self, vertices: Records) -> None:
        names = vertices.dtype.names or ()
        self._index = {name: i for i, name in enumerate(names)}
        if all(vertices.dtype[name] == np.dtype("<f4") for name in names):
            self._values = vertices.view("<f4").reshape(len(vertices), len(names))
        else:
            columns = [vertices[name].astype(np.float32) for name in names]
            self._values = np.stack(columns, axis=1)

    def columns(self, name: str, num: int | None = None) -> Array:
        """The property `name`, or the properties `name`0 … in this order, (N, num)."""
        names = [name] if num is None else [f"{name}{i}" for i in range(num)]
        missing = [one for one in names if one not in self._index]
        if missing:
            raise ValueError(f"this .ply lacks the properties {', '.join(missing)}")
        where = [self._index[one] for one in names]
        if where and where == list(range(where[0], where[0] + len(where))):
            return self._values[:, where[0] : where[-1] + 1]
        return self._values[:, where]


PLUGIN = Format(
    name="ply",
    suffixes=(".ply",),
    read=read,
    write=write,
    tolerance=SplatTolerance(
        position=0, log_scale=1e-5, rotation_deg=0.05, opacity=2e-6, dc=0, sh=0
    ),
    recognise=lambda head: has_property(head, "packed_position") is False,
)
