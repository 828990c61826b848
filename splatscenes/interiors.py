"""Rooms: each function furnishes one kind and returns its `Stage`.

Lengths are in metres, within the ranges of real rooms and furniture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from splatscenes import furniture as f
from splatscenes.builder import SceneBuilder, Spot
from splatscenes.landscape import skyline
from splatscenes.lighting import light_indoors
from splatscenes.materials import Materials
from splatscenes.stage import Stage, Triple

Place = Callable[[SceneBuilder, Materials, np.random.Generator], Stage]
_INDOOR_PATHS = ("walk", "dolly", "truck", "arc", "pan")


@dataclass(frozen=True)
class Hall:
    """An empty room: the floor is at z = 0, its centre at the origin."""

    scene: SceneBuilder
    materials: Materials
    rng: np.random.Generator
    w: float
    d: float
    h: float
    room: int
    glazed: frozenset[int]  # sides with windows

    @property
    def floor(self) -> Spot:
        """Centre of the floor."""
        return Spot(self.scene)

    def wall(self, side: int, along: float = 0.0, off: float = 0.0) -> Spot:
        """A spot at a wall (0 … 3), facing the room along −y; `along` in [-1, 1]."""
        yaw = side * math.pi / 2
        width, depth = (self.w, self.d) if side % 2 == 0 else (self.d, self.w)
        return self.floor.at(0, 0, 0, -yaw).at(along * width / 2, depth / 2 - off)

    def span(self, side: int) -> float:
        """Length of a wall."""
        return self.w if side % 2 == 0 else self.d

    def stage(self, name: str, focuses: tuple[Triple, ...], clearance: float = 0.3) -> Stage:
        """The camera's volume: the whole room, at hand to eye height."""
        margin = clearance + 0.05
        low = (-self.w / 2 + margin, -self.d / 2 + margin, min(0.6, 0.3 * self.h))
        # Up to 2.2 m: arms raised.
        high = (self.w / 2 - margin, self.d / 2 - margin, min(self.h - margin, 2.2))
        # At least 35 cm of path for parallax, at most half the room.
        reach = (0.35, min(0.5 * max(self.w, self.d), 5.0))
        return Stage(name, low, high, focuses, reach, clearance, _INDOOR_PATHS)


def _hall(
    scene: SceneBuilder,
    materials: Materials,
    rng: np.random.Generator,
    size: tuple[tuple[float, float], tuple[float, float], tuple[float, float]],
    windows: float = 0.8,
) -> Hall:
    w, d, h = (float(rng.uniform(*span)) for span in size)
    wall, accent = materials("wall"), materials("wall")
    one = int(rng.integers(4))
    faces = [accent if side == one else wall for side in range(4)] + [
        materials("floor"),
        materials("ceiling"),
    ]
    room = scene.add_room((0, 0, h / 2), (w / 2, d / 2, h / 2), faces)
    number = int(rng.integers(1, 3)) if rng.uniform() < windows else 0
    glazed = frozenset(int(side) for side in rng.choice(4, number, replace=False))
    hall = Hall(scene, materials, rng, w, d, h, room, glazed)
    light_indoors(scene, materials, rng, (w / 2, d / 2, h / 2), (0, 0, h / 2))
    if glazed:
        outside = materials("ground")
        # The ground outside is a storey lower, so that windows show more than lawn.
        scene.add_solid(0, (0, 0, -3.2), (90, 90, 0.1), outside, loose=True)
        skyline(scene, materials, rng, 40)
        for side in sorted(glazed):
            _windows(hall, side)
    _skirting(hall)
    return hall


def _windows(hall: Hall, side: int) -> None:
    """Openings in a wall with frames, a sill and sometimes curtains."""
    rng, length = hall.rng, hall.span(side)
    count = max(1, int(length / rng.uniform(1.8, 3.2)))
    low, high = rng.uniform(0.05, 0.35), rng.uniform(0.78, 0.92)
    width = rng.uniform(0.4, 0.75) * length / count
    frame, cloth = hall.materials("paint"), hall.materials("fabric")
    curtains = rng.uniform() < 0.4
    face = (3, 1, 2, 0)[side]  # face of the room's box behind each wall
    for k in range(count):
        middle = (k + 0.5) / count * 2 - 1
        spot = hall.wall(side, middle)
        # In room coordinates: along the wall runs with +x or +y on two of the four sides.
        sign = 1.0 if side in (0, 3) else -1.0
        half = width / length
        span = (sign * middle - half, sign * middle + half, low * 2 - 1, high * 2 - 1)
        hall.scene.add_opening(hall.room, face, span)
        bottom, top = low * hall.h, high * hall.h
        for x in (-0.5, 0.0, 0.5):
            spot.box((x * width, 0.02, bottom), (0.06, 0.1, top - bottom), frame)
        for z in (bottom, (bottom + top) / 2, top):
            spot.box((0, 0.02, z - 0.03), (width, 0.1, 0.06), frame)
        spot.box((0, -0.06, bottom - 0.05), (width + 0.2, 0.22, 0.04), frame)
        if curtains:
            for x in (-0.58, 0.58):
                spot.box((x * width, -0.12, 0.05), (0.3 * width, 0.08, top + 0.05), cloth)


def _skirting(hall: Hall) -> None:
    material = hall.materials("wood" if hall.rng.uniform() < 0.5 else "paint")
    for side in range(4):
        hall.wall(side).box((0, 0, 0), (hall.span(side), 0.03, 0.1), material)


def _hang_paintings(hall: Hall, sides: tuple[int, ...], spacing: float, big: float) -> None:
    for side in sides:
        if side in hall.glazed:
            continue
        length = hall.span(side)
        count = max(1, int(length / spacing))
        for k in range(count):
            along = ((k + 0.5) / count * 2 - 1) + hall.rng.uniform(-0.05, 0.05)
            w, h = hall.rng.uniform(0.35, big), hall.rng.uniform(0.35, big)
            # Centres at eye level, 1.55 m, unless the ceiling is in the way.
            z = min(1.55, hall.h - h / 2 - 0.15) + hall.rng.uniform(-0.1, 0.1)
            spot = hall.wall(side, along, 0.03).at(0, 0, z)
            f.framed_painting(spot, hall.materials, hall.rng, (w, h))


def _along_walls(hall: Hall, makers: tuple[f.Maker, ...], share: float = 0.75) -> None:
    """Place furniture with its back to the walls."""
    for side in range(4):
        slots = max(1, int(hall.span(side) / 1.9))  # one per 1.9 m of wall
        for k in range(slots):
            if hall.rng.uniform() < share:
                along = ((k + 0.5) / slots * 2 - 1) * 0.86
                maker = makers[int(hall.rng.integers(len(makers)))]
                maker(hall.wall(side, along, 0.45), hall.materials, hall.rng)


def _door(hall: Hall) -> None:
    side, along = int(hall.rng.integers(4)), hall.rng.uniform(-0.6, 0.6)
    spot = hall.wall(side, along)
    frame = hall.materials("wood")
    spot.box((0, 0, 0), (1.0, 0.06, 2.08), frame)
    spot.box((0, -0.03, 0), (0.86, 0.04, 2.0), hall.materials("paint"))
    spot.ball((0.34, -0.08, 1.0), (0.035, 0.035, 0.035), hall.materials("metal"))


def _dressed_cabinet(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    h = f.cabinet(spot, materials, rng)
    f.clutter(spot.at(0, 0, h), materials, rng, (1.0, 0.3), int(rng.integers(2, 5)))


def living_room(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Sofas around a low table on a rug."""
    hall = _hall(scene, materials, rng, ((4.5, 7.5), (4.5, 7.0), (2.4, 3.2)))
    x, y = rng.uniform(-0.6, 0.6, 2)
    group = hall.floor.at(x, y, 0, rng.uniform(0, 6.3))
    group.box((0, 0, 0), (rng.uniform(2, 3.4), rng.uniform(1.6, 2.6), 0.015), materials("rug"))
    h = f.table(group.at(0, 0, 0.015), materials, rng, (1.1, 0.6, rng.uniform(0.35, 0.48)))
    f.clutter(group.at(0, 0, h + 0.015), materials, rng, (0.9, 0.4), int(rng.integers(2, 5)), 0.3)
    f.sofa(group.at(0, 1.25), materials, rng)
    if rng.uniform() < 0.7:
        f.sofa(group.at(-1.7, 0, 0, math.pi / 2), materials, rng)
    makers: tuple[f.Maker, ...] = (f.shelf, _dressed_cabinet, f.floor_lamp, f.potted_plant)
    _along_walls(hall, makers, 0.6)
    _hang_paintings(hall, (0, 1, 2, 3), 2.6, 0.9)
    _door(hall)
    return hall.stage("living room", ((x, y, 0.6), (x, y + 1.0, 0.8), (-x, -y, 1.2)))


def bedroom(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """A bed, chests, lamps."""
    hall = _hall(scene, materials, rng, ((3.6, 5.5), (3.8, 5.5), (2.3, 2.9)))
    along = rng.uniform(-0.3, 0.3)
    bed = hall.wall(0, along, 1.1)
    f.bed(bed, materials, rng)
    hall.floor.box((0, -0.3, 0), (2.4, 1.6, 0.012), materials("rug"))
    for dx in (-1.3, 1.3):
        side = bed.at(dx, 0.75)
        side.box((0, 0, 0), (0.45, 0.4, 0.5), materials("wood"))
        side.cylinder((0, 0, 0.5), 0.06, 0.2, materials("pottery"))
        side.cylinder((0, 0, 0.68), 0.15, 0.2, materials("lamp"), taper=0.35)
    for side_number in (1, 2, 3):
        maker: f.Maker = (f.shelf, _dressed_cabinet, f.desk)[int(rng.integers(3))]
        maker(hall.wall(side_number, rng.uniform(-0.4, 0.4), 0.5), materials, rng)
    _hang_paintings(hall, (0, 1, 3), 1.9, 0.7)
    return hall.stage("bedroom", ((along, 1.0, 0.6), (0, 0, 0.8)))


def office(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Desks with screens, shelves, boards."""
    hall = _hall(scene, materials, rng, ((5, 9), (5, 9), (2.5, 3.2)), 0.95)
    focuses: list[Triple] = []
    rows, columns = max(1, int(hall.d / 3)), max(1, int(hall.w / 2.6))
    for i in range(columns):
        for j in range(rows):
            if rng.uniform() < 0.75:
                x = ((i + 0.5) / columns - 0.5) * hall.w * 0.85
                y = ((j + 0.5) / rows - 0.5) * hall.d * 0.8
                f.desk(
                    hall.floor.at(x, y, 0, rng.choice([0.0, math.pi, math.pi / 2])), materials, rng
                )
                focuses.append((x, y, 0.85))
    makers: tuple[f.Maker, ...] = (f.shelf, _dressed_cabinet, f.potted_plant)
    _along_walls(hall, makers, 0.5)
    f.framed_painting(
        hall.wall(int(rng.integers(4)), 0, 0.03).at(0, 0, 1.5), materials, rng, (1.8, 1.0), "page"
    )
    _hang_paintings(hall, (1, 3), 2.5, 0.8)
    return hall.stage("office", (*focuses, (0, 0, 0.9)))


def kitchen(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Counters along two walls and a table set for dinner."""
    hall = _hall(scene, materials, rng, ((3.8, 6), (4, 6.5), (2.4, 3.0)))
    f.kitchen_row(hall.wall(0, 0, 0.3), materials, rng, hall.w * 0.9)
    if rng.uniform() < 0.6:
        f.kitchen_row(hall.wall(1, -0.2, 0.3), materials, rng, hall.d * 0.5)
    spot = hall.floor.at(rng.uniform(-0.5, 0.3), -0.9, 0, rng.uniform(-0.3, 0.3))
    h = f.table(spot, materials, rng, (1.5, 0.9, 0.74))
    f.clutter(spot.at(0, 0, h), materials, rng, (1.3, 0.6), int(rng.integers(4, 9)), 0.3)
    for x, y, yaw in ((-0.4, -0.75, 1), (0.4, -0.75, 1), (-0.4, 0.75, 0), (0.4, 0.75, 0)):
        f.chair(spot.at(x, y, 0, yaw * math.pi + rng.uniform(-0.3, 0.3)), materials, rng)
    _hang_paintings(hall, (2, 3), 2.0, 0.6)
    _door(hall)
    return hall.stage("kitchen", (spot.at(0, 0, 0.8).origin, (0, hall.d / 2 - 0.4, 1.0)))


def library(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Rows of shelves, reading tables between them."""
    hall = _hall(scene, materials, rng, ((6, 11), (6, 11), (2.8, 4.2)), 0.6)
    focuses: list[Triple] = []
    rows = max(2, int(hall.d / 2.4))
    for j in range(rows):
        y = ((j + 0.5) / rows - 0.5) * hall.d * 0.85
        for side in (-1, 1):
            x = side * hall.w * 0.27
            width = hall.w * rng.uniform(0.25, 0.36)
            if rng.uniform() < 0.8:
                f.shelf(hall.floor.at(x, y), materials, rng, width)
                f.shelf(hall.floor.at(x, y + 0.42, 0, math.pi), materials, rng, width)
            else:
                h = f.table(hall.floor.at(x, y), materials, rng)
                f.clutter(hall.floor.at(x, y, h), materials, rng, (1.0, 0.5), 3, 0.3)
                f.chair(hall.floor.at(x, y - 0.7, 0, math.pi), materials, rng)
            focuses.append((x, y, 1.2))
    _hang_paintings(hall, (0, 2), 3.0, 1.0)
    return hall.stage("library", tuple(focuses))


def gallery(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Paintings and sculpture."""
    hall = _hall(scene, materials, rng, ((6, 12), (6, 12), (3.2, 5.0)), 0.4)
    _hang_paintings(hall, (0, 1, 2, 3), rng.uniform(1.6, 2.6), rng.uniform(1.0, 1.9))
    focuses: list[Triple] = []
    for _ in range(int(rng.integers(2, 7))):
        x, y = rng.uniform(-0.33, 0.33) * hall.w, rng.uniform(-0.33, 0.33) * hall.d
        f.statue(hall.floor.at(x, y, 0, rng.uniform(0, 6)), materials, rng)
        focuses.append((x, y, 1.2))
    f.bench(hall.floor.at(rng.uniform(-1, 1), rng.uniform(-1, 1), 0, 1.5), materials, rng)
    return hall.stage("gallery", tuple(focuses))


def warehouse(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Racks of goods, crates and drums."""
    hall = _hall(scene, materials, rng, ((8, 14), (9, 16), (4.0, 6.0)), 0.5)
    lanes = max(2, int(hall.w / 3.4))
    for i in range(lanes):
        x = ((i + 0.5) / lanes - 0.5) * hall.w * 0.9
        for y in np.arange(-hall.d / 2 + 2, hall.d / 2 - 1.5, 3.4):
            sample = rng.uniform()
            spot = hall.floor.at(x + rng.uniform(-0.2, 0.2), float(y), 0, math.pi / 2)
            if sample < 0.5:
                f.rack(spot, materials, rng, 3.0)
            elif sample < 0.9:
                for _ in range(int(rng.integers(2, 5))):
                    maker: f.Maker = f.crates if rng.uniform() < 0.6 else f.barrel
                    maker(spot.at(rng.uniform(-1.2, 1.2), rng.uniform(-0.7, 0.7)), materials, rng)
    for x in (-0.45, 0.45):
        for y in (-0.3, 0.0, 0.3):
            hall.floor.box((x * hall.w, y * hall.d, 0), (0.3, 0.3, hall.h), materials("stone"))
    return hall.stage("warehouse", ((0, 0, 1.2), (0, hall.d / 4, 1.5), (0, -hall.d / 4, 1.0)))


def corridor(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """A long passage with doors, columns and paintings."""
    hall = _hall(scene, materials, rng, ((2.2, 3.6), (9, 18), (2.5, 4.0)), 0.5)
    trim = materials("stone")
    for y in np.arange(-hall.d / 2 + 1.5, hall.d / 2 - 1, rng.uniform(2.2, 3.6)):
        for x in (-1, 1):
            hall.floor.box((x * (hall.w / 2 - 0.08), float(y), 0), (0.2, 0.28, hall.h), trim)
        hall.floor.box((0, float(y), hall.h - 0.22), (hall.w, 0.25, 0.22), trim)
        side = hall.floor.at((hall.w / 2 - 0.03) * rng.choice([-1, 1]), float(y) + 1.1)
        if rng.uniform() < 0.5:
            side.box((0, 0, 0), (0.08, 0.9, 2.05), materials("paint"))
    _hang_paintings(hall, (1, 3), 2.4, 0.9)
    for _ in range(3):
        y = rng.uniform(-0.4, 0.4) * hall.d
        maker: f.Maker = (f.potted_plant, f.crates, f.statue)[int(rng.integers(3))]
        maker(hall.floor.at((hall.w / 2 - 0.45) * rng.choice([-1, 1]), y), materials, rng)
    hall.floor.box((0, 0, 0), (hall.w * 0.45, hall.d * 0.8, 0.012), materials("rug"))
    ends: tuple[Triple, ...] = ((0, hall.d / 2, 1.4), (0, -hall.d / 2, 1.4))
    return hall.stage("corridor", ends)


def cafe(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Many small tables: a café, canteen or classroom."""
    hall = _hall(scene, materials, rng, ((6, 10), (6, 10), (2.6, 3.6)))
    columns, rows = int(hall.w / 2.3), int(hall.d / 2.4)
    for i in range(columns):
        for j in range(rows):
            x = ((i + 0.5) / columns - 0.5) * hall.w * 0.85 + rng.uniform(-0.2, 0.2)
            y = ((j + 0.5) / rows - 0.5) * hall.d * 0.85 + rng.uniform(-0.2, 0.2)
            if rng.uniform() < 0.2:
                continue
            spot = hall.floor.at(x, y, 0, rng.uniform(-0.5, 0.5))
            h = f.table(spot, materials, rng, (0.8, 0.75, 0.74))
            f.clutter(spot.at(0, 0, h), materials, rng, (0.6, 0.5), int(rng.integers(1, 4)), 0.25)
            for side in range(int(rng.integers(1, 4))):
                f.chair(spot.at(0, 0, 0, side * math.pi).at(0, 0.7), materials, rng)
    _hang_paintings(hall, (0, 1, 2), 2.4, 1.1)
    f.kitchen_row(hall.wall(3, 0, 0.4), materials, rng, 3.0)
    return hall.stage("café", ((0, 0, 0.8), (1, 1, 0.8), (-1, -1, 0.8)))


def still_life(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Things on a table, seen from near by."""
    hall = _hall(scene, materials, rng, ((4, 6), (4, 6), (2.4, 3.0)))
    h = f.table(hall.floor, materials, rng, (rng.uniform(1.0, 1.7), rng.uniform(0.8, 1.1), 0.75))
    if rng.uniform() < 0.6:
        hall.floor.box((0, 0, h), (0.9, 0.6, 0.006), materials("rug"))
        h += 0.006
    f.clutter(hall.floor.at(0, 0.15, h), materials, rng, (0.95, 0.4), int(rng.integers(4, 7)), 0.45)
    f.clutter(hall.floor.at(0, -0.2, h), materials, rng, (0.8, 0.3), int(rng.integers(2, 5)), 0.3)
    _along_walls(hall, (f.shelf, _dressed_cabinet, f.floor_lamp, f.potted_plant, f.sofa), 0.7)
    _hang_paintings(hall, (0, 1, 2, 3), 2.0, 0.9)
    stage = hall.stage("still life", ((0, 0, h + 0.12),), 0.12)
    low, high = (-1.4, -1.4, h + 0.15), (1.4, 1.4, h + 1.0)
    return Stage(
        stage.name, low, high, stage.focuses, (0.3, 1.6), 0.12, ("orbit", "orbit", "arc", "truck")
    )


def playroom(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Large simple solids, stacked and scattered."""
    hall = _hall(scene, materials, rng, ((5, 9), (5, 9), (2.6, 4.5)))
    roles = ("fabric", "paint", "pottery", "stone", "label", "crate", "art", "ribbed", "wood")
    for _ in range(int(rng.integers(18, 45))):
        x, y = rng.uniform(-0.45, 0.45) * hall.w, rng.uniform(-0.45, 0.45) * hall.d
        spot = hall.floor.at(x, y, 0, rng.uniform(0, 6))
        s = rng.uniform(0.12, 0.55)
        role = roles[int(rng.integers(len(roles)))]
        kind = int(rng.integers(4))
        if kind == 0:
            spot.box((0, 0, 0), (s, s * rng.uniform(0.5, 2), 2 * s), materials(role))
            spot.ball((0, 0, 2.5 * s), (0.5 * s, 0.5 * s, 0.5 * s), materials("pottery"))
        elif kind == 1:
            spot.ball(
                (0, 0, s), (s, s, s), materials("pottery" if rng.uniform() < 0.5 else "fabric")
            )
        elif kind == 2:
            spot.cylinder((0, 0, 0), s, 2 * s, materials(role), taper=rng.uniform(-0.3, 1.0))
        else:
            spot.box((0, 0, 0), (2.5 * s, 0.5 * s, s), materials(role))
            spot.box((0, 0, s), (s, 0.5 * s, s), materials("paint"))
    _hang_paintings(hall, (0, 1, 2, 3), 3.0, 1.2)
    return hall.stage("playroom", ((0, 0, 0.6), (1, 1, 0.7), (-1, 0.5, 0.5)))


INTERIORS: tuple[Place, ...] = (
    living_room, bedroom, office, kitchen, library, gallery, warehouse, corridor, cafe,
    still_life, playroom,
)  # fmt: skip
