"""PlayCanvas's SOG (spatially ordered Gaussians), version 2: lossless WebP images in a .zip.

Each pixel is one Gaussian: log positions in 16 bits, scales and colours by codebooks of 256 values,
quaternions by their three smallest components, opacity in 8 bits, and harmonics by a palette of up
to 65536 entries, whose coefficients use a codebook too. Axes are those of a `.ply`. Described in
the PlayCanvas user manual, "The SOG Format".
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import NOTE_MAX, Array, Format, SplatArrays, SplatTolerance
from zipsplat.formats._expansion import require_plausible
from zipsplat.formats._morton import in_morton_order
from zipsplat.formats._palette import codebook, codes_of, palette
from zipsplat.formats._quaternions import (
    REST_MAX,
    from_smallest_three,
    smallest_three,
    unit_columns,
)
from zipsplat.untrusted_files import open_zip, zip_member

_PALETTE_MAX = 1 << 16
_PER_ENTRY = 4  # Gaussians per palette entry, on average
_PALETTE_COLUMNS = 64  # entries per row of the palette image
_ROTATION_CODE = 252  # alpha of a quaternion: this plus the index of its largest component
_LOG_SCALE_MIN = -20.0
_BANDS = {3: 1, 8: 2, 15: 3}  # degree by the number of harmonics of degree 1 and more
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError),
    *(KeyError, IndexError, TypeError, AttributeError, OverflowError),
)

Bytes = NDArray[np.uint8]


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write the Gaussians in Morton order.

    About 4 of them share a palette entry, more if there are over 260 000 Gaussians.
    """
    splats = in_morton_order(splats)
    num = len(splats.means)
    logs = np.sign(splats.means) * np.log1p(np.abs(splats.means, dtype=np.float64))
    low, high = logs.min(axis=0, initial=np.inf), logs.max(axis=0, initial=-np.inf)
    extent = np.where(high > low, high - low, 1)
    fixed = np.rint((logs - low) / extent * 65535).astype(np.uint16)
    log_scales = np.log(np.maximum(splats.scales, np.float32(np.exp(_LOG_SCALE_MIN))))
    scale_codes, color_codes = (
        codebook(log_scales.ravel()),
        codebook(splats.sh_coeffs[:, 0].ravel()),
    )
    opacities = np.rint(splats.opacities * 255).astype(np.uint8)[:, None]
    images = {
        "means_l.webp": _grid((fixed & 255).astype(np.uint8)),
        "means_u.webp": _grid((fixed >> 8).astype(np.uint8)),
        "scales.webp": _grid(codes_of(log_scales, scale_codes)),
        "quats.webp": _grid(_pack_rotations(splats.quats)),
        "sh0.webp": _grid(np.hstack((codes_of(splats.sh_coeffs[:, 0], color_codes), opacities))),
    }
    meta: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "zipsplat"} | ({"copyright": splats.note} if splats.note else {}),
        "count": num,
        "antialias": splats.antialiased,
        "means": {
            "mins": low.tolist() if num else [0] * 3,
            "maxs": high.tolist() if num else [0] * 3,
            "files": ["means_l.webp", "means_u.webp"],
        },
        "scales": {"codebook": scale_codes.tolist(), "files": ["scales.webp"]},
        "quats": {"files": ["quats.webp"]},
        "sh0": {"codebook": color_codes.tolist(), "files": ["sh0.webp"]},
    }
    if splats.sh_degree:
        meta["shN"] = _pack_harmonics(splats, images)
    with zipfile.ZipFile(file, "w") as archive:
        for name, image in images.items():
            archive.writestr(_member(name), _webp(image))
        archive.writestr(_member("meta.json"), json.dumps(meta))


def _member(name: str) -> zipfile.ZipInfo:
    """A member without a date, so that equal scenes give equal files."""
    return zipfile.ZipInfo(name)


def _grid(rows: Bytes) -> Bytes:
    """Arrange rows (N, C) as a nearly square image, padded with zeros."""
    width = max(4, int(np.ceil(np.sqrt(len(rows)) / 4)) * 4)
    height = max(1, -(-len(rows) // width))
    image = np.zeros((height * width, rows.shape[1]), np.uint8)
    image[: len(rows)] = rows
    return image.reshape(height, width, rows.shape[1])


def _webp(image: Bytes) -> bytes:
    from PIL import Image  # slow to import, and most commands do not need it

    if image.shape[2] == 2:
        image = np.concatenate((image, np.zeros_like(image[..., :1])), axis=2)
    file = io.BytesIO()
    # Exact, because WebP would otherwise discard the colours of transparent pixels.
    Image.fromarray(image).save(file, "WEBP", lossless=True, exact=True, quality=50, method=4)
    return file.getvalue()


def _pack_rotations(quats: Array) -> Bytes:
    largest, rest = smallest_three(unit_columns(quats))
    parts = np.rint((rest / REST_MAX * 0.5 + 0.5) * 255).clip(0, 255)
    return np.stack((*parts, largest + _ROTATION_CODE), axis=1).astype(np.uint8)


def _pack_harmonics(splats: SplatArrays, images: dict[str, Bytes]) -> dict[str, Any]:
    """The harmonics entry of the description; adds two images."""
    rest = splats.sh_coeffs[:, 1:]
    num_coeffs = rest.shape[1]
    size = min(_PALETTE_MAX, max(1024, len(rest) // _PER_ENTRY))
    entries, labels = palette(np.ascontiguousarray(rest.reshape(len(rest), 3 * num_coeffs)), size)
    codes = codebook(entries.ravel())
    height = max(1, -(-len(entries) // _PALETTE_COLUMNS))
    table = np.zeros((height * _PALETTE_COLUMNS, num_coeffs, 3), np.uint8)
    table[: len(entries)] = codes_of(entries, codes).reshape(-1, num_coeffs, 3)
    images["shN_centroids.webp"] = table.reshape(height, _PALETTE_COLUMNS * num_coeffs, 3)
    images["shN_labels.webp"] = _grid(np.stack((labels & 255, labels >> 8), 1).astype(np.uint8))
    return {
        "count": len(entries),
        "bands": _BANDS[num_coeffs],
        "codebook": codes.tolist(),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }


def read(file: BinaryIO) -> SplatArrays:
    """Read version 2, all files in one .zip.

    Raises:
        ValueError: if it is damaged or has another version.
    """
    size = file.seek(0, 2)
    file.seek(0)
    try:
        with open_zip(file) as archive:
            return _unpack(_Bundle.of(archive, size))
    except _DAMAGE as error:
        raise ValueError(f"this is not a .sog, or it is damaged: {error!r}") from error


@dataclass(frozen=True)
class _Bundle:
    """The parts of a file."""

    archive: zipfile.ZipFile
    meta: dict[str, Any]
    size: int  # of the file, bytes

    @classmethod
    def of(cls, archive: zipfile.ZipFile, size: int) -> _Bundle:
        """Read the description."""
        meta = json.loads(_contents(archive, "meta.json", size))
        if meta.get("version") != 2:
            raise ValueError(
                f"SOG version {meta.get('version', 1)!r} is not supported, only 2; splat-transform"
                " converts it"
            )
        count = meta["count"]
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"damaged SOG file: {count!r} Gaussians")
        require_plausible(4 * count, size, "SOG")
        return cls(archive, meta, size)

    def rows(self, name: str, channels: int) -> Bytes:
        """The first `count` pixels of an image (count, channels)."""
        pixels = self.image(name).reshape(-1, 4)
        if len(pixels) < self.meta["count"]:
            raise ValueError(f"damaged SOG file: {name} has fewer pixels than there are Gaussians")
        return pixels[: self.meta["count"], :channels]

    def image(self, name: str) -> Bytes:
        """An image (H, W, 4)."""
        from PIL import Image

        data = _contents(self.archive, name, self.size)
        try:
            with Image.open(io.BytesIO(data), formats=["WEBP", "PNG"]) as opened:
                require_plausible(4 * opened.width * opened.height, self.size, "SOG")
                return np.asarray(opened.convert("RGBA"))
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"damaged SOG file: {name} is not an image ({error})") from error


def _contents(archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    info = archive.getinfo(name)
    require_plausible(info.file_size, size, "SOG")
    return zip_member(archive, info, info.file_size)


def _unpack(bundle: _Bundle) -> SplatArrays:
    meta = bundle.meta
    with np.errstate(over="ignore", invalid="ignore"):  # such Gaussians are left out later
        colors = bundle.rows(meta["sh0"]["files"][0], 4)
        dc = _codebook(meta["sh0"])[colors[:, :3]][:, None]
        scales = np.exp(_codebook(meta["scales"])[bundle.rows(meta["scales"]["files"][0], 3)])
        return SplatArrays(
            means=_unpack_means(bundle),
            scales=scales,
            quats=_unpack_rotations(bundle.rows(meta["quats"]["files"][0], 4)),
            opacities=(colors[:, 3] / 255).astype(np.float32),
            sh_coeffs=np.concatenate((dc, _unpack_harmonics(bundle)), axis=1),
            note=str(meta.get("asset", {}).get("copyright", ""))[:NOTE_MAX],
            antialiased=bool(meta.get("antialias", False)),
        )


def _codebook(part: dict[str, Any]) -> Array:
    codes = np.array(part["codebook"], np.float32)
    if codes.shape != (256,):
        raise ValueError(f"damaged SOG file: a codebook of shape {codes.shape}")
    return codes


def _unpack_means(bundle: _Bundle) -> Array:
    part = bundle.meta["means"]
    low, high = (bundle.rows(name, 3).astype(np.float64) for name in part["files"])
    first, last = (np.array(part[key], np.float64).reshape(3) for key in ("mins", "maxs"))
    logs = first + (last - first) * (low + 256 * high) / 65535
    return (np.sign(logs) * np.expm1(np.abs(logs))).astype(np.float32)


def _unpack_rotations(rows: Bytes) -> Array:
    """Unpack quaternions; those without a code become zero and are left out later."""
    rest = (rows[:, :3].T / 255 * 2 - 1) * REST_MAX
    code = rows[:, 3].astype(np.int64) - _ROTATION_CODE
    quats = from_smallest_three(np.maximum(code, 0), rest)
    return np.asarray(np.where(code >= 0, quats, 0).T, np.float32, order="C")


def _unpack_harmonics(bundle: _Bundle) -> Array:
    """(count, S − 1, 3)."""
    part = bundle.meta.get("shN")
    if not part or not bundle.meta["count"]:
        bands = part["bands"] if part else 0
        return np.empty((bundle.meta["count"], (bands + 1) ** 2 - 1, 3), np.float32)
    num = {bands: number for number, bands in _BANDS.items()}[part["bands"]]
    table = bundle.image(part["files"][0])[..., :3]
    if table.shape[1] != _PALETTE_COLUMNS * num:
        raise ValueError(f"damaged SOG file: a palette {table.shape[1]} pixels wide")
    labels = bundle.rows(part["files"][1], 2).astype(np.int64) @ np.array([1, 256])
    entries = table.reshape(-1, num, 3)
    if labels.max(initial=0) >= len(entries):
        raise ValueError("damaged SOG file: harmonics beyond its palette")
    return np.asarray(_codebook(part)[entries[labels]], np.float32)


PLUGIN = Format(
    name="sog",
    suffixes=(".sog",),
    read=read,
    write=write,
    tolerance=SplatTolerance(
        position=11 * np.log(11) / 65535,
        log_scale=0.2,
        rotation_deg=1.0,
        opacity=0.5 / 255,
        dc=0.1,
        sh=2.0,
    ),
    recognise=lambda head: head.startswith(b"PK\x03\x04") and b".webp" in head,
)
