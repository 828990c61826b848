"""Terrain, trees, rocks and buildings."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from splatscenes.builder import SceneBuilder, Spot, turn
from splatscenes.materials import Materials
from splatscenes.noise import fractal

FloatArray = npt.NDArray[np.float64]


class Terrain:
    """A height field over a square around the origin, as a smooth mesh.

    Args:
        scene: scene to add it to.
        material: material of the ground.
        half: half the side of the square, metres.
        relief: height between the lowest and the highest point, metres.
        rng: random generator.
        cells: lattice cells of the coarsest hills.
    """

    RESOLUTION = 40  # cells along each side: 3200 triangles, smooth enough for hills

    def __init__(
        self,
        scene: SceneBuilder,
        material: int,
        half: float,
        relief: float,
        rng: np.random.Generator,
        cells: int = 3,
    ) -> None:
        n = self.RESOLUTION
        # Low gain, 0.35: rolling hills rather than crags.
        field = fractal(64, (cells, cells), 3, rng, 0.35).astype(np.float64)[: n + 1, : n + 1]
        self.heights = (field - field.min()) / np.ptp(field) * relief
        self.half = half
        line = np.linspace(-half, half, n + 1)
        x, y = np.meshgrid(line, line)
        vertices = np.stack([x, y, self.heights], -1).reshape(-1, 3)
        corner = (np.arange(n)[:, None] * (n + 1) + np.arange(n)).reshape(-1)
        first = np.stack([corner, corner + 1, corner + n + 1], 1)
        second = np.stack([corner + 1, corner + n + 2, corner + n + 1], 1)
        scene.add_mesh(vertices, np.concatenate([first, second]), material)

    def height(self, x: float, y: float) -> float:
        """Height of the ground at a point, clamped to the edge of the terrain."""
        n = self.RESOLUTION
        u = min(max((x / self.half + 1) / 2 * n, 0.0), n - 1e-6)
        v = min(max((y / self.half + 1) / 2 * n, 0.0), n - 1e-6)
        i, j = int(u), int(v)
        fx, fy = u - i, v - j
        grid = self.heights
        low = grid[j, i] * (1 - fx) + grid[j, i + 1] * fx
        high = grid[j + 1, i] * (1 - fx) + grid[j + 1, i + 1] * fx
        return float(low * (1 - fy) + high * fy)


def tree(spot: Spot, materials: Materials, rng: np.random.Generator, snowy: bool = False) -> None:
    """A leafy tree, a conifer, a palm or a bare trunk with branches."""
    kind = int(rng.choice([0, 0, 0, 1, 1, 2, 3]))  # leafy trees are the most common
    h = rng.uniform(3.0, 8.0)
    bark = materials("bark")
    green = materials("snow") if snowy and rng.uniform() < 0.5 else materials("leaves")
    if kind == 0:
        spot.cylinder((0, 0, 0), 0.035 * h, 0.55 * h, bark, taper=0.4)
        crown = rng.uniform(0.16, 0.28) * h
        for _ in range(int(rng.integers(2, 7))):
            x, y, z = rng.normal(0, 0.5 * crown, 3)
            r = crown * rng.uniform(0.6, 1.0)
            spot.ball((x, y, 0.68 * h + 0.6 * z), (r, r, r * rng.uniform(0.7, 1.0)), green)
    elif kind == 1:
        spot.cylinder((0, 0, 0), 0.03 * h, 0.3 * h, bark)
        layers = int(rng.integers(2, 5))
        for k in range(layers):
            r = 0.22 * h * (1 - 0.75 * k / layers)
            base = 0.16 * h + 0.8 * h * k / layers
            spot.cylinder((0, 0, base), r, 1.25 * h / layers, green, taper=0.95)
    elif kind == 2:
        lean = turn(0, rng.uniform(-0.12, 0.12))
        spot.cylinder((0, 0, 0), 0.03 * h, h * 0.85, bark, taper=0.4, rotation=lean)
        for k in range(7):
            droop = turn(k * 0.9, 1.15 + 0.2 * (k % 2))
            tip = droop @ np.array([0, 0, 0.2 * h])
            spot.ball((tip[0], tip[1], 0.85 * h + tip[2]), (0.1, 0.035 * h, 0.22 * h), green, droop)
    else:
        spot.cylinder((0, 0, 0), 0.04 * h, 0.8 * h, bark, taper=0.8)
        for k in range(5):
            branch = turn(k * 2.1, rng.uniform(0.6, 1.1))
            tip = branch @ np.array([0, 0, 0.14 * h])
            z = 0.35 * h + 0.07 * k * h + tip[2] - 0.14 * h
            spot.cylinder(
                (tip[0], tip[1], z), 0.012 * h, 0.28 * h, bark, taper=0.6, rotation=branch
            )


def bush(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A low shrub."""
    green = materials("leaves")
    for _ in range(int(rng.integers(1, 4))):
        r = rng.uniform(0.3, 0.8)
        spot.ball((rng.normal(0, 0.4), rng.normal(0, 0.4), 0.4 * r), (r, r, 0.8 * r), green)


def boulder(
    spot: Spot, materials: Materials, rng: np.random.Generator, size: float | None = None
) -> None:
    """A rock: a squashed ball, tilted block or knobbly mesh."""
    s = size or rng.uniform(0.3, 1.6)
    rock = materials("rock")
    kind = int(rng.integers(3))
    tilt = turn(rng.uniform(0, 3), rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4))
    if kind == 0:
        spot.ball(
            (0, 0, 0.2 * s), (s, s * rng.uniform(0.6, 1), s * rng.uniform(0.4, 0.8)), rock, tilt
        )
    elif kind == 1:
        spot.box((0, 0, -0.2 * s), (s * 1.4, s, s * rng.uniform(0.7, 1.4)), rock, rotation=tilt)
    else:
        vertices, faces = _knob(rng)
        spot.mesh(vertices * s + np.array([0, 0, 0.3 * s]), faces, rock)


def _knob(rng: np.random.Generator) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """A lumpy ball of 64 triangles around the origin."""
    rings, sides = 4, 8
    points = [(0.0, 0.0, -1.0)]
    for i in range(1, rings + 1):
        polar = math.pi * i / (rings + 1)
        for j in range(sides):
            around = 2 * math.pi * (j + 0.5 * (i % 2)) / sides
            flat = math.sin(polar)
            points.append((flat * math.cos(around), flat * math.sin(around), -math.cos(polar)))
    points.append((0.0, 0.0, 1.0))
    faces = []
    for j in range(sides):
        faces.append((0, 1 + (j + 1) % sides, 1 + j))
        last = 1 + (rings - 1) * sides
        faces.append((len(points) - 1, last + j, last + (j + 1) % sides))
        for i in range(rings - 1):
            a, b = 1 + i * sides + j, 1 + i * sides + (j + 1) % sides
            faces += [(a, b, a + sides), (b, b + sides, a + sides)]
    vertices = np.array(points) * rng.uniform(0.75, 1.2, (len(points), 1))
    return vertices * np.array([1.0, 0.85, 0.75]), np.array(faces)


def gable_roof(spot: Spot, material: int, gable: int, size: tuple[float, float, float]) -> None:
    """A gable roof over a rectangle: ridge along x, eaves overhanging."""
    w, d, h = size[0] / 2 + 0.35, size[1] / 2 + 0.45, size[2]
    low = -0.45 * h / (d - 0.45)  # continues the slope to the eaves
    corners = np.array(
        [[-w, -d, low], [w, -d, low], [w, 0, h], [-w, 0, h], [-w, d, low], [w, d, low]]
    )
    spot.mesh(corners, np.array([[0, 1, 2], [0, 2, 3], [3, 2, 5], [3, 5, 4]]), material)
    w, d = size[0] / 2, size[1] / 2
    ends = np.array(
        [[-w, -d, 0], [-w, d, 0], [-w, 0, h - 0.05], [w, -d, 0], [w, d, 0], [w, 0, h - 0.05]]
    )
    spot.mesh(ends, np.array([[0, 2, 1], [3, 4, 5]]), gable)


def house(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A small house with a gable, porch or flat roof; front at −y."""
    w, d = rng.uniform(5, 10), rng.uniform(5, 8)
    storeys = int(rng.integers(1, 3))
    h = 2.9 * storeys
    front, roof = materials("front"), materials("roof")
    spot.box((0, 0, 0), (w, d, h), front, roof)
    if rng.uniform() < 0.75:
        gable_roof(spot.at(0, 0, h), roof, materials("brickwork"), (w, d, rng.uniform(1.5, 3.2)))
        spot.box((w * 0.25, d * 0.15, h), (0.6, 0.6, rng.uniform(2, 3)), materials("brickwork"))
    else:
        spot.box((0, 0, h), (w + 0.6, d + 0.6, 0.25), materials("stone"))
    door = rng.uniform(-0.3, 0.3) * w
    spot.box((door, -d / 2 - 0.03, 0), (1.1, 0.08, 2.1), materials("paint"))
    if rng.uniform() < 0.5:
        spot.box((door, -d / 2 - 0.9, 2.3), (2.4, 1.8, 0.12), materials("roof"))
        for side in (-1, 1):
            spot.cylinder((door + side * 1.1, -d / 2 - 1.7, 0), 0.07, 2.3, materials("paint"))
    if rng.uniform() < 0.5:
        spot.box((door, -d / 2 - 0.8, 0), (1.8, 1.6, 0.18), materials("stone"))


def block(
    spot: Spot, materials: Materials, rng: np.random.Generator, size: tuple[float, float, float]
) -> None:
    """A town house or office block with shops, ledges and rooftop structures."""
    w, d, h = size
    tall = h > 16
    front = materials("tower" if tall else "front")
    flat = materials("pavement")
    spot.box((0, 0, 0), (w, d, h), front, flat)
    if rng.uniform() < 0.6:
        spot.box((0, 0, 0), (w + 0.1, d + 0.1, 3.4), materials("shop"))
        spot.box((0, 0, 3.4), (w + 0.5, d + 0.5, 0.25), materials("stone"))
    if rng.uniform() < 0.6:
        spot.box((0, 0, h), (w + 0.5, d + 0.5, 0.5), materials("stone"), flat)
    if tall and rng.uniform() < 0.5:
        spot.box((0, 0, h), (w * 0.65, d * 0.65, h * rng.uniform(0.15, 0.5)), front, flat)
    elif not tall and rng.uniform() < 0.35:
        gable_roof(
            spot.at(0, 0, h), materials("roof"), materials("brickwork"), (w, d, rng.uniform(2, 4))
        )
        return
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(-0.35, 0.35) * w, rng.uniform(-0.35, 0.35) * d
        spot.box(
            (x, y, h + 0.4),
            (rng.uniform(0.8, 2), rng.uniform(0.8, 2), rng.uniform(0.6, 1.8)),
            materials("metal"),
        )


def skyline(
    scene: SceneBuilder, materials: Materials, rng: np.random.Generator, distance: float
) -> None:
    """Hills or buildings all around, which hide the edge of the ground."""
    hills = rng.uniform() < 0.6
    material = materials("leaves" if rng.uniform() < 0.6 else "rock") if hills else None
    spot = Spot(scene)
    around = 0.0
    while around < 2 * math.pi:
        r = distance * rng.uniform(0.95, 1.3)
        x, y = r * math.cos(around), r * math.sin(around)
        if material is not None:
            s = rng.uniform(0.2, 0.4) * r
            spot.ball((x, y, -0.1 * s), (s, s, s * rng.uniform(0.25, 0.6)), material)
            around += 0.8 * s / r
        else:
            s = rng.uniform(0.1, 0.25) * r
            tall = rng.uniform(0.1, 0.45) * r
            spot.at(x, y, 0, around).box(
                (0, 0, 0), (s, s, tall), materials("tower"), materials("stone")
            )
            around += 1.3 * s / r
