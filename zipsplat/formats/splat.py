"""The .splat format of the first web viewers: 32 bytes per Gaussian, no header, no harmonics.

Three float32 for the position, three float32 linear scales, RGBA bytes, and the quaternion wxyz as
bytes (value * 128 + 128). The most important Gaussians come first, so that a viewer can render a
partial download. Described by github.com/antimatter15/splat (MIT licence).
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from zipsplat.formats import Format, SplatArrays, SplatTolerance
from zipsplat.formats._quaternions import unit
from zipsplat.sh_constants import SH_C0

_RECORD = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat_wxyz", "u1", 4)]
)


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write the Gaussians, the largest and most opaque first; only their DC colour is kept."""
    volumes = splats.scales.prod(axis=1, dtype=np.float64)
    order = np.argsort(-splats.opacities * volumes, kind="stable")
    records = np.zeros(len(order), _RECORD)
    records["mean"] = splats.means[order]
    records["scale"] = splats.scales[order]
    rgb = splats.sh_coeffs[order, 0] * SH_C0 + 0.5
    rgba = np.concatenate((rgb, splats.opacities[order, None]), axis=1)
    records["rgba"] = np.rint(rgba.clip(0, 1) * 255)
    records["quat_wxyz"] = np.rint(unit(splats.quats[order]) * 128 + 128).clip(0, 255)
    file.write(records.tobytes())


def read(file: BinaryIO) -> SplatArrays:
    """Read a .splat file.

    Raises:
        ValueError: if the length is not a multiple of 32, or values are not those of Gaussians.
    """
    data = file.read()
    if len(data) % _RECORD.itemsize:
        raise ValueError(
            f".splat files hold {_RECORD.itemsize} bytes per Gaussian, got {len(data)} bytes: "
            "cut short, or another format"
        )
    records = np.frombuffer(data, _RECORD)
    rgba = records["rgba"].astype(np.float32) / 255
    quats = (records["quat_wxyz"].astype(np.float32) - 128) / 128
    return SplatArrays(
        means=records["mean"].copy(),
        scales=records["scale"].copy(),
        quats=unit(quats).astype(np.float32),
        opacities=rgba[:, 3].copy(),
        sh_coeffs=((rgba[:, None, :3] - 0.5) / SH_C0).astype(np.float32),
    )


PLUGIN = Format(
    name="splat",
    suffixes=(".splat",),
    read=read,
    write=write,
    tolerance=SplatTolerance(
        position=0,
        log_scale=1e-6,
        rotation_deg=1.0,
        opacity=0.5 / 255,
        dc=0.5 / 255 / SH_C0,
        sh=0,
        max_sh_degree=0,
    ),
    has_antialiased=False,
)
