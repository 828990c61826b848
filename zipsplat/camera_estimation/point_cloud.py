"""Sparse points as `.ply` files with positions and colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from zipsplat.camera_estimation.capture import FARTHEST
from zipsplat.files import open_file, write_atomically
from zipsplat.formats._ply_elements import HEADER_MAX_BYTES, read_elements, read_header
from zipsplat.posed_images import SparsePoints

_RECORD = np.dtype([("position", "<f4", 3), ("color", "u1", 3)])


def write_point_cloud(path: Path, points: SparsePoints) -> None:
    """Write a binary `.ply` with x, y, z as float and red, green, blue as uchar."""
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(points)}",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "end_header\n",
    ]
    table = np.empty(len(points), _RECORD)
    table["position"] = points.positions
    table["color"] = np.rint(points.colors * 255).clip(0, 255)

    def write(file: BinaryIO) -> None:
        file.write("\n".join(lines).encode("ascii"))
        file.write(table.tobytes())

    write_atomically(path, write)


def read_point_cloud(path: Path) -> SparsePoints:
    """Read a binary or ASCII `.ply` of points, grey if it has no colours.

    Raises:
        ValueError: if it is damaged or has no positions. It names the file.
    """
    return untracked_points(*read_positions(path))


def read_positions(path: Path) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Positions (P, 3) in float64 and colours (P, 3); otherwise as `read_point_cloud`."""
    try:
        with open_file(path) as file:
            vertices = _ascii_vertices(file) if _is_ascii(file) else _binary_vertices(file)
        positions = _columns(vertices, ("x", "y", "z"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    colors = np.full(positions.shape, 0.5, np.float32)
    if {"red", "green", "blue"} <= set(vertices.dtype.names or ()):
        colors = (_columns(vertices, ("red", "green", "blue")) / 255).astype(np.float32)
    usable = _usable(positions)
    return positions[usable], colors[usable]


def untracked_points(
    positions: npt.NDArray[np.floating[Any]], colors: npt.NDArray[np.float32]
) -> SparsePoints:
    """Points (P, 3) and colours (P, 3) without observations; drops those too far for float32."""
    usable = _usable(positions)
    positions, colors = positions[usable], colors[usable]
    count = len(positions)
    return SparsePoints(
        positions.astype(np.float32),
        colors,
        np.zeros(count, np.float32),
        np.zeros(count + 1, np.int64),
        np.zeros(0, np.int64),
        np.zeros((0, 2), np.float32),
    )


def _usable(positions: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Which positions (P, 3) are finite and not absurdly far away."""
    return np.asarray((np.abs(positions) < FARTHEST).all(axis=1))


def _is_ascii(file: BinaryIO) -> bool:
    start = file.read(64)
    file.seek(0)
    return b"format ascii" in start


def _binary_vertices(file: BinaryIO) -> npt.NDArray[np.void]:
    vertices = read_elements(file, read_header(file)).get("vertex")
    if vertices is None:
        raise ValueError("this .ply has no vertices")
    return vertices


def _ascii_vertices(file: BinaryIO) -> npt.NDArray[np.void]:
    """The vertices of an ASCII file, which must be its first element, as nerfstudio writes it."""
    header, _, body = file.read().partition(b"end_header")
    if len(header) > HEADER_MAX_BYTES:
        raise ValueError("this .ply has a broken header: it does not end")
    words = [line.decode("ascii", "replace").split() for line in header.splitlines()]
    counts = [int(line[2]) for line in words if line[:2] == ["element", "vertex"]]
    names = [line[2] for line in words if line[:1] == ["property"] and len(line) == 3]
    rows = [row.split()[: len(names)] for row in body.split(b"\n")[1 : 1 + sum(counts)]]
    if not counts or not names or len(rows) < counts[0]:
        raise ValueError("this .ply ends too early, or has no vertices")
    if any(len(row) < len(names) for row in rows):
        raise ValueError("this .ply ends too early, or has short rows")
    table = np.array(rows, np.float64).reshape(-1, len(names))
    return np.ascontiguousarray(table).view([(name, np.float64) for name in names]).reshape(-1)


def _columns(vertices: npt.NDArray[np.void], names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    missing = [name for name in names if name not in (vertices.dtype.names or ())]
    if missing:
        raise ValueError(f"a point cloud needs {', '.join(names)}, this .ply has no {missing[0]}")
    return np.stack([vertices[name] for name in names], axis=1).astype(np.float64)
