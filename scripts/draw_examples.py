"""Draw the example inputs: pictures of an office and a drone's flight over a village.

    python scripts/draw_examples.py [FOLDER]        # default: assets/examples

Both are ray-cast from one scene each, so every picture shows the same walls, books and houses from
another place, as photographs would. Nothing is random beyond fixed seeds. Axes are OpenCV's: x
right, y down, z forward; lengths are metres.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image

from zipsplat.files import atomic_path
from zipsplat.video import write_video

Array = NDArray[np.float32]
Texture = Callable[[Array], Array]  # points (P, 3) -> RGB (P, 3)

OFFICE_SIZE = (360, 480)
OFFICE_VIEWS = 6
DRONE_SIZE = (272, 480)
DRONE_FRAMES = 96
FAR = np.float32(1e9)
BOX, ROOM, BALL = range(3)


@dataclass(frozen=True)
class Thing:
    """A box given by two corners, or a ball given by its centre and (radius, 0, 0)."""

    kind: int
    first: tuple[float, float, float]
    second: tuple[float, float, float]
    texture: Texture

    def normals(self, points: Array) -> Array:
        """Outward normals (P, 3) at points on the surface."""
        if self.kind == BALL:
            return (points - np.float32(self.first)) / np.float32(self.second[0])
        low, high = np.float32(self.first), np.float32(self.second)
        offsets = (points - (low + high) / 2) / ((high - low) / 2)
        axis = np.abs(offsets).argmax(1)
        rows = np.arange(len(points))
        normals = np.zeros(points.shape, np.float32)
        normals[rows, axis] = np.sign(offsets[rows, axis])
        return -normals if self.kind == ROOM else normals


def box(low: tuple, high: tuple, texture: Texture, *, is_room: bool = False) -> Thing:
    """An axis-aligned box, seen from outside, or from inside as a room."""
    return Thing(ROOM if is_room else BOX, low, high, texture)


def ball(center: tuple, radius: float, texture: Texture) -> Thing:
    """A sphere."""
    return Thing(BALL, center, (radius, 0, 0), texture)


@dataclass
class Scene:
    """Things, and the light they stand in."""

    light: tuple[float, float, float]  # where it is, or the direction to it if `sun`
    sun: bool = False
    things: list[Thing] = field(default_factory=list)

    def trace(self, origins: Array, directions: Array) -> Array:
        """The colours (P, 3) that rays with unit directions see."""
        distance, owner = self._first_hits(origins, directions, np.full(len(origins), FAR))
        colors = _sky(directions)
        for index in np.unique(owner[owner >= 0]):
            chosen = owner == index
            thing = self.things[index]
            points = origins[chosen] + distance[chosen, None] * directions[chosen]
            lit = thing.texture(points) * self._light(points, thing.normals(points))[:, None]
            if self.sun:  # the air between
                haze = np.clip(distance[chosen, None] / 180, 0, 1) ** 1.5
                lit = lit * (1 - haze) + np.float32([0.75, 0.84, 0.93]) * haze
            colors[chosen] = lit
        return np.clip(colors, 0, 1)

    def _light(self, points: Array, normals: Array) -> Array:
        """How bright the surface is (P,)."""
        towards = np.broadcast_to(np.float32(self.light), points.shape)
        towards = towards if self.sun else towards - points
        reach = np.linalg.norm(towards, axis=1)
        towards = np.ascontiguousarray(towards / reach[:, None])
        limit = np.full(len(points), FAR) if self.sun else reach
        start = np.ascontiguousarray(points + 2e-3 * normals)
        _, blocker = self._first_hits(start, towards, limit.astype(np.float32), is_shadow=True)
        facing = np.clip((normals * towards).sum(1), 0, 1)
        ambient = 0.42 - 0.14 * normals[:, 1] + 0.06 * normals[:, 0]
        return ambient + 0.62 * facing * (blocker < 0)

    def _first_hits(
        self, origins: Array, directions: Array, limit: Array, *, is_shadow: bool = False
    ) -> tuple[Array, NDArray[np.int32]]:
        kinds = np.array([thing.kind for thing in self.things])
        first = np.array([thing.first for thing in self.things], np.float32)
        second = np.array([thing.second for thing in self.things], np.float32)
        return _first_hits(kinds, first, second, origins, directions, limit, is_shadow)


@njit(fastmath=True)
def _first_hits(kinds, first, second, origins, directions, limit, is_shadow):  # type: ignore[no-untyped-def]
    """Distance to and index of what each ray hits first; −1 if nothing before its limit."""
    distances, owners = limit.copy(), np.full(len(origins), -1, np.int32)
    inverse = np.empty(3, np.float32)
    for ray in range(len(origins)):
        o, d = origins[ray], directions[ray]
        for axis in range(3):
            inverse[axis] = 1 / (d[axis] if abs(d[axis]) > 1e-8 else np.float32(1e-8))
        for index in range(len(kinds)):
            if is_shadow and kinds[index] == ROOM:
                continue
            if kinds[index] == BALL:
                t = _hit_ball(o, d, first[index], second[index][0])
            else:
                t = _hit_box(o, inverse, first[index], second[index], kinds[index] == ROOM)
            if 1e-3 < t < distances[ray]:
                distances[ray], owners[ray] = t, index
    return distances, owners


@njit(fastmath=True)
def _hit_ball(o, d, center, radius):  # type: ignore[no-untyped-def]
    along, square = np.float32(0), np.float32(0)
    for axis in range(3):
        offset = o[axis] - center[axis]
        along += offset * d[axis]
        square += offset * offset
    inner = along * along - square + radius * radius
    return -along - np.sqrt(inner) if inner > 0 else np.float32(-1)


@njit(fastmath=True)
def _hit_box(o, inverse, low, high, is_room):  # type: ignore[no-untyped-def]
    enter, leave = np.float32(-1e9), np.float32(1e9)
    for axis in range(3):
        a, b = (low[axis] - o[axis]) * inverse[axis], (high[axis] - o[axis]) * inverse[axis]
        enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
        if enter >= leave or leave < 0:
            return np.float32(-1)
    return leave if is_room else enter


def _sky(directions: Array) -> Array:
    up = np.clip(-directions[:, 1:2], 0, 1)
    horizon, zenith = np.float32([0.80, 0.88, 0.96]), np.float32([0.35, 0.58, 0.88])
    return horizon * (1 - up) + zenith * up


@njit
def _hash(x, y, z, seed):  # type: ignore[no-untyped-def]
    """A fixed number in [0, 1) for each integer point."""
    mixed = x * 374761393 + y * 668265263 + z * 2147483647 + seed * 144665
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF) / 65536


@njit
def _noise(scaled, seed):  # type: ignore[no-untyped-def]
    total = np.zeros(len(scaled), np.float32)
    for index in range(len(scaled)):
        cell = np.floor(scaled[index])
        t = scaled[index] - cell
        t = t * t * (3 - 2 * t)
        x, y, z = int(cell[0]), int(cell[1]), int(cell[2])
        for corner in range(8):
            i, j, k = corner & 1, corner >> 1 & 1, corner >> 2
            weight = (t[0] if i else 1 - t[0]) * (t[1] if j else 1 - t[1])
            weight *= t[2] if k else 1 - t[2]
            total[index] += weight * _hash(x + i, y + j, z + k, seed)
    return total


def noise(points: Array, size: float, seed: int = 0) -> Array:
    """Smooth values (P,) in [0, 1] that vary over `size` metres."""
    return _noise(points.astype(np.float64) / size, seed)


def plain(*rgb: float, grain: float = 0.12, size: float = 0.15) -> Texture:
    """One colour with some grain."""
    return lambda p: np.float32(rgb) * (1 - grain + grain * noise(p, size)[:, None])


def checks(first: tuple, second: tuple, size: float, axes: tuple[int, int] = (0, 2)) -> Texture:
    """A board of two colours."""

    def texture(p: Array) -> Array:
        odd = np.floor(p[:, axes[0]] / size).astype(int) + np.floor(p[:, axes[1]] / size).astype(
            int
        )
        color = np.where(odd[:, None] % 2 == 1, np.float32(first), np.float32(second))
        return color * (0.85 + 0.15 * noise(p, size / 3)[:, None])

    return texture


def wood(*rgb: float) -> Texture:
    """Planks along x."""
    stretch = np.float32([0.12, 1, 1])
    return lambda p: (
        np.float32(rgb)
        * (0.65 + 0.35 * noise(p * stretch, 0.02)[:, None] * (0.6 + 0.4 * noise(p, 0.3)[:, None]))
    )


def bricks(*rgb: float) -> Texture:
    """Rows of bricks on upright walls."""

    def texture(p: Array) -> Array:
        row = np.floor(p[:, 1] / 0.28)
        along = (p[:, 0] + p[:, 2]) / 0.6 + 0.5 * (row % 2)
        joint = (p[:, 1] / 0.28 - row < 0.14) | (along % 1 < 0.07)
        cell = np.stack([np.floor(along), row, 0 * row], 1)
        tone = 0.75 + 0.25 * noise(cell, 1, 5)[:, None]
        return np.where(joint[:, None], np.float32([0.80, 0.78, 0.74]), np.float32(rgb) * tone)

    return texture


def poster(seed: int, axes: tuple[int, int]) -> Texture:
    """A picture of coloured rings and bars."""
    rng = np.random.default_rng(seed)
    palette = rng.uniform(0.1, 0.95, (6, 3)).astype(np.float32)

    def texture(p: Array) -> Array:
        u, v = p[:, axes[0]], p[:, axes[1]]
        ring = np.floor(np.hypot(u % 0.9 - 0.45, v % 0.7 - 0.35) * 14).astype(int)
        bar = np.floor((u + 0.6 * v) * 7).astype(int)
        return palette[(ring + 2 * bar) % 6] * (0.9 + 0.1 * noise(p, 0.05)[:, None])

    return texture


def office() -> Scene:
    """A room with a desk, shelves, a chair and things to recognise; the floor is at y = 0."""
    rng = np.random.default_rng(7)
    scene = Scene(light=(0.6, -2.55, 0.4))
    add = scene.things.append

    def walls(p: Array) -> Array:
        floor, ceiling = p[:, 1] > -1e-2, p[:, 1] < -2.69
        paint = np.float32([0.86, 0.83, 0.74]) * (0.93 + 0.07 * noise(p, 0.2)[:, None])
        skirting = ((p[:, 1] > -0.12) & ~floor)[:, None]
        paint = np.where(skirting, np.float32([0.35, 0.25, 0.20]), paint)
        tiles = checks((0.55, 0.40, 0.28), (0.67, 0.52, 0.38), 0.5)(p)
        paint = np.where(floor[:, None], tiles, paint)
        return np.where(ceiling[:, None], np.float32([0.92, 0.92, 0.90]), paint)

    add(box((-2.5, -2.7, -2.6), (2.5, 0, 2.4), walls, is_room=True))
    add(box((-1.9, -1.95, 2.36), (-0.7, -1.05, 2.4), poster(1, (0, 1))))
    add(box((2.46, -2.1, -0.6), (2.5, -1.0, 1.0), poster(5, (2, 1))))
    add(box((-0.4, -0.76, 1.3), (1.5, -0.71, 2.2), wood(0.72, 0.48, 0.28)))  # desk
    for x, z in ((-0.38, 1.32), (1.42, 1.32), (-0.38, 2.12), (1.42, 2.12)):
        add(box((x, -0.71, z), (x + 0.06, 0, z + 0.06), plain(0.25, 0.25, 0.28)))
    screen = checks((0.10, 0.35, 0.65), (0.15, 0.60, 0.75), 0.11, (0, 1))
    add(box((0.1, -1.35, 1.92), (0.9, -0.9, 1.97), screen))
    add(box((0.46, -0.92, 1.93), (0.54, -0.76, 1.99), plain(0.1, 0.1, 0.1)))
    add(box((0.2, -0.79, 1.45), (0.75, -0.76, 1.65), checks((0.2,) * 3, (0.85,) * 3, 0.04)))
    add(box((0.95, -0.85, 1.5), (1.05, -0.76, 1.6), plain(0.85, 0.20, 0.15)))
    add(ball((-0.15, -0.86, 1.7), 0.1, plain(0.95, 0.65, 0.10, grain=0.5, size=0.04)))
    for level in (-0.05, -0.55, -1.05, -1.55, -2.05):  # shelves
        add(box((-2.45, level - 0.04, -0.6), (-2.05, level, 1.6), wood(0.55, 0.36, 0.22)))
        z = -0.55
        while level < -0.5 and z < 1.45:
            width, height = rng.uniform(0.05, 0.13), rng.uniform(0.25, 0.42)
            color = rng.uniform(0.1, 0.9, 3)
            book = plain(*color, grain=0.3, size=0.06)
            low = (-2.42, level - 0.04 - height, z)
            add(box(low, (-2.12, level - 0.04, z + width), book))
            z += width + (0.01 if rng.random() < 0.8 else 0.25)
    add(box((0.2, -0.48, 0.55), (0.75, -0.42, 1.05), plain(0.75, 0.25, 0.20, grain=0.4, size=0.05)))
    add(box((0.2, -1.0, 0.55), (0.75, -0.48, 0.60), plain(0.75, 0.25, 0.20, grain=0.4, size=0.05)))
    add(box((0.44, -0.42, 0.77), (0.51, 0, 0.84), plain(0.2, 0.2, 0.2)))
    add(box((1.75, -0.4, 1.6), (2.15, 0, 2.0), bricks(0.75, 0.35, 0.25)))  # plant
    for index in range(14):
        at = np.float32([1.95, -0.75, 1.8]) + rng.normal(0, 0.17, 3)
        green = plain(0.15, 0.40 + 0.02 * index, 0.15, grain=0.5, size=0.05)
        add(ball(tuple(at), 0.16, green))
    return scene


def village() -> Scene:
    """Houses and trees along roads; the ground is at y = 0."""
    rng = np.random.default_rng(11)
    scene = Scene(light=(-0.5, -0.9, -0.35), sun=True)

    def ground(p: Array) -> Array:
        patch = noise(p, 9)[:, None] * 0.6 + noise(p, 1.5, 3)[:, None] * 0.4
        grass = (
            np.float32([0.24, 0.38, 0.14]) * (1 - patch) + np.float32([0.58, 0.60, 0.30]) * patch
        )
        along, across = np.abs(p[:, 0] - 2 * np.sin(p[:, 2] / 15)), np.abs(p[:, 2] - 38)
        near = np.minimum(along, across)
        dashes = (near < 0.12) & (np.where(along < across, p[:, 2], p[:, 0]) % 3 < 1.5)
        grass = np.where(near[:, None] < 2.2, np.float32([0.42, 0.41, 0.42]), grass)
        return np.where(dashes[:, None], np.float32([0.95, 0.95, 0.9]), grass)

    scene.things.append(box((-300, 0, -300), (300, 5, 300), ground))
    walls = [bricks(0.72, 0.35, 0.25), plain(0.92, 0.88, 0.78), bricks(0.85, 0.75, 0.55)]
    roofs = [(0.55, 0.20, 0.15), (0.35, 0.33, 0.36), (0.62, 0.38, 0.22)]
    for index in range(22):
        side = -1 if index % 2 else 1
        x, z = side * rng.uniform(7, 15), 6 + 3.6 * index + rng.uniform(-1, 1)
        if abs(z - 38) < 6:
            x, z = side * rng.uniform(17, 24), 38 + 8 * side
        w, d, h = rng.uniform(2, 3.2), rng.uniform(2, 3), rng.uniform(2.6, 4.5)
        scene.things.append(box((x - w, -h, z - d), (x + w, 0, z + d), walls[index % 3]))
        roof = checks(roofs[index % 3], tuple(0.8 * c for c in roofs[index % 3]), 0.4)
        for step in range(4):
            shrink = 0.25 - 0.55 * step
            low = (x - w - shrink / 2, -h - 0.4 * (step + 1), z - d - shrink)
            high = (x + w + shrink / 2, -h - 0.4 * step, z + d + shrink)
            scene.things.append(box(low, high, roof))
    for index in range(34):
        side = -1 if index % 2 else 1
        x, z = side * rng.uniform(4.2, 30), rng.uniform(2, 95)
        if abs(z - 38) < 4:
            continue
        r = rng.uniform(0.9, 1.8)
        bark = plain(0.35, 0.25, 0.18)
        scene.things.append(box((x - 0.15, -1.5, z - 0.15), (x + 0.15, 0, z + 0.15), bark))
        leaf = plain(0.12, rng.uniform(0.3, 0.5), 0.12, grain=0.6, size=0.4)
        scene.things.append(ball((x, -1.2 - r, z), r, leaf))
    return scene


def picture(
    scene: Scene, eye: Array, target: Array, focal: float, size: tuple[int, int], samples: int = 2
) -> NDArray[np.uint8]:
    """Look from `eye` at `target`; `focal` is in picture widths."""
    height, width = size
    rows, columns = np.mgrid[0 : height * samples, 0 : width * samples].astype(np.float32)
    x = ((columns + 0.5) / samples - width / 2) / (focal * width)
    y = ((rows + 0.5) / samples - height / 2) / (focal * width)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(np.float32([0, 1, 0]), forward)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])
    rays = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ axes
    rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
    origins = np.broadcast_to(eye.astype(np.float32), rays.shape)
    colors = scene.trace(origins, rays).reshape(height, samples, width, samples, 3).mean((1, 3))
    return np.rint(255 * colors ** (1 / 1.4)).astype(np.uint8)


def office_views() -> Iterator[NDArray[np.uint8]]:
    """A slow arc around the desk, at eye level, with a hand's unsteadiness."""
    scene, rng = office(), np.random.default_rng(3)
    for t in np.linspace(-1, 1, OFFICE_VIEWS):
        eye = np.array([0.2 + 1.5 * t, -1.5, -1.9 + 0.5 * t**2]) + rng.normal(0, 0.04, 3)
        target = np.array([-0.15 - 0.5 * t, -0.95, 1.7]) + rng.normal(0, 0.03, 3)
        yield picture(scene, eye, target, 0.75, OFFICE_SIZE)


def drone_views() -> Iterator[NDArray[np.uint8]]:
    """A flight over the village that climbs and turns a little."""
    scene = village()
    for t in np.linspace(0, 1, DRONE_FRAMES):
        eye = np.array([-5 + 9 * t, -9 - 4 * t, -14 + 26 * t])
        target = np.array([3 - 5 * t, 0, 22 + 20 * t])
        yield picture(scene, eye, target, 0.85, DRONE_SIZE)


def main(arguments: list[str]) -> int:
    """Draw everything and say what was written."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parents[1] / "assets" / "examples"
    for index, pixels in enumerate(office_views(), start=1):
        path = folder / "office" / f"{index:02d}.png"
        with atomic_path(path) as temporary:
            Image.fromarray(pixels).save(temporary, optimize=True)
        print(f"{path} {path.stat().st_size / 1000:.0f} kB")
    path = folder / "drone.mp4"
    write_video(path, drone_views(), fps=24)
    print(f"{path} {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
