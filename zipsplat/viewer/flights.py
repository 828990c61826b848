"""Smooth camera flights in the browser."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import torch

from zipsplat.pose import Pose
from zipsplat.rotations import look_at
from zipsplat.trajectories import interpolate_poses
from zipsplat.viewer.viewpoints import BrowserCamera, Viewpoint, triple

if TYPE_CHECKING:
    import viser

FLIGHT_S, _FRAME_S = 0.8, 1 / 30


def flight(camera: BrowserCamera, target: torch.Tensor, end: Viewpoint) -> list[Viewpoint]:
    """Viewpoints from the present camera to `end`, inclusive.

    The rotation is interpolated evenly and the target moves in a straight line, so that cameras
    around an object fly around it.

    Args:
        camera: of the browser.
        target: (3,) the point it looks at, world units.
        end: the destination.
    """
    aspect = camera.width / camera.height
    pose, goal = camera.pose(), torch.tensor(end.target)
    place = torch.tensor(end.position)
    turns = Pose(
        torch.stack((pose.R, look_at(place, goal, torch.tensor(end.up)))),
        torch.stack((target.float(), goal)),
    )
    lengths = (float((target - pose.t).norm()), math.dist(end.position, end.target))
    halves = (math.tan(camera.vfov / 2), math.tan(end.vfov(aspect) / 2))
    frames = interpolate_poses(turns, round(FLIGHT_S / _FRAME_S) + 1)
    views = []
    for index in range(1, len(frames.t) - 1):
        frame = frames[index]
        share = index / (len(frames.t) - 1)
        length = lengths[0] ** (1 - share) * lengths[1] ** share
        half = halves[0] ** (1 - share) * halves[1] ** share
        here = frame.t - length * frame.R[:, 2]
        views.append(Viewpoint(triple(here), triple(frame.t), triple(-frame.R[:, 1]), (0, half)))
    return [*views, end]


async def fly(client: viser.ClientHandle, views: list[Viewpoint]) -> None:
    """Move a browser's camera through the viewpoints; runs on the server's event loop."""
    for view in views:
        place(client, view)
        await asyncio.sleep(_FRAME_S)


def place(client: viser.ClientHandle, view: Viewpoint) -> None:
    """Move a browser's camera at once."""
    camera = client.camera
    with client.atomic():
        camera.fov = view.vfov(camera.aspect)
        camera.position = view.position
        camera.look_at = view.target
        camera.up_direction = view.up
