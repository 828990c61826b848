"""Splats of a glTF file from its JSON: nodes, primitives, accessors.

Source: the Khronos Group's glTF 2.0 specification, and its texts of KHR_gaussian_splatting and
KHR_gaussian_splatting_compression_spz_2.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import Array, SplatArrays, spz, up_to_degree_3
from zipsplat.formats._axes import half_turn_about_z

EXTENSION = "KHR_gaussian_splatting"
TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_SPZ = ("KHR_gaussian_splatting_compression_spz_2", "KHR_gaussian_splatting_compression_spz")
_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_MAX_DEPTH = 64  # of the node tree; deeper trees or cycles count as damage
_COLOR_SPACES = ("srgb_rec709_display", "BT.709")
_LINEAR = ("lin_rec709_display", "linear")
_SUPPORTED = {"kernel": "ellipse", "projection": "perspective"}
Floats = NDArray[np.float64]


def harmonic_names(num_coeffs: int) -> list[str]:
    """Attribute names of S harmonics, without the prefix of the extension."""
    return [f"SH_DEGREE_{d}_COEF_{n}" for d in range(5) for n in range(2 * d + 1)][:num_coeffs]


def read_scene(asset: Any, binary: bytes) -> SplatArrays:
    """Read all splats of the default scene, in glTF's axes.

    Args:
        asset: the JSON part.
        binary: the binary part.

    Raises:
        ValueError: if there are none, or they use unsupported features.
        KeyError, IndexError, TypeError, AttributeError: if a referenced object is missing or of
            another type.
    """
    parts = [
        _moved(_splats(asset, binary, primitive), matrix)
        for node, matrix in _placed_nodes(asset)
        if "mesh" in node
        for primitive in asset["meshes"][node["mesh"]]["primitives"]
        if EXTENSION in primitive.get("extensions", {})
    ]
    if not parts:
        raise ValueError(f"this .glb contains no {EXTENSION}")
    return _joined(parts)


def _placed_nodes(asset: Any) -> Iterator[tuple[Any, Floats]]:
    """The nodes of a scene, each with its matrix (4, 4) world from node."""
    nodes = asset["nodes"]
    if asset.get("scenes"):
        roots = asset["scenes"][asset.get("scene", 0)].get("nodes", [])
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [index for index in range(len(nodes)) if index not in children]
    waiting = [(index, np.eye(4), 0) for index in reversed(roots)]
    num_seen = 0
    while waiting:
        index, parent, depth = waiting.pop()
        num_seen += 1
        if depth > _MAX_DEPTH or num_seen > len(nodes):
            raise ValueError("the nodes of this .glb do not form a tree")
        matrix = parent @ _matrix(nodes[index])
        yield nodes[index], matrix
        children = reversed(nodes[index].get("children", []))
        waiting += [(child, matrix, depth + 1) for child in children]


def _matrix(node: Any) -> Floats:
    """The matrix of a node: whole, by columns, or as translation · rotation · scale."""
    if "matrix" in node:
        return np.asarray(np.array(node["matrix"], np.float64).reshape(4, 4).T, np.float64)
    x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), np.float64)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(node.get("scale", [1, 1, 1]), np.float64)
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix


def _moved(splats: SplatArrays, matrix: NDArray[np.float64]) -> SplatArrays:
    """Apply a node's transform to its Gaussians."""
    if np.array_equal(matrix, np.eye(4)):
        return splats
    from zipsplat.formats._affine import moved  # imports PyTorch, which is slow

    return moved(splats, matrix)


def _splats(asset: Any, binary: bytes, primitive: Any) -> SplatArrays:
    """One primitive."""
    extension = primitive["extensions"][EXTENSION]
    inner = extension.get("extensions", {})
    compressed = [inner[name] for name in _SPZ if name in inner]
    if compressed:
        data = _view(asset, binary, compressed[0]["bufferView"])
        splats = half_turn_about_z(spz.read(io.BytesIO(data)))
    else:
        splats = _uncompressed(asset, binary, primitive["attributes"], inner)
    for key, rendered in _SUPPORTED.items():
        if extension.get(key, rendered) != rendered:
            splats = splats.remarked(f"treated {key} {extension[key]!r} as {rendered!r}")
    color_space = extension.get("colorSpace", _COLOR_SPACES[0])
    if color_space in _LINEAR:
        from zipsplat.formats._linear_colors import to_srgb  # imports PyTorch, as `_affine` does

        return to_srgb(splats)
    if color_space not in _COLOR_SPACES:
        return splats.remarked(f"assumed sRGB colours, because {color_space!r} is unknown")
    return splats


def _uncompressed(asset: Any, binary: bytes, attributes: Any, inner: Any) -> SplatArrays:
    num = sum(name.startswith(f"{EXTENSION}:SH_DEGREE_") for name in attributes)
    names = [f"{EXTENSION}:{name}" for name in ("SCALE", "ROTATION", "OPACITY")]
    names = ["POSITION", *names, *(f"{EXTENSION}:{name}" for name in harmonic_names(num))]
    if inner and any(name not in attributes for name in names):
        raise ValueError(f"this .glb uses the unsupported compression {', '.join(inner)}")
    columns = [_accessor(asset, binary, attributes[name]) for name in names]
    means, scales, quats, opacities = columns[:4]
    sh_coeffs, remarks = up_to_degree_3(np.stack(columns[4:], axis=1))
    return SplatArrays(
        means, scales, quats[:, [3, 0, 1, 2]], opacities[:, 0], sh_coeffs, remarks=remarks
    )


def _joined(parts: list[SplatArrays]) -> SplatArrays:
    """Several scenes as one, with the harmonics of the highest degree."""
    if len(parts) == 1:
        return parts[0]
    num = max(part.sh_coeffs.shape[1] for part in parts)
    harmonics = [
        np.pad(p.sh_coeffs, ((0, 0), (0, num - p.sh_coeffs.shape[1]), (0, 0))) for p in parts
    ]

    def joined(name: str) -> Array:
        return np.concatenate([getattr(part, name) for part in parts])

    remarks = dict.fromkeys(remark for part in parts for remark in part.remarks)
    return SplatArrays(
        joined("means"),
        joined("scales"),
        joined("quats"),
        joined("opacities"),
        np.concatenate(harmonics),
        antialiased=all(part.antialiased for part in parts),
        remarks=tuple(remarks),
    )


def _view(asset: Any, binary: bytes, index: int) -> bytes:
    """The bytes of a buffer view."""
    view = asset["bufferViews"][index]
    if "uri" in asset["buffers"][view["buffer"]]:
        raise ValueError("the splats of this .glb are in a separate file, which is not supported")
    if "extensions" in view:
        names = ", ".join(view["extensions"])
        raise ValueError(f"this .glb uses the unsupported compression {names}")
    start, size = view.get("byteOffset", 0), view["byteLength"]
    if min(start, size) < 0 or start + size > len(binary):
        raise ValueError("this .glb is cut short: its splats extend beyond its end")
    return binary[start : start + size]


def _accessor(asset: Any, binary: bytes, index: int) -> Array:
    """The rows (count, width) of an accessor: floats, or normalised integers."""
    accessor = asset["accessors"][index]
    if "bufferView" not in accessor or "sparse" in accessor:
        raise ValueError("this .glb has splats without plain data, which is not supported")
    data = _view(asset, binary, accessor["bufferView"])
    dtype = np.dtype(_COMPONENTS[accessor["componentType"]])
    width, count = {name: w for w, name in TYPES.items()}[accessor["type"]], accessor["count"]
    row = width * dtype.itemsize
    stride = asset["bufferViews"][accessor["bufferView"]].get("byteStride", row)
    start = accessor.get("byteOffset", 0)
    end = start + (count - 1) * stride + row if count else start
    if min(start, count) < 0 or stride < row or end > len(data):
        raise ValueError("this .glb is cut short: its splats extend beyond its end")
    rows = np.ndarray((count, width), dtype, data, start, (stride, dtype.itemsize))
    if dtype.kind == "f":
        return np.array(rows, np.float32)
    if not accessor.get("normalized", False):
        return np.asarray(rows, np.float32)
    return np.asarray(np.maximum(rows / np.iinfo(dtype).max, -1), np.float32)
