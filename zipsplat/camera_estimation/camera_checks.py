"""Cheap plausibility checks of estimated cameras; each warning says what to do about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zipsplat.camera_estimation.capture import Capture, FloatArray

# Limits from trials on generated scenes with known cameras (benchmarks/cameras.md).
_USUAL_FOCAL = (0.4, 2.5)  # multiples of the longer side: fields of view of 103 to 23 degrees
_MIN_POINTS_PER_PHOTO = 15
_MAX_ERROR_PX = 0.8
_MIN_MOVEMENT = 0.01  # largest distance between cameras / median depth
_MIN_SUPPORT = 0.85
_MIN_TRIPLE_POINTS = 8  # points of a photo seen in three or more: they fix its distance
_MAX_GAP_DEG = 1.0
_MAX_GAP = 0.1  # of positions, in units of the cameras' extent
_MORE_OVERLAP = "add photos that overlap by more than half"


@dataclass(frozen=True)
class Evidence:
    """Input of the checks.

    Attributes:
        capture: the registered photos with their points.
        mean_error: reprojection error in pixels.
        support: share of the matches that the cameras explain.
        has_fixed_focal: the focal length was given, not estimated.
    """

    capture: Capture
    mean_error: float
    support: float
    has_fixed_focal: bool


def warnings(evidence: Evidence) -> tuple[str, ...]:
    """A warning for each failed check."""
    found = [
        None if evidence.has_fixed_focal else _wild_focal(evidence.capture),
        _few_points(evidence.capture),
        _large_error(evidence.mean_error),
        _little_support(evidence.support),
        _loose_photos(evidence.capture),
        _no_movement(evidence.capture),
    ]
    return tuple(warning for warning in found if warning is not None)


def _wild_focal(capture: Capture) -> str | None:
    factor = capture.photos[0].lens.focal_factor
    if _USUAL_FOCAL[0] < factor < _USUAL_FOCAL[1]:
        return None
    fov_deg = math.degrees(2 * math.atan(0.5 / factor))
    return (
        f"the estimated field of view is {fov_deg:.0f} degrees, which is unusual; a straight flight"
        " or walk does not determine it: give the 35 mm equivalent focal length of the lens"
        " (--focal-35mm; phones 26, drones 24)"
    )


def _few_points(capture: Capture) -> str | None:
    count = 0 if capture.points is None else len(capture.points)
    needed = _MIN_POINTS_PER_PHOTO * len(capture.photos)
    if count >= needed:
        return None
    return f"only {count} points connect {len(capture.photos)} photos; {_MORE_OVERLAP}"


def _large_error(error: float) -> str | None:
    if error <= _MAX_ERROR_PX:
        return None
    return (
        f"the mean reprojection error is {error:.2f} pixels, above {_MAX_ERROR_PX}: something"
        " moved, or the lens has distortion that the camera model lacks"
    )


def _little_support(share: float) -> str | None:
    if share >= _MIN_SUPPORT:
        return None
    return f"only {100 * share:.0f} % of the matches between photos agree with it; {_MORE_OVERLAP}"


def _loose_photos(capture: Capture) -> str | None:
    """Two views fix the direction between cameras; its length needs points seen in three."""
    points = capture.points
    if points is None or len(capture.photos) < 3:
        return None
    lengths = np.diff(points.offsets)
    held = points.views[np.repeat(lengths >= 3, lengths)]
    counts = np.bincount(held, minlength=len(capture.photos))
    loose = int((counts < _MIN_TRIPLE_POINTS).sum())
    if loose == 0:
        return None
    return (
        f"the distance of {loose} of {len(capture.photos)} photos is uncertain: hardly any of their"
        f" points is seen in three photos; {_MORE_OVERLAP}"
    )


def _no_movement(capture: Capture) -> str | None:
    movement, depth = spread(capture), median_depth(capture)
    if movement >= _MIN_MOVEMENT * depth:
        return None
    return "the camera turned but hardly moved, so depth is unknown: take photos from other places"


def spread(capture: Capture) -> float:
    """Largest distance of a camera from the first."""
    centers = np.stack([photo.world_from_camera[:3, 3] for photo in capture.photos])
    return float(np.linalg.norm(centers - centers[0], axis=1).max())


def median_depth(capture: Capture) -> float:
    """Median over all observations of the depth of points in the photos that see them.

    Without observations, of all points in front of the first photo; 1 without points.
    """
    points = capture.points
    if points is None or len(points) == 0:
        return 1.0
    from_world = np.linalg.inv(np.stack([photo.world_from_camera for photo in capture.photos]))
    rows = np.repeat(np.arange(len(points)), np.diff(points.offsets))
    views = points.views
    if len(rows) == 0:
        rows, views = np.arange(len(points)), np.zeros(len(points), np.int64)
    axis = from_world[views, 2]
    depth = (axis[:, :3] * points.positions[rows]).sum(axis=1) + axis[:, 3]
    positive = depth[depth > 0]
    return float(np.median(positive)) if len(positive) else 1.0


def disagreement(first: Capture, second: Capture) -> str | None:
    """A warning if two solutions of the same photos differ."""
    one, two = ({photo.path: photo.world_from_camera for photo in side.photos}
                for side in (first, second))  # fmt: skip
    common = [path for path in one if path in two]
    if len(common) < 2:
        return None
    turn, gap = pose_gaps([one[path] for path in common], [two[path] for path in common])
    if turn <= _MAX_GAP_DEG and gap <= _MAX_GAP:
        return None
    return (
        f"two solvers differ by {turn:.1f} degrees and {100 * gap:.0f} % of the distance between"
        f" cameras; {_MORE_OVERLAP}"
    )


def pose_gaps(first: list[FloatArray], second: list[FloatArray]) -> tuple[float, float]:
    """Largest differences of poses (4, 4) after the best common similarity.

    Returns:
        Rotation in degrees; position in units of the cameras' extent.
    """
    one, two = np.stack(first), np.stack(second)
    u, _, v = np.linalg.svd(np.einsum("nij,nkj->ik", two[:, :3, :3], one[:, :3, :3]))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    cosines = (np.einsum("nji,nji->n", turn @ one[:, :3, :3], two[:, :3, :3]) - 1) / 2
    moved, fixed = ((side[:, :3, 3] - side[:, :3, 3].mean(axis=0)) for side in (one, two))
    moved = moved @ turn.T
    scale = (moved * fixed).sum() / max((moved**2).sum(), 1e-30)
    extent = max(float(np.linalg.norm(fixed, axis=1).max()), 1e-30)
    gap = float(np.linalg.norm(scale * moved - fixed, axis=1).max()) / extent
    return float(np.degrees(np.arccos(cosines.clip(-1, 1))).max()), gap
