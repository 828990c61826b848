"""Binary glTF with the ratified extension KHR_gaussian_splatting, y up; written uncompressed.

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

from zipsplat.formats import NOTE_MAX, Format, SplatArrays, SplatTolerance
from zipsplat.formats._axes import half_turn_about_z
from zipsplat.formats._glb_scene import EXTENSION, TYPES, harmonic_names, read_scene
from zipsplat.formats._quaternions import unit
from zipsplat.sh_constants import SH_C0

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_FLOAT, _UBYTE, _POINTS, _ARRAY_BUFFER = 5126, 5121, 0, 34962


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write one primitive; quaternions are normalised, as the extension requires."""
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
    """Read all splats of the scene with their node transforms; see `_glb_scene`.

    Raises:
        ValueError: if there are none, the file is damaged, or it uses unsupported features.
    """
    chunks = dict(_chunks(file.read()))
    try:
        asset = json.loads(chunks[_JSON].rstrip(b"\0"))
        note = str(asset.get("asset", {}).get("copyright", ""))[:NOTE_MAX]
        with np.errstate(over="ignore", invalid="ignore"):  # such Gaussians are left out later
            return replace(half_turn_about_z(_splats(asset, chunks.get(_BIN, b""))), note=note)
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"this .glb is damaged or contains no splats: {error!r}") from error


def _splats(asset: Any, binary: bytes) -> SplatArrays:
    if "meshes" not in asset and EXTENSION in asset.get("extensionsUsed", ()):
        return _empty(asset["scenes"][0]["extras"]["numHarmonics"])
    return read_scene(asset, binary)


def _attributes(splats: SplatArrays) -> dict[str, NDArray[Any]]:
    """Name and rows of each attribute, in file order."""
    dc = splats.sh_coeffs[:, 0]
    rgba = np.concatenate((dc * SH_C0 + 0.5, splats.opacities[:, None]), axis=1)
    fields = {
        "ROTATION": unit(splats.quats)[:, [1, 2, 3, 0]].astype("<f4"),
        "SCALE": splats.scales.astype("<f4"),
        "OPACITY": splats.opacities[:, None].astype("<f4"),
    }
    for i, name in enumerate(harmonic_names(splats.sh_coeffs.shape[1])):
        fields[name] = splats.sh_coeffs[:, i].astype("<f4")
    return {
        "POSITION": splats.means.astype("<f4"),
        "COLOR_0": np.rint(rgba.clip(0, 1) * 255).astype(np.uint8),
        **{f"{EXTENSION}:{name}": values for name, values in fields.items()},
    }


def _description(attributes: dict[str, NDArray[Any]], note: str) -> dict[str, Any]:
    """The JSON part. glTF forbids empty accessors: an empty scene is a file without a mesh."""
    num_harmonics = sum(":SH_DEGREE_" in name for name in attributes)
    asset: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "zipsplat"},
        "extensionsUsed": [EXTENSION],
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
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
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
        "type": TYPES[array.shape[1]],
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


def _empty(num_harmonics: int) -> SplatArrays:
    shapes = ((0, 3), (0, 3), (0, 4), (0,), (0, num_harmonics, 3))
    return SplatArrays(*(np.empty(shape, np.float32) for shape in shapes))


PLUGIN = Format(
    name="glb",
    suffixes=(".glb",),
    read=read,
    write=write,
    tolerance=SplatTolerance(position=0, log_scale=0, rotation_deg=1e-4, opacity=0, dc=0, sh=0),
    recognise=lambda head: head.startswith(b"glTF"),
    has_antialiased=False,
)
