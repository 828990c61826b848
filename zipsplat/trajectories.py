"""Camera paths: orbits, a gentle wiggle, a dolly, and curves through given poses.

Closed paths are meant to loop: the pose after the last one would be the first. With `endpoint=True`
the last pose repeats the first, as in the released model's videos.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zipsplat.files import write_text
from zipsplat.pose import Pose
from zipsplat.rotations import matrix_from_quat
from zipsplat.untrusted_files import read_json


@dataclass(frozen=True)
class CameraPath:
    """Camera path, and the horizontal field of view if the file names one."""

    poses: Pose
    fov_deg: float | None = None


def orbit_poses(
    center: Tensor,
    radius: float,
    num_frames: int,
    *,
    sweep_deg: float | None = 360.0,
    base_azimuth_deg: float = 0.0,
    elevation_deg: float = 0.0,
    azimuth_amp_deg: float = 16.0,
    elevation_amp_deg: float = 4.0,
    endpoint: bool = False,
) -> Pose:
    """Cameras on a sphere around a point, looking at it; up is −y.

    Args:
        center: (3,) the point, world units.
        radius: distance of the cameras, positive.
        num_frames: how many poses, at least one.
        sweep_deg: angle swept around the vertical; None wiggles around the starting direction
            instead, the elevation at twice the pace of the azimuth.
        base_azimuth_deg: start of the path; 0 is on the −z side, like the first view of a
            reconstruction.
        elevation_deg: height of the orbit; positive is above.
        azimuth_amp_deg: how far the wiggle goes to either side.
        elevation_amp_deg: twice as far as the wiggle goes up and down.
        endpoint: whether the last pose ends the path; otherwise it is one step before the end, so
            that closed paths loop smoothly.

    Returns:
        (num_frames,) camera-to-world poses.
    """
    time = _times(num_frames, endpoint).to(center)
    if sweep_deg is None:
        azimuths = base_azimuth_deg + azimuth_amp_deg * torch.sin(2 * math.pi * time)
        heights = 0.5 * elevation_amp_deg * torch.sin(4 * math.pi * time)
        return Pose.orbit(center, radius, azimuths, elevation_deg + heights)
    return Pose.orbit(center, radius, base_azimuth_deg + sweep_deg * time, elevation_deg)


def dolly_poses(start: Pose, distance: float, num_frames: int, *, endpoint: bool = False) -> Pose:
    """One camera moving forward along its viewing direction and back again.

    Args:
        start: one pose, where the path begins.
        distance: length of the way, world units; negative moves backward first.
        num_frames: how many poses, at least one.
        endpoint: whether the last pose is the first again.

    Returns:
        (num_frames,) poses.
    """
    if start.shape:
        raise ValueError(f"a dolly starts from one pose, got a batch {tuple(start.shape)}")
    time = _times(num_frames, endpoint).to(start.t)
    moved = 0.5 * distance * (1 - torch.cos(2 * math.pi * time))
    forward = start.R[:, 2]
    return Pose(start.R.expand(num_frames, 3, 3), start.t + moved.unsqueeze(-1) * forward)


def interpolate_poses(keys: Pose, num_frames: int, *, closed: bool = False) -> Pose:
    """A smooth curve through given poses, each reached after equal time.

    Centres and sign-aligned quaternions follow a Catmull-Rom spline (Catmull and Rom, 1974), so
    speed is continuous and every key is passed exactly.

    Args:
        keys: (K,) poses, at least one.
        num_frames: how many poses, at least one.
        closed: whether the curve returns from the last key to the first, for a loop; the last pose
            is then one step before the first.

    Returns:
        (num_frames,) poses; the first is the first key and, unless closed, the last is the last.
    """
    if keys.ndim != 1 or not len(keys):
        raise ValueError(f"keys must be (K,) poses, at least one, got {tuple(keys.shape)}")
    K = len(keys)
    values = torch.cat((keys.t, keys.quat), dim=-1).double()
    segments = K if closed else K - 1
    position = _times(num_frames, endpoint=not closed).to(values) * segments
    index = position.floor().long().clamp(max=max(segments - 1, 0))
    u = (position - index).unsqueeze(-1)
    offsets = torch.arange(-1, 3, device=index.device)
    neighbours = index.unsqueeze(-1) + offsets
    neighbours = neighbours % K if closed else neighbours.clamp(0, K - 1)
    before, here, there, after = values[neighbours].unbind(1)
    before, there = _same_side(before, here), _same_side(there, here)
    after = _same_side(after, there)
    out, arrive = 0.5 * (there - before), 0.5 * (after - here)
    curve = (
        here * (2 * u**3 - 3 * u**2 + 1)
        + out * (u**3 - 2 * u**2 + u)
        + there * (3 * u**2 - 2 * u**3)
        + arrive * (u**3 - u**2)
    ).to(keys.t)
    return Pose(matrix_from_quat(curve[:, 3:]), curve[:, :3])


def load_camera_path(path: str | Path) -> CameraPath:
    """Read a camera path from a JSON file.

    The file holds {"world_from_camera": [4×4, 4×4, …], "fov_deg": 60}: rigid matrices as lists of
    rows, in OpenCV axes (x right, y down, z forward); the horizontal field of view is optional.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it holds something else.
    """
    path = Path(path)
    try:
        content = read_json(path)
        matrices = torch.tensor(content["world_from_camera"], dtype=torch.float32)
        if matrices.ndim != 3 or not len(matrices):
            raise ValueError(f"world_from_camera must be K × 4 × 4, got {tuple(matrices.shape)}")
        fov_deg = content.get("fov_deg")
        if fov_deg is not None and not 0 < float(fov_deg) < 180:
            raise ValueError(f"fov_deg must be in (0, 180), got {fov_deg}")
        return CameraPath(Pose.from_4x4mat(matrices), None if fov_deg is None else float(fov_deg))
    except (TypeError, LookupError, ValueError, ArithmeticError, RuntimeError) as error:
        wanted = '{"world_from_camera": [4×4 matrix, …], "fov_deg": 60}'
        raise ValueError(f"{path}: not a camera path; wanted {wanted} ({error})") from error


def save_camera_path(camera_path: CameraPath, path: str | Path) -> None:
    """Write a camera path for `load_camera_path`."""
    content: dict[str, object] = {"world_from_camera": camera_path.poses.Rt.tolist()}
    if camera_path.fov_deg is not None:
        content["fov_deg"] = camera_path.fov_deg
    write_text(path, json.dumps(content, indent=1))


def _times(num_frames: int, endpoint: bool) -> Tensor:
    """Equally spaced times from 0 to 1, float32 as in the released model's videos."""
    if num_frames < 1:
        raise ValueError(f"a path needs at least one frame, got {num_frames}")
    times = torch.linspace(0, 1, num_frames if endpoint else num_frames + 1)
    return times if endpoint else times[:-1]


def _same_side(values: Tensor, reference: Tensor) -> Tensor:
    """Flip the quaternions in (F, 7) values that point away from those of the reference."""
    dots = (values[:, 3:] * reference[:, 3:]).sum(-1, keepdim=True)
    return torch.cat((values[:, :3], torch.where(dots < 0, -values[:, 3:], values[:, 3:])), -1)
