"""The `.ply` of 3D Gaussian splatting, binary little-endian, all properties float32.

Source: the file layout of Kerbl et al., 2023. Opacities are stored as logits, scales as logarithms
and the higher harmonics channel by channel.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import (
    Array,
    Format,
    SplatArrays,
    SplatTolerance,
    higher_degree_remarks,
)
from zipsplat.formats._blocks import blocks, fill_rows
from zipsplat.formats._ply_elements import (
    Records,
    by_channel,
    comment_lines,
    find_rows,
    has_property,
    read_header,
)

OPACITY_MARGIN = 1e-6  # keeps logits finite
SCALE_MIN = 1e-6
_DEGREES = {0: 0, 9: 1, 24: 2, 45: 3, 72: 4}  # by the number of higher harmonics

Places = NDArray[np.int64]


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
    num_coeffs = splats.sh_coeffs.shape[1]
    harmonics = splats.sh_coeffs.reshape(len(table), 3 * num_coeffs)
    rest = 6 + 3 * num_coeffs
    fill_rows(table[:, 0:3], splats.means)
    order = np.append([0, 1, 2], 3 + by_channel(num_coeffs - 1))
    fill_rows(table[:, 6:rest], np.take(harmonics, order, axis=1))
    table[:, rest] = splats.log(opacity / (1 - opacity))
    scales = np.maximum(splats.scales, np.float32(SCALE_MIN))
    fill_rows(table[:, rest + 1 : rest + 4], splats.log(scales))
    fill_rows(table[:, rest + 4 :], splats.quats)


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
    places = _places(names, scene.sh_coeffs.shape[1], degree)
    for rows, records in vertices.read_blocks(file):
        with np.errstate(over="ignore", invalid="ignore"):  # such Gaussians are left out later
            _unpack(_values(records), places, scene.select(rows))
            if "scale_2" not in names:
                scene.scales[rows, 2] = SCALE_MIN
    return scene


def _degree(names: tuple[str, ...]) -> int:
    """Degree of the harmonics, 0 to 4."""
    num = sum(name.startswith("f_rest_") for name in names)
    if num not in _DEGREES:
        raise ValueError(f"a .ply must have 0, 9, 24, 45 or 72 properties f_rest_*, got {num}")
    return _DEGREES[num]


def _places(names: tuple[str, ...], num_coeffs: int, degree: int) -> dict[str, Places]:
    """Columns of the table that make up each array of a scene, row by row."""
    index = {name: place for place, name in enumerate(names)}
    index.setdefault("scale_2", index["scale_1"])
    num_rest = (degree + 1) ** 2 - 1
    wanted = {
        "means": [*"xyz"],
        "scales": [f"scale_{i}" for i in range(3)],
        "quats": [f"rot_{i}" for i in range(4)],
        "opacities": ["opacity"],
        "sh_coeffs": [
            *(f"f_dc_{i}" for i in range(3)),
            *(f"f_rest_{i + c * num_rest}" for i in range(num_coeffs - 1) for c in range(3)),
        ],
    }
    missing = [one for several in wanted.values() for one in several if one not in index]
    if missing:
        raise ValueError(f"this .ply lacks the properties {', '.join(missing)}")
    return {key: np.array([index[one] for one in several]) for key, several in wanted.items()}


def _values(records: Records) -> Array:
    """All properties as float32 (n, properties), without a copy if all of them are float32."""
    names = records.dtype.names or ()
    if all(records.dtype[name] == np.dtype("<f4") for name in names):
        return records.view("<f4").reshape(len(records), len(names))
    return np.stack([records[name].astype(np.float32) for name in names], axis=1)


def _unpack(table: Array, places: dict[str, Places], scene: SplatArrays) -> None:
    """Fill some rows of a scene from the properties (n, columns)."""
    for name, columns in places.items():
        rows = getattr(scene, name).reshape(len(table), len(columns))
        np.take(table, columns, axis=1, out=rows, mode="clip")  # other modes copy once more
    np.exp(scene.scales, out=scene.scales)
    scene.opacities[:] = sigmoid(scene.opacities)


def sigmoid(logits: Array) -> Array:
    """Logistic function without overflow."""
    small = np.exp(-np.abs(logits))
    numerator = np.where(logits >= 0, np.float32(1), small)
    return np.asarray(numerator / (1 + small), np.float32)


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
