"""Camera paths through a world: smooth, clear of all surfaces, and with enough to see."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splatscenes.raycast import Pinhole, measure
from splatscenes.stage import Stage
from splatscenes.trace import clearances
from splatscenes.world import World

FloatArray = npt.NDArray[np.float64]
# Positions (N, 3) and look-at points (N, 3) for path times (N,) in [0, 1].
Path = tuple[FloatArray, FloatArray]
PathMaker = Callable[[Stage, FloatArray, np.random.Generator], Path]

_TRIES = 60  # candidate paths before the world is given up
_CHECKED = 5  # views of a candidate that are measured before it is accepted


@dataclass(frozen=True)
class Shot:
    """The cameras of a scene.

    Attributes:
        world_from_camera: (V, 4, 4) rigid, OpenCV axes.
        K: (3, 3) pixels, the same for all views.
        width: width in pixels.
        height: height in pixels.
        path: kind of path, a key of `PATHS`.
    """

    world_from_camera: FloatArray
    K: FloatArray
    width: int
    height: int
    path: str

    def camera(self, view: int) -> Pinhole:
        """One of the cameras."""
        return Pinhole(self.world_from_camera[view], self.K, self.width, self.height)


def _start(stage: Stage, rng: np.random.Generator) -> FloatArray:
    return rng.uniform(stage.low, stage.high)


def _focus(stage: Stage, rng: np.random.Generator) -> FloatArray:
    return np.array(stage.focuses[int(rng.integers(len(stage.focuses)))], dtype=np.float64)


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / (np.linalg.norm(vector) + 1e-12))


def _walk(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """A curved walk, looking ahead and slightly aside."""
    start, length = _start(stage, rng), rng.uniform(*stage.reach)
    heading, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-1.2, 1.2)  # radians
    angle = heading + bend * times
    step = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(times)], 1)
    spacing = np.gradient(times)[:, None]
    way = np.cumsum(step * spacing, axis=0)
    positions = start + length * (way - way[0])
    look = angle + rng.uniform(-0.7, 0.7) + rng.uniform(-0.4, 0.4) * np.sin(math.pi * times)
    # Pitch: mostly a little downwards, as one looks while walking.
    ahead = np.stack([np.cos(look), np.sin(look), np.full_like(times, rng.uniform(-0.3, 0.08))], 1)
    return positions, positions + 4 * ahead  # looks at points 4 m away


def _dolly(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """Straight towards or away from a focus."""
    start, focus = _start(stage, rng), _focus(stage, rng)
    offset = focus - start
    # Stop before the focus: the last quarter of the way would be too close.
    length = min(rng.uniform(*stage.reach), 0.75 * float(np.linalg.norm(offset)))
    way = times if rng.uniform() < 0.7 else 1 - times  # people walk forwards more often
    return start + length * way[:, None] * _unit(offset), np.tile(focus, (len(times), 1))


def _truck(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """Sideways, looking straight ahead."""
    start, focus = _start(stage, rng), _focus(stage, rng)
    forward = _unit(focus - start)
    side = _unit(np.cross(forward, [0.0, 0.0, 1.0])) * rng.choice([-1, 1])
    positions = start + rng.uniform(*stage.reach) * (times - 0.5)[:, None] * side
    turn = rng.uniform(0, 0.6)  # 0: parallel views; 1: all views look at the focus
    return positions, focus + (1 - turn) * (positions - start)


def _arc(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """Part of a circle around a focus, through a random start."""
    start, focus = _start(stage, rng), _focus(stage, rng)
    radius = float(np.linalg.norm((start - focus)[:2])) + 1e-6
    # Capped at 0.5 to 2 rad, so that all views overlap.
    sweep = min(rng.uniform(*stage.reach) / radius, rng.uniform(0.5, 2.0)) * rng.choice([-1, 1])
    first = math.atan2(start[1] - focus[1], start[0] - focus[0])
    angle = first + sweep * times
    z = start[2] + rng.uniform(-0.2, 0.2) * radius * times
    ring = np.stack([focus[0] + radius * np.cos(angle), focus[1] + radius * np.sin(angle), z], 1)
    return ring, np.tile(focus, (len(times), 1))


def _orbit(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """A long way around a focus, up to most of a circle."""
    focus = _focus(stage, rng)
    size = np.array(stage.high) - np.array(stage.low)
    radius = rng.uniform(0.25, 0.6) * float(min(size[0], size[1]))
    angle = rng.uniform(0, 2 * math.pi) + rng.choice([-1, 1]) * rng.uniform(0.7, 5.0) * times
    z = rng.uniform(stage.low[2], stage.high[2]) + rng.uniform(-0.15, 0.15) * radius * times
    ring = np.stack([focus[0] + radius * np.cos(angle), focus[1] + radius * np.sin(angle), z], 1)
    return ring, np.tile(focus, (len(times), 1))


def _crane(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """Up or down, with a sideways drift."""
    start, focus = _start(stage, rng), _focus(stage, rng)
    rise = (stage.high[2] - start[2]) if rng.uniform() < 0.5 else (stage.low[2] - start[2])
    drift = np.append(rng.normal(0, 0.25, 2) * stage.reach[0], rise)
    return start + times[:, None] * drift, np.tile(focus, (len(times), 1))


def _pan(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """A slow turn while stepping sideways, as people do to show a room."""
    start, turn = _start(stage, rng), rng.uniform(0.5, 1.6) * rng.choice([-1, 1])
    angle = rng.uniform(0, 2 * math.pi) + turn * times
    # The turn alone would leave no baseline, hence the wide step.
    step = rng.uniform(0.6, 1.0) * stage.reach[0] * 2
    away = np.stack(
        [np.cos(angle), np.sin(angle), np.full_like(times, rng.uniform(-0.25, 0.05))], 1
    )
    side = np.stack([np.sin(angle), -np.cos(angle), np.zeros_like(times)], 1) * math.copysign(
        1, turn
    )
    positions = start + step * (side - side[0]) + 0.4 * step * times[:, None] * away
    return positions, positions + 3 * away


def _fly(stage: Stage, times: FloatArray, rng: np.random.Generator) -> Path:
    """A flight above the world, looking down and ahead."""
    start = _start(stage, rng)
    start[2] = stage.low[2] + rng.uniform(0.5, 1.0) * (stage.high[2] - stage.low[2])
    heading, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-0.8, 0.8)
    angle = heading + bend * times
    step = np.stack([np.cos(angle), np.sin(angle), np.full_like(times, rng.uniform(-0.1, 0.1))], 1)
    way = np.cumsum(step * np.gradient(times)[:, None], axis=0)
    positions = start + rng.uniform(*stage.reach) * (way - way[0])
    look = angle + rng.uniform(-0.5, 0.5)
    # 14° to 48° below the horizon.
    down = np.full_like(times, -rng.uniform(0.25, 1.1))
    return positions, positions + 10 * np.stack([np.cos(look), np.sin(look), down], 1)


PATHS: dict[str, PathMaker] = {
    "walk": _walk, "dolly": _dolly, "truck": _truck, "arc": _arc, "orbit": _orbit,
    "crane": _crane, "pan": _pan, "fly": _fly,
}  # fmt: skip


def _shake(
    positions: FloatArray, targets: FloatArray, times: FloatArray, rng: np.random.Generator
) -> Path:
    """Hand shake: slow sines of random phase on position and aim."""
    # The 0.2 m keep some shake in paths that hardly move.
    reach = float(np.linalg.norm(positions[-1] - positions[0])) + 0.2
    distance = np.linalg.norm(targets - positions, axis=1, keepdims=True)
    strength = rng.uniform(0, 0.02)
    for frequency in (1.3, 2.9, 5.2):  # cycles per path; no common divisor, so it never repeats
        wave = np.sin(2 * math.pi * (frequency * times[:, None] + rng.uniform(0, 1, 3)))
        positions = positions + strength * reach / frequency * wave
        aim = np.sin(2 * math.pi * (frequency * times[:, None] + rng.uniform(0, 1, 3)))
        targets = targets + strength * distance / frequency * aim
    return positions, targets


def look_at_poses(positions: FloatArray, targets: FloatArray, rolls: FloatArray) -> FloatArray:
    """Camera-to-world poses (N, 4, 4), OpenCV axes, z up, rolled by `rolls` (N,) radians."""
    forward = targets - positions
    forward = forward / np.linalg.norm(forward, axis=1, keepdims=True)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right = right / (np.linalg.norm(right, axis=1, keepdims=True) + 1e-12)
    down = np.cross(forward, right)
    cos, sin = np.cos(rolls)[:, None], np.sin(rolls)[:, None]
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    poses[:, :3, 0] = cos * right + sin * down
    poses[:, :3, 1] = cos * down - sin * right
    poses[:, :3, 2] = forward
    poses[:, :3, 3] = positions
    return poses


def _is_free(world: World, stage: Stage, positions: FloatArray) -> bool:
    inside = (positions > np.array(stage.low)) & (positions < np.array(stage.high))
    return bool(inside.all()) and bool(
        (clearances(world, positions, stage.clearance) >= stage.clearance).all()
    )


def _interest(world: World, shot: Shot, stage: Stage) -> float:
    """How much there is to see, in [0, 1]; 0 for views of a close wall or of mostly sky."""
    worst, total = 1.0, 0.0
    for view in np.linspace(0, len(shot.world_from_camera) - 1, _CHECKED).astype(int):
        depth, _, faces = measure(world, shot.camera(int(view)))
        solid = depth > 0
        if solid.mean() < 0.35:  # mostly sky
            return 0.0
        near = (depth[solid] < 2.5 * stage.clearance).mean()
        median = float(np.median(depth[solid]))
        # A quarter of the view right before the camera, or nothing further away than a wall.
        if near > 0.25 or median < 4 * stage.clearance:
            return 0.0
        variety = min(len(np.unique(faces)) / 25, 1.0)  # 25 faces count as a full view
        worst = min(worst, variety)
        total += variety
    # One dull view spoils a clip, so the worst view counts as much as the mean.
    return 0.5 * worst + 0.5 * total / _CHECKED


def _candidate(stage: Stage, num_views: int, name: str, rng: np.random.Generator) -> FloatArray:
    # At least 24 samples, so that the path does not depend on a small number of views.
    dense = max(num_views, 24)
    times = np.linspace(0, 1, dense)
    positions, targets = PATHS[name](stage, times, rng)
    positions, targets = _shake(positions, targets, times, rng)
    # Hand-held: about 2° of constant roll, 1° of sway.
    rolls = np.full(dense, rng.normal(0, 0.03)) + 0.02 * np.sin(
        2 * math.pi * times + rng.uniform(0, 6)
    )
    return look_at_poses(positions, targets, rolls)


def place_cameras(
    world: World, stage: Stage, num_views: int, size: tuple[int, int], rng: np.random.Generator
) -> Shot:
    """Sample camera paths until one is free of obstacles and sees enough.

    Args:
        world: the world.
        stage: where the camera may go.
        num_views: number of cameras along the path, evenly spaced.
        size: height and width in pixels.
        rng: random generator.

    Raises:
        RuntimeError: if no path is free; the caller then builds another world.
    """
    height, width = size
    # Across the longer side: from a standard to a wide-angle lens.
    fov = math.radians(rng.uniform(42, 88))
    focal = 0.5 * max(height, width) / math.tan(fov / 2)
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])
    best, best_interest = None, 0.0
    good = rng.uniform(0.35, 0.75)  # accept plain views in some scenes, as in real captures
    for _ in range(_TRIES):
        name = stage.paths[int(rng.integers(len(stage.paths)))]
        poses = _candidate(stage, num_views, name, rng)
        if not _is_free(world, stage, poses[:, :3, 3]):
            continue
        pick = np.linspace(0, len(poses) - 1, num_views).round().astype(int)
        shot = Shot(poses[pick], K, width, height, name)
        interest = _interest(world, shot, stage)
        if interest > best_interest:
            best, best_interest = shot, interest
        if best_interest > good:
            break
    if best is None:
        raise RuntimeError(f"no free camera path in this {stage.name}")
    return best
