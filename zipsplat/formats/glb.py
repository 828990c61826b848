"""Binary glTF with the ratified extension KHR_gaussian_splatting: uncompressed, y up.

Each property is a float32 attribute of one POINTS primitive; scales are linear, quaternions xyzw.
Programs without the extension show the points of POSITION and COLOR_0. Source: the Khronos Group's
glTF 2.0 specification, and its text of the extension.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import NOTE_MAX, Array, Format, SplatArrays, SplatTolerance
from zipsplat.formats._axes import half_turn_about_z
from zipsplat.formats._quaternions import unit
from zipsplat.harmonics import SH_C0

_EXTENSION = "KHR_gaussian_splatting"
_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _UBYTE, _POINTS, _ARRAY_BUFFER = 5126, 5121, 0, 34962
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write one primitive; quaternions are normalised, as the extension demands."""
    attributes = _attributes(half_turn_about_z(splats))
    description = json.dumps(_description(attributes, splats.note), separators=(",", ":")).encode(
        "ascii"
    )
    description += b" " * (-len(description) % 4)
    data = b"".join(array.tobytes() for array in attributes.values())
    total = 12 + 8 + len(description) + 8 + len(data)
    file.write(struct.pack("<III", _MAGIC, 2, total))
    file.write(struct.pack("<II", len(description), _JSON) + description)
    file.write(struct.pack("<II", len(data), _BIN) + data)


def read(file: BinaryIO) -> SplatArrays:
    """Read the first primitive with splats.

    Raises:
        ValueError: if there is none, the file is damaged, or it uses what is not supported:
            compressed or quantised attributes, or nodes that move the splats.
    """
    chunks = dict(_chunks(file.read()))
    try:
        asset = json.loads(chunks[_JSON])
        primitive = _primitive(asset)
        note = str(asset.get("asset", {}).get("copyright", ""))[:NOTE_MAX]
        if primitive is None:
            return replace(_empty(asset["scenes"][0]["extras"]["numHarmonics"]), note=note)
        attributes = primitive["attributes"]
        num_coeffs = sum(name.startswith(f"{_EXTENSION}:SH_DEGREE_") for name in attributes)
        names = ["POSITION", *(f"{_EXTENSION}:{name}" for name in ("SCALE", "ROTATION", "OPACITY"))]
        names += [f"{_EXTENSION}:{name}" for name in _harmonic_names(num_coeffs)]
        binary = chunks.get(_BIN, b"")
        columns = [_accessor(asset, binary, attributes[name]) for name in names]
        means, scales, quats, opacities = columns[:4]
        splats = SplatArrays(
            means,
            scales,
            quats[:, [3, 0, 1, 2]],
            opacities[:, 0],
            np.stack(columns[4:], axis=1),
            note=note,
        )
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"this .glb is damaged or holds no splats: {error!r}") from error
    return half_turn_about_z(splats)


def _attributes(splats: SplatArrays) -> dict[str, NDArray[Any]]:
    """Name and rows of each attribute, in the order of the file."""
    dc = splats.sh_coeffs[:, 0]
    rgba = np.concatenate((dc * SH_C0 + 0.5, splats.opacities[:, None]), axis=1)
    fields = {
        "ROTATION": unit(splats.quats)[:, [1, 2, 3, 0]].astype("<f4"),
        "SCALE": splats.scales.astype("<f4"),
        "OPACITY": splats.opacities[:, None].astype("<f4"),
    }
    for i, name in enumerate(_harmonic_names(splats.sh_coeffs.shape[1])):
        fields[name] = splats.sh_coeffs[:, i].astype("<f4")
    return {
        "POSITION": splats.means.astype("<f4"),
        "COLOR_0": np.rint(rgba.clip(0, 1) * 255).astype(np.uint8),
        **{f"{_EXTENSION}:{name}": values for name, values in fields.items()},
    }


def _harmonic_names(num_coeffs: int) -> list[str]:
    names = [f"SH_DEGREE_{d}_COEF_{n}" for d in range(4) for n in range(2 * d + 1)]
    return names[:num_coeffs]


def _description(attributes: dict[str, NDArray[Any]], note: str) -> dict[str, Any]:
    """The JSON part. glTF forbids empty accessors: an empty scene is a file without a mesh."""
    num_harmonics = sum(":SH_DEGREE_" in name for name in attributes)
    asset: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "zipsplat"},
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"extras": {"numHarmonics": num_harmonics}}],
    }
    if note:
        asset["asset"]["copyright"] = note
    sizes = [array.nbytes for array in attributes.values()]
    if not sum(sizes):
        return asset
    offsets = np.cumsum([0, *sizes]).tolist()
    primitive = {
        "mode": _POINTS,
        "attributes": {name: i for i, name in enumerate(attributes)},
        "extensions": {_EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    asset["scenes"] = [{"nodes": [0]}]
    asset["nodes"] = [{"mesh": 0}]
    asset["meshes"] = [{"primitives": [primitive]}]
    asset["buffers"] = [{"byteLength": offsets[-1]}]
    asset["bufferViews"] = [
        {"buffer": 0, "byteOffset": offset, "byteLength": size, "target": _ARRAY_BUFFER}
        for offset, size in zip(offsets, sizes, strict=False)
    ]
    asset["accessors"] = [
        _accessor_of(view, array) for view, array in enumerate(attributes.values())
    ]
    positions = attributes["POSITION"]
    asset["accessors"][0] |= {
        "min": positions.min(axis=0).tolist(),
        "max": positions.max(axis=0).tolist(),
    }
    return asset


def _accessor_of(view: int, array: NDArray[Any]) -> dict[str, Any]:
    colors = array.dtype == np.uint8
    return {
        "bufferView": view,
        "componentType": _UBYTE if colors else _FLOAT,
        "count": len(array),
        "type": _TYPES[array.shape[1]],
        **({"normalized": True} if colors else {}),
    }


def _chunks(data: bytes) -> Iterator[tuple[int, bytes]]:
    magic, version, total = struct.unpack("<III", data[:12]) if len(data) >= 12 else (0, 0, 0)
    if magic != _MAGIC or version != 2:
        raise ValueError("not a binary glTF 2.0 file")
    if total > len(data):
        raise ValueError(f".glb file cut short: {total} bytes expected, {len(data)} found")
    position = 12
    while position + 8 <= total:
        size, kind = struct.unpack_from("<II", data, position)
        if position + 8 + size > total:
            raise ValueError("damaged .glb: a chunk is longer than the file")
        yield kind, data[position + 8 : position + 8 + size]
        position += 8 + size


def _primitive(asset: Any) -> Any:
    """The first primitive with splats, or None if there is no mesh at all."""
    if "meshes" not in asset and _EXTENSION in asset.get("extensionsUsed", ()):
        return None
    moved = {"matrix", "translation", "rotation", "scale"}
    for node in asset.get("nodes", []):
        for primitive in asset["meshes"][node["mesh"]]["primitives"] if "mesh" in node else ():
            if _EXTENSION not in primitive.get("extensions", {}):
                continue
            if moved & set(node) or any("children" in other for other in asset["nodes"]):
                raise ValueError("the nodes of this .glb move its splats, which is not supported")
            return primitive
    raise ValueError(f"this .glb holds no {_EXTENSION}")


def _empty(num_harmonics: int) -> SplatArrays:
    shapes = ((0, 3), (0, 3), (0, 4), (0,), (0, num_harmonics, 3))
    return SplatArrays(*(np.empty(shape, np.float32) for shape in shapes))


def _accessor(asset: Any, binary: bytes, index: int) -> Array:
    """The rows (count, width) of a float32 accessor."""
    accessor = asset["accessors"][index]
    widths = {name: width for width, name in _TYPES.items()}
    if accessor["componentType"] != _FLOAT or "bufferView" not in accessor:
        raise ValueError("this .glb has quantised or compressed splats, which are not supported")
    view = asset["bufferViews"][accessor["bufferView"]]
    width, count = widths[accessor["type"]], accessor["count"]
    offset = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    size = 4 * width * count
    if view.get("byteStride", 4 * width) != 4 * width:
        raise ValueError("this .glb interleaves its splats, which is not supported")
    if min(offset, count) < 0 or offset + size > len(binary):
        raise ValueError("this .glb is cut short: its splats reach beyond its end")
    rows = np.frombuffer(binary, "<f4", width * count, offset).reshape(count, width)
    return np.asarray(rows, np.float32)


PLUGIN = Format(
    name="glb",
    suffixes=(".glb",),
    read=read,
    write=write,
    tolerance=SplatTolerance(position=0, log_scale=0, rotation_deg=1e-4, opacity=0, dc=0, sh=0),
)
