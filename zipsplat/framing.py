"""Where to render a scene from: its extent, and cameras that have all of it in the image.

Videos, pages and the viewer share these rules:

- Only Gaussians with opacity ≥ 1/255, the renderer's cut-off, count as visible.
- The *body* of a scene is what is visible within five times the distance that contains half of the
  opacity. An object is all body; sky, horizon and stray Gaussians far behind are not.
- A camera on an orbit has the whole body in every image.
- Scenes that surround the first camera, as rooms and most reconstructions do, are better seen from
  there than from behind their walls.
- Where the cameras of the photos are known, a scene is best seen from the first of them, with all
  of that photo in the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.render import RenderSettings, rules
from zipsplat.trajectories import orbit_poses

SIGMAS = 3.0  # Gaussians reach this many standard deviations beyond their centres
_FAR = 5.0  # times the distance that contains half of the scene
_AIR = 1.05  # factor on the body's radius on an orbit: a margin of 5 %
_AROUND = 1.5  # a camera within this many radii of the body is surrounded by it
_IMAGE_MARGIN = 1.5  # factor on the first image's size, for what other images add
_VIDEO_ZOOM = 1.15
_DEPTH_SAMPLE = 20_000  # Gaussians are enough for a median depth


@dataclass(frozen=True)
class Body:
    """The part of a scene that an image of the whole should show.

    Args:
        center: (3,) the median of the centres along each axis, weighted by opacity; world units.
        radius: of the ball around the centre that contains the body's Gaussians; world units.
        members: (N,) bool, whether a Gaussian belongs to the body.
    """

    center: Tensor
    radius: float
    members: Tensor


@dataclass(frozen=True)
class Framing:
    """A camera's distance from the point it looks at, for any direction.

    Args:
        center: (3,) the point that the camera looks at; world units.
        distance: from that point to the camera; world units.
    """

    center: Tensor
    distance: float


def scene_center_radius(
    g: Gaussians, quantile: float = 0.9, margin: float = 1.2
) -> tuple[Tensor, float]:
    """Centre and size of a scene by the rule of the released model's videos.

    Args:
        g: one scene (N,) with at least one Gaussian.
        quantile: share of the Gaussians within the radius, before the margin.
        margin: factor on the radius.

    Returns:
        (3,) the median of the centres along each axis, and the radius in world units.
    """
    check_scene(g)
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be in [0, 1], got {quantile}")
    means = g.means.detach()
    center = means.median(dim=0).values
    distances = (means - center).norm(dim=-1).cpu().numpy()
    return center, float(np.quantile(distances, quantile)) * margin


def scene_body(g: Gaussians) -> Body:
    """Find the body of a scene; see the module.

    Args:
        g: one scene (N,) with at least one Gaussian.
    """
    check_scene(g)
    means, weights = g.means.detach(), _weights(g)
    center = torch.stack([_median(values, weights) for values in means.unbind(-1)])
    reach = (means - center).norm(dim=-1) + SIGMAS * g.scales.detach().amax(dim=-1)
    half = _median(reach, weights)
    members = weights > 0
    if half > 0:  # 0: half of the scene is one point, which says nothing about its size
        members &= reach <= _FAR * half
    return Body(center, float(reach[members].max()), members)


def whole_scene(g: Gaussians, fov_deg: float) -> Framing:
    """The framing that has the whole body in the image from any direction.

    A ball touches the edges of an image whose half field of view has the sine radius / distance.
    The distance also keeps all of it beyond the renderers' near plane.

    Args:
        g: one scene (N,).
        fov_deg: field of view in the narrower direction, degrees in (0, 180).
    """
    body = scene_body(g)
    radius = _AIR * (body.radius if body.radius > 0 else 1.0)
    distance = radius / math.sin(math.radians(fov_deg) / 2)
    return Framing(body.center, max(distance, radius + RenderSettings().near_plane))


def first_image(g: Gaussians, fov_deg: float) -> Framing | None:
    """The framing of the first image's camera, if the scene surrounds it; else None.

    The first camera of a reconstruction is at the origin and looks along +z. A scene counts as a
    reconstruction if most of it lies in or near that image, and as surrounding the camera if the
    camera is within 1.5 radii of the body. (Objects that fill an image are about two radii away.)

    Args:
        g: one scene (N,).
        fov_deg: field of view in the narrower direction, degrees in (0, 180).

    Returns:
        the median depth straight ahead; the camera on its −z side is the first image's.
    """
    body = scene_body(g)
    x, y, z = g.means.detach().unbind(-1)
    weights = _weights(g)
    half_width = _IMAGE_MARGIN * math.tan(math.radians(fov_deg) / 2)
    is_seen = (z > 0) & (torch.maximum(x.abs(), y.abs()) < half_width * z)
    is_before = bool(weights[is_seen].sum() > 0.5 * weights.sum())
    if not is_before or float(body.center.norm()) >= _AROUND * body.radius:
        return None
    depth = _median(z[is_seen], weights[is_seen])
    return Framing(depth * depth.new_tensor([0.0, 0.0, 1.0]), float(depth))


def photo_extent(cameras: Camera) -> Tensor:
    """The least half fields of view of an image that contains a whole photo, as tangents.

    Args:
        cameras: (...) intrinsics of photos.

    Returns:
        (..., 2) tangents of the half fields of view in x and y. The image's middle is the optical
        axis, so a photo whose principal point is not in its middle has some air on one side.
    """
    return torch.maximum(cameras.c, cameras.size - cameras.c) / cameras.f


def video_camera(photo: Camera, longer_side: int = 512) -> Camera:
    """A camera for videos of what photos show: their shape, a little narrower.

    A video looks around, and beyond the photos there is nothing to see.

    Args:
        photo: () intrinsics of a photo.
        longer_side: of the frames, pixels.
    """
    size = (photo.size * (longer_side / photo.size.max())).round()
    return Camera(size, photo.f * (size / photo.size) * _VIDEO_ZOOM, size / 2)


def photo_depth(g: Gaussians, camera: Camera, pose: Pose) -> float | None:
    """The median depth, weighted by opacity, of the part of a scene that a photo shows.

    Args:
        g: one scene (N,).
        camera: () intrinsics of the photo.
        pose: () its camera-to-world pose.

    Returns:
        world units; None if nothing of the scene is in the photo.
    """
    sample = g[:: max(1, g.num_gaussians // _DEPTH_SAMPLE)]
    local = pose.to(sample.means).inv().transform(sample.means.detach())
    reach = photo_extent(camera).to(local) * local[:, 2:]
    is_seen = (local[:, 2] > 0) & (local[:, :2].abs() < reach).all(-1)
    if not bool(is_seen.any()):
        return None
    return float(_median(local[is_seen, 2], _weights(sample)[is_seen]))


def best_sweep(g: Gaussians, fov_deg: float) -> float | None:
    """The best `sweep_deg` of `camera_orbit`: 360, or None if the scene surrounds the camera."""
    return 360.0 if first_image(g, fov_deg) is None else None


def camera_orbit(
    g: Gaussians,
    num_frames: int,
    *,
    fov_deg: float,
    sweep_deg: float | None = 360.0,
    elevation_deg: float = 0.0,
) -> Pose:
    """A looping path around the whole scene, or a wiggle in front of it.

    A wiggle starts at the first image's camera if `first_image` finds one; like that image, it cuts
    off the edges of the scene.

    Args:
        g: one scene (N,).
        num_frames: number of poses.
        fov_deg: field of view in the narrower direction.
        sweep_deg: angle to go around; None wiggles.
        elevation_deg: height of the camera; positive is above.
    """
    framing = first_image(g, fov_deg) if sweep_deg is None else None
    framing = framing or whole_scene(g, fov_deg)
    return orbit_poses(
        framing.center,
        framing.distance,
        num_frames,
        sweep_deg=sweep_deg,
        elevation_deg=elevation_deg,
    )


def check_scene(g: Gaussians) -> None:
    """Reject batches and empty scenes."""
    if g.ndim != 1:
        raise ValueError(
            f"one scene (N,) is needed, got a batch {tuple(g.shape)}; index it first, as in g[0]"
        )
    if g.num_gaussians == 0:
        raise ValueError("the scene has no Gaussians, so there is nothing to show")


def _weights(g: Gaussians) -> Tensor:
    """Opacities (N,) in float64, zero where the renderer culls; ones if it culls everything."""
    opacities = g.opacities.detach().double()
    weights = torch.where(opacities >= rules.ALPHA_MIN, opacities, 0.0)
    return weights if bool(weights.any()) else torch.ones_like(weights)


def _median(values: Tensor, weights: Tensor) -> Tensor:
    """The first of the sorted values (N,) with more than half of the weight up to it."""
    order = values.argsort()
    sums = weights[order].cumsum(0)
    index = torch.searchsorted(sums, 0.5 * sums[-1:], right=True).clamp(max=len(order) - 1)
    return values[order[index]][0]
