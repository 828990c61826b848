"""Outdoor places: each function builds one kind and returns its `Stage`.

Lengths are in metres, within the ranges of real streets and houses.
"""

from __future__ import annotations

import math

import numpy as np

from splatscenes import furniture as f
from splatscenes import landscape as land
from splatscenes.builder import SceneBuilder, Spot
from splatscenes.interiors import Place
from splatscenes.lighting import light_outdoors
from splatscenes.materials import Materials
from splatscenes.stage import Stage, Triple

_GROUND_PATHS = ("walk", "dolly", "truck", "arc", "orbit", "crane")


def _ground(scene: SceneBuilder, material: int, half: float = 260.0) -> Spot:  # to the skyline
    scene.add_solid(0, (0, 0, -1), (half, half, 1), material, loose=True)
    return Spot(scene)


def _street_lights(scene: SceneBuilder, rng: np.random.Generator, spots: list[Triple]) -> None:
    """Light a scene at night with up to four lamps, of which two cast shadows."""
    # Each shadow costs a ray per pixel.
    for k, (x, y, z) in enumerate(spots[:4]):
        strength = rng.uniform(0.6, 1.2)
        color = (strength, 0.8 * strength, 0.5 * strength)
        scene.add_lamp((x, y, z), color, reach=7.0, shadows=k < 2)


def street(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """A road between houses, with cars, trees and lamps."""
    night = light_outdoors(scene, materials, rng)
    spot = _ground(scene, materials("pavement"))
    width = rng.uniform(6, 11)
    spot.box((0, 0, 0), (width, 300, 0.03), materials("road"))
    paint = materials("wall")
    for y in np.arange(-60, 60, 5.0):
        spot.box((0, float(y), 0.03), (0.18, 2.2, 0.008), paint)
    lamps: list[Triple] = []
    for side in (-1, 1):
        y = -55.0
        while y < 55:
            w = rng.uniform(6, 14)
            h = rng.uniform(5, 13) if rng.uniform() < 0.8 else rng.uniform(14, 30)
            x = side * (width / 2 + 2.8 + 4.5)
            land.block(
                spot.at(x, y + w / 2, 0, side * math.pi / 2), materials, rng, (w - 0.05, 9, h)
            )
            y += w + (rng.uniform(1, 4) if rng.uniform() < 0.25 else 0.0)
        edge = side * (width / 2 + 0.9)
        for y in np.arange(-40, 40, rng.uniform(6, 11)):
            sample = rng.uniform()
            here = spot.at(edge, float(y) + rng.uniform(-1, 1), 0, math.pi if side > 0 else 0.0)
            if sample < 0.35:
                land.tree(here, materials, rng)
            elif sample < 0.6:
                f.street_lamp(here, materials, rng)
                lamps.append((edge * 0.8, float(y), 4.0))
            elif sample < 0.75:
                f.bench(here.at(0, 0, 0, math.pi / 2), materials, rng)
            if rng.uniform() < 0.6:
                f.car(
                    spot.at(side * (width / 2 - 1.2), float(y) + 3, 0.03, math.pi / 2),
                    materials,
                    rng,
                )
    if night:
        _street_lights(scene, rng, sorted(lamps, key=lambda p: abs(p[1])))
    low, high = (-width / 2 - 1.5, -25.0, 1.0), (width / 2 + 1.5, 25.0, 4.0)
    focuses: tuple[Triple, ...] = (
        (0, 20, 2),
        (0, -20, 2),
        (width / 2 + 3, 5, 2.5),
        (-width / 2 - 3, 0, 2.5),
    )
    return Stage("street", low, high, focuses, (1.5, 9.0), 0.45, _GROUND_PATHS)


def plaza(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """A square with a fountain or monument, closed by houses."""
    night = light_outdoors(scene, materials, rng)
    spot = _ground(scene, materials("pavement"))
    half = rng.uniform(11, 20)
    for side in range(4):
        row = spot.at(0, 0, 0, side * math.pi / 2)
        x = -half - 4
        while x < half + 4:
            w = rng.uniform(5, 12)
            land.block(
                row.at(x + w / 2, half + 4), materials, rng, (w - 0.05, 8, rng.uniform(5, 16))
            )
            x += w
    center = spot.at(rng.uniform(-2, 2), rng.uniform(-2, 2))
    r = rng.uniform(1.4, 2.6)
    if rng.uniform() < 0.5:
        center.cylinder((0, 0, 0), r, 0.5, materials("stone"))
        center.cylinder((0, 0, 0.5), r * 0.9, 0.02, materials("water"))
        center.cylinder((0, 0, 0.5), 0.25, 1.2, materials("stone"))
        center.cylinder((0, 0, 1.7), 0.5, 0.35, materials("stone"), materials("water"), taper=-0.8)
    else:
        for k in range(3):
            s = r * (1.8 - 0.4 * k)
            center.box((0, 0, 0.2 * k), (s, s, 0.2), materials("stone"))
        f.statue(center.at(0, 0, 0.6), materials, rng)
    for _ in range(int(rng.integers(8, 18))):
        a, d = rng.uniform(0, 6.3), rng.uniform(r + 2.5, half - 2)
        here = spot.at(d * math.cos(a), d * math.sin(a), 0, rng.uniform(0, 6.3))
        makers = (f.bench, land.tree, f.street_lamp, f.potted_plant, land.bush, f.car, f.crates)
        makers[int(rng.integers(len(makers)))](here, materials, rng)
    if night:
        _street_lights(scene, rng, [(4, 3, 4), (-5, -2, 4), (0, -7, 4)])
    low, high = (-half + 1, -half + 1, 1.0), (half - 1, half - 1, 5.0)
    x, y, _ = center.origin
    return Stage(
        "plaza",
        low,
        high,
        ((x, y, 1.5), (0, half, 3), (half, 0, 3)),
        (1.5, 9.0),
        0.4,
        _GROUND_PATHS,
    )


def nature(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Hills with trees, rocks or cacti, in meadow, desert or snow."""
    light_outdoors(scene, materials, rng)
    biome = ("ground", "ground", "sand", "snow", "rock")[int(rng.integers(5))]
    half = rng.uniform(30, 55)
    relief = rng.uniform(1.5, 10)
    material = materials(biome)
    _ground(scene, material)
    terrain = land.Terrain(scene, material, half, relief, rng, int(rng.integers(1, 4)))
    spot = Spot(scene)
    focuses: list[Triple] = []
    dense = rng.uniform(0.3, 1.0)
    for _ in range(int(90 * dense)):
        x, y = rng.normal(0, 0.4 * half, 2)
        if max(abs(x), abs(y)) > 0.95 * half:
            continue
        z = terrain.height(x, y)
        here = spot.at(x, y, z - 0.08, rng.uniform(0, 6.3))
        sample = rng.uniform()
        if biome in ("ground", "snow") and sample < 0.6:
            land.tree(here, materials, rng, biome == "snow")
        elif sample < 0.75:
            land.boulder(here, materials, rng, rng.uniform(0.3, 2.5))
        elif biome == "sand" and sample < 0.9:
            _cactus(here, materials, rng)
        else:
            land.bush(here, materials, rng)
        if len(focuses) < 6:
            focuses.append((x, y, z + 1.5))
    if rng.uniform() < 0.5:
        x, y = rng.uniform(-0.3, 0.3, 2) * half
        land.house(spot.at(x, y, terrain.height(x, y) - 0.2, rng.uniform(0, 6.3)), materials, rng)
        focuses.append((x, y, terrain.height(x, y) + 2))
    land.skyline(scene, materials, rng, 1.6 * half)
    low, high = (-0.6 * half, -0.6 * half, 0.8), (0.6 * half, 0.6 * half, relief + 6)
    return Stage(
        "nature",
        low,
        high,
        tuple(focuses) or ((0.0, 0.0, relief),),
        (2.0, 14.0),
        0.6,
        (*_GROUND_PATHS, "fly"),
    )


def _cactus(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    green, h = materials("leaves"), rng.uniform(1.2, 3.5)
    spot.cylinder((0, 0, 0), 0.09 * h, 0.9 * h, green)
    spot.ball((0, 0, 0.9 * h), (0.09 * h, 0.09 * h, 0.09 * h), green)
    for side in (-1, 1):
        z = rng.uniform(0.3, 0.55) * h
        spot.box((side * 0.16 * h, 0, z), (0.22 * h, 0.1 * h, 0.1 * h), green)
        spot.cylinder((side * 0.25 * h, 0, z), 0.055 * h, 0.3 * h, green)


def village(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Small houses with gardens, hedges and fences."""
    light_outdoors(scene, materials, rng)
    winter = rng.uniform() < 0.2
    spot = _ground(scene, materials("snow" if winter else "ground"))
    spot.box((0, 0, 0), (3.5, 120, 0.02), materials("road"))
    focuses: list[Triple] = []
    for side in (-1, 1):
        for y in np.arange(-36, 37, rng.uniform(12, 15)):
            x = side * rng.uniform(9, 13)
            yaw = side * -math.pi / 2 + rng.uniform(-0.2, 0.2)
            land.house(spot.at(x, float(y), 0, yaw), materials, rng)
            focuses.append((x * 0.8, float(y), 2.0))
            for _ in range(int(rng.integers(2, 6))):
                here = spot.at(
                    side * rng.uniform(3, 8), float(y) + rng.uniform(-6, 6), 0, rng.uniform(0, 6)
                )
                maker: f.Maker = (land.tree, land.bush, f.bench, f.potted_plant)[
                    int(rng.integers(4))
                ]
                maker(here, materials, rng)
            _fence(spot.at(side * 2.6, float(y), 0, math.pi / 2), materials, rng, 9.0)
    for _ in range(3):
        f.car(
            spot.at(rng.choice([-1.0, 1.0]) * 1.2, rng.uniform(-25, 25), 0.02, math.pi / 2),
            materials,
            rng,
        )
    land.skyline(scene, materials, rng, 75)
    return Stage(
        "village",
        (-6, -28, 1.0),
        (6, 28, 5.0),
        tuple(focuses),
        (2.0, 11.0),
        0.5,
        (*_GROUND_PATHS, "fly"),
    )


def _fence(spot: Spot, materials: Materials, rng: np.random.Generator, length: float) -> None:
    wood = materials("paint")
    if rng.uniform() < 0.3:
        spot.box((0, 0, 0), (length, 0.7, rng.uniform(0.7, 1.3)), materials("leaves"))
        return
    if rng.uniform() < 0.4:
        spot.box((0, 0, 0), (length, 0.3, rng.uniform(0.5, 1.0)), materials("brickwork"))
        return
    for z in (0.35, 0.75):
        spot.box((0, 0, z), (length, 0.04, 0.1), wood)
    for x in np.arange(-length / 2, length / 2, rng.uniform(0.35, 0.9)):
        spot.box((float(x), 0, 0), (0.12, 0.05, 1.0), wood)


def yard(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Containers, tanks, drums and sheds."""
    light_outdoors(scene, materials, rng)
    spot = _ground(scene, materials("road"))
    focuses: list[Triple] = []
    for _ in range(int(rng.integers(10, 20))):
        x, y = rng.uniform(-22, 22, 2)
        here = spot.at(x, y, 0, rng.choice([0.0, math.pi / 2]) + rng.uniform(-0.1, 0.1))
        sample = rng.uniform()
        if sample < 0.5:
            for level in range(int(rng.integers(1, 4))):
                here.box(
                    (rng.uniform(-0.2, 0.2), 0, 2.6 * level), (6.1, 2.44, 2.59), materials("ribbed")
                )
        elif sample < 0.7:
            r, h = rng.uniform(1, 2.5), rng.uniform(2.5, 7)
            here.cylinder((0, 0, 0), r, h, materials("metal"))
            here.ball((0, 0, h), (r, r, 0.4 * r), materials("metal"))
            here.cylinder((r + 0.3, 0, 0), 0.12, h * 0.9, materials("metal"))
        else:
            for _ in range(6):
                maker: f.Maker = f.crates if rng.uniform() < 0.5 else f.barrel
                maker(here.at(rng.uniform(-2, 2), rng.uniform(-2, 2)), materials, rng)
        focuses.append((x, y, 1.5))
    for side in range(4):
        w = rng.uniform(20, 34)
        land.block(
            spot.at(0, 0, 0, side * math.pi / 2).at(0, 34),
            materials,
            rng,
            (w, 12, rng.uniform(6, 12)),
        )
    return Stage(
        "yard",
        (-20, -20, 1.0),
        (20, 20, 6.0),
        tuple(focuses),
        (1.5, 10.0),
        0.5,
        (*_GROUND_PATHS, "fly"),
    )


def ruins(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Columns, steps and fallen blocks."""
    light_outdoors(scene, materials, rng)
    spot = _ground(scene, materials("sand" if rng.uniform() < 0.5 else "ground"))
    w, d, h = rng.uniform(7, 13), rng.uniform(10, 18), rng.uniform(3.5, 6.5)
    for k in range(3):
        spot.box((0, 0, 0.28 * k), (w + 4 - 1.1 * k, d + 4 - 1.1 * k, 0.28), materials("stone"))
    stone = materials("rock")
    for y in np.linspace(-d / 2, d / 2, int(rng.integers(4, 7))):
        for x in (-w / 2, w / 2):
            broken = rng.uniform() < 0.3
            tall = h * (rng.uniform(0.2, 0.8) if broken else 1.0)
            column = spot.at(float(x), float(y), 0.84)
            column.box((0, 0, 0), (1.1, 1.1, 0.25), stone)
            column.cylinder((0, 0, 0.25), 0.42, tall, materials("stone"), taper=0.15)
            if not broken:
                column.box((0, 0, tall + 0.25), (1.1, 1.1, 0.3), stone)
    if rng.uniform() < 0.6:
        spot.box((w / 2, 0, h + 1.39), (1.0, d + 1, 0.6), stone)
    f.statue(spot.at(0, rng.uniform(-2, 2), 0.84), materials, rng)
    for _ in range(int(rng.integers(8, 22))):
        x, y = rng.normal(0, 9, 2)
        here = spot.at(x, y, 0.84 if abs(x) < w / 2 and abs(y) < d / 2 else 0.0)
        maker: f.Maker = (land.boulder, land.boulder, land.bush)[int(rng.integers(3))]
        maker(here, materials, rng)
    for _ in range(8):
        a, r = rng.uniform(0, 6.3), rng.uniform(16, 30)
        land.tree(spot.at(r * math.cos(a), r * math.sin(a)), materials, rng)
    land.skyline(scene, materials, rng, 70)
    focuses: tuple[Triple, ...] = ((0, 0, 2.2), (w / 2, d / 4, 2.5), (-w / 2, -d / 4, 2.0))
    return Stage(
        "ruins", (-14, -16, 1.2), (14, 16, 6.0), focuses, (1.5, 10.0), 0.5, (*_GROUND_PATHS, "fly")
    )


def city(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """A town from above: blocks, parks, a river."""
    light_outdoors(scene, materials, rng)
    spot = _ground(scene, materials("road"), 400)
    pitch = rng.uniform(26, 38)
    number, river = 4, int(rng.integers(-3, 4)) if rng.uniform() < 0.5 else 99
    for i in range(-number, number + 1):
        for j in range(-number, number + 1):
            here = spot.at(i * pitch, j * pitch)
            if i == river:
                here.box((0, 0, 0), (pitch, pitch, 0.04), materials("water"))
                continue
            side = pitch - 9
            here.box((0, 0, 0), (side, side, 0.15), materials("pavement"))
            if rng.uniform() < 0.15:
                here.box((0, 0, 0.15), (side - 2, side - 2, 0.03), materials("ground"))
                for _ in range(5):
                    x, y = rng.uniform(-0.4, 0.4, 2) * side
                    land.tree(here.at(x, y, 0.15), materials, rng)
                continue
            near = math.exp(-0.08 * (i * i + j * j))
            split = int(rng.integers(1, 3))
            for a in range(split):
                for b in range(split):
                    w = side / split - 1.5
                    h = rng.uniform(6, 14) + near * rng.uniform(0, 40)
                    x, y = (a + 0.5) * side / split - side / 2, (b + 0.5) * side / split - side / 2
                    land.block(
                        here.at(x, y, 0.15), materials, rng, (w, w * rng.uniform(0.7, 1.0), h)
                    )
    land.skyline(scene, materials, rng, (number + 1.5) * pitch)
    low, high = (-2.5 * pitch, -2.5 * pitch, 14.0), (2.5 * pitch, 2.5 * pitch, 70.0)
    return Stage(
        "city",
        low,
        high,
        ((0, 0, 10), (pitch, 0, 8), (0, -pitch, 8)),
        (8.0, 60.0),
        3.0,
        ("fly", "fly", "orbit", "arc"),
    )


def market(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """Stalls with awnings and goods."""
    night = light_outdoors(scene, materials, rng)
    spot = _ground(scene, materials("pavement"))
    lanes, focuses = int(rng.integers(2, 4)), []
    for i in range(lanes):
        for j in range(-3, 4):
            here = spot.at(
                (i - (lanes - 1) / 2) * 4.6, j * 3.4, 0, rng.choice([0, math.pi / 2, -math.pi / 2])
            )
            pole, cloth = materials("wood"), materials("fabric")
            for x in (-1.1, 1.1):
                for y in (-0.9, 0.9):
                    here.cylinder((x, y, 0), 0.035, 2.2, pole)
            land.gable_roof(here.at(0, 0, 2.2), cloth, cloth, (2.2, 1.8, rng.uniform(0.3, 0.8)))
            h = f.table(here.at(0, -0.2), materials, rng, (2.0, 0.8, 0.85))
            f.clutter(here.at(0, -0.2, h), materials, rng, (1.8, 0.6), int(rng.integers(4, 9)), 0.4)
            if rng.uniform() < 0.5:
                f.crates(here.at(rng.uniform(-0.8, 0.8), 0.9), materials, rng)
            focuses.append((here.origin[0], here.origin[1], 1.2))
    for side in range(4):
        x, row = -22.0, spot.at(0, 0, 0, side * math.pi / 2)
        while x < 22:
            w = rng.uniform(5, 10)
            land.block(row.at(x + w / 2, 20), materials, rng, (w, 8, rng.uniform(6, 13)))
            x += w
    if night:
        _street_lights(scene, rng, [(2, 0, 3), (-2, 6, 3), (0, -7, 3)])
    return Stage(
        "market", (-6, -11, 1.1), (6, 11, 3.2), tuple(focuses), (1.0, 6.0), 0.35, _GROUND_PATHS
    )


def shore(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """A lake or bay with a pier, boats and rocks."""
    light_outdoors(scene, materials, rng)
    water = materials("water")
    _ground(scene, water)
    half = rng.uniform(32, 48)
    terrain = land.Terrain(
        scene, materials("ground" if rng.uniform() < 0.6 else "sand"), half, 9.0, rng, 1
    )
    spot = Spot(scene)
    # The middle height of the terrain becomes the water's level.
    level = float(np.quantile(terrain.heights, rng.uniform(0.35, 0.6)))
    scene.add_solid(0, (0, 0, level - 2), (260, 260, 2), water, loose=True)
    focuses: list[Triple] = []
    for _ in range(110):
        x, y = rng.uniform(-0.9, 0.9, 2) * half
        z = terrain.height(x, y)
        if z > level + 0.3:
            maker: f.Maker = (land.tree, land.tree, land.bush, land.boulder)[int(rng.integers(4))]
            maker(spot.at(x, y, z - 0.1, rng.uniform(0, 6)), materials, rng)
        elif z > level - 1.2 and rng.uniform() < 0.5:
            land.boulder(spot.at(x, y, z), materials, rng)
        elif rng.uniform() < 0.25:
            boat = spot.at(x, y, level, rng.uniform(0, 6))
            boat.ball((0, 0, 0.1), (2.2, 0.8, 0.6), materials("paint"))
            boat.cylinder((0, 0, 0.5), 0.06, 4.5, materials("wood"))
            boat.box((-0.5, 0, 1.4), (1.8, 0.04, 2.6), materials("fabric"))
        if len(focuses) < 6:
            focuses.append((x, y, max(z, level) + 1))
    x, y = rng.uniform(-0.2, 0.2, 2) * half
    land.house(
        spot.at(x, y, max(terrain.height(x, y), level) + 0.1, rng.uniform(0, 6)), materials, rng
    )
    land.skyline(scene, materials, rng, 1.8 * half)
    low, high = (-0.6 * half, -0.6 * half, level + 1.2), (0.6 * half, 0.6 * half, level + 10)
    return Stage(
        "shore", low, high, tuple(focuses), (2.5, 16.0), 0.7, (*_GROUND_PATHS, "fly", "fly")
    )


EXTERIORS: tuple[Place, ...] = (
    street, plaza, nature, village, yard, ruins, city, market, shore, nature,
)  # fmt: skip
