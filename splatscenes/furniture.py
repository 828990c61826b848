"""Furniture of boxes, cylinders and balls, standing on the floor at a spot (front is −y).

Lengths are in metres, within the ranges of real furniture.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from splatscenes.builder import Spot, turn
from splatscenes.materials import Materials

Maker = Callable[[Spot, Materials, np.random.Generator], None]


def table(
    spot: Spot,
    materials: Materials,
    rng: np.random.Generator,
    size: tuple[float, float, float] | None = None,
) -> float:
    """A table, round or with four legs; returns the height of its top."""
    w, d, h = size or (rng.uniform(0.9, 1.8), rng.uniform(0.6, 0.95), rng.uniform(0.68, 0.78))
    top, leg = materials("wood"), materials("wood" if rng.uniform() < 0.6 else "metal")
    thick = rng.uniform(0.03, 0.06)
    if rng.uniform() < 0.25:
        spot.cylinder((0, 0, 0.02), 0.05, h - 0.04, leg)
        spot.cylinder((0, 0, 0), 0.3, 0.03, leg)
        spot.cylinder((0, 0, h - thick), 0.5 * max(w, d), thick, top)
        return h
    spot.box((0, 0, h - thick), (w, d, thick), top)
    t = rng.uniform(0.04, 0.08)
    for x in (-0.45, 0.45):
        for y in (-0.42, 0.42):
            spot.box((x * w, y * d, 0), (t, t, h - thick), leg)
    return h


def chair(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A chair with four legs or on a column; its back is at +y."""
    seat, frame = materials("fabric"), materials("wood" if rng.uniform() < 0.6 else "metal")
    h, w = rng.uniform(0.42, 0.5), rng.uniform(0.4, 0.5)
    if rng.uniform() < 0.3:
        spot.cylinder((0, 0, 0), 0.26, 0.04, frame)
        spot.cylinder((0, 0, 0.04), 0.035, h - 0.06, frame)
    else:
        for x in (-0.42, 0.42):
            for y in (-0.42, 0.42):
                spot.box((x * w, y * w, 0), (0.04, 0.04, h), frame)
    spot.box((0, 0, h), (w, w, 0.05), seat)
    spot.box(
        (0, w * 0.47, h + 0.1),
        (w, 0.04, rng.uniform(0.32, 0.5)),
        seat if rng.uniform() < 0.5 else frame,
    )


def sofa(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A sofa or armchair with cushions; its back is at +y."""
    cloth = materials("fabric")
    w = rng.uniform(0.8, 2.3)
    spot.box((0, 0, 0.08), (w, 0.85, 0.34), cloth)
    spot.box((0, 0.34, 0.42), (w, 0.2, 0.4), cloth)
    for side in (-1, 1):
        spot.box((side * (w / 2 + 0.07), 0, 0.0), (0.16, 0.87, 0.6), cloth)
    for _ in range(int(rng.integers(0, 4))):
        x = rng.uniform(-0.42, 0.42) * w
        tilt = turn(rng.uniform(-0.4, 0.4), 0, -0.35)
        spot.box((x, 0.16, 0.44), (0.4, 0.13, 0.38), materials("fabric"), rotation=tilt)


def bed(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A bed with blanket and pillows; its head is at +y."""
    w = rng.uniform(0.95, 1.9)
    wood = materials("wood")
    spot.box((0, 0, 0), (w, 2.05, 0.28), wood)
    spot.box((0, 0, 0.28), (w - 0.04, 2.0, 0.2), materials("wall"))
    spot.box((0, -0.28, 0.42), (w + 0.03, 1.45, 0.1), materials("fabric"))
    spot.box((0, 1.04, 0), (w + 0.06, 0.07, rng.uniform(0.7, 1.3)), wood)
    for side in (-1, 1) if w > 1.3 else (0,):
        spot.ball((side * w * 0.24, 0.72, 0.54), (0.32, 0.22, 0.1), materials("fabric"))


def shelf(
    spot: Spot, materials: Materials, rng: np.random.Generator, width: float | None = None
) -> None:
    """A bookcase with books, boxes and pots; its back is at +y."""
    w = width or rng.uniform(0.7, 1.8)
    h, d = rng.uniform(0.9, 2.3), rng.uniform(0.26, 0.42)
    wood = materials("wood")
    for side in (-1, 1):
        spot.box((side * w / 2, 0, 0), (0.04, d, h), wood)
    spot.box((0, d / 2 - 0.01, 0), (w, 0.02, h), wood)
    levels = max(2, round(h / rng.uniform(0.3, 0.42)))
    gap = h / levels
    for level in range(levels + 1):
        spot.box((0, 0, level * gap - 0.02), (w, d, 0.035), wood)
    for level in range(levels):
        z = level * gap + 0.02
        if rng.uniform() < 0.6:
            share = rng.uniform(0.4, 1.0)
            x = rng.uniform(-0.5, 0.5) * (1 - share) * (w - 0.06)
            spot.box(
                (x, 0.02, z),
                (share * (w - 0.06), d * 0.7, gap * rng.uniform(0.6, 0.85)),
                materials("books"),
            )
        else:
            clutter(
                spot.at(0, 0, z),
                materials,
                rng,
                (w - 0.2, d - 0.1),
                int(rng.integers(1, 5)),
                gap * 0.8,
            )


def cabinet(spot: Spot, materials: Materials, rng: np.random.Generator) -> float:
    """A chest or sideboard with doors and knobs; returns its height. Front at −y."""
    w, h, d = rng.uniform(0.6, 1.8), rng.uniform(0.45, 1.1), rng.uniform(0.38, 0.55)
    body, front, knob = materials("wood"), materials("paint"), materials("metal")
    spot.box((0, 0, 0), (w, d, h), body)
    columns, rows = max(1, round(w / 0.45)), int(rng.integers(1, 4))
    for i in range(columns):
        for j in range(rows):
            x = (i + 0.5) / columns * w - w / 2
            cell_w, cell_h = w / columns - 0.03, h / rows - 0.04
            spot.box((x, -d / 2 - 0.008, j * h / rows + 0.02), (cell_w, 0.02, cell_h), front)
            spot.ball((x, -d / 2 - 0.03, (j + 0.55) * h / rows), (0.02, 0.02, 0.02), knob)
    return h


def clutter(
    spot: Spot,
    materials: Materials,
    rng: np.random.Generator,
    area: tuple[float, float],
    count: int,
    tallest: float = 0.4,
) -> None:
    """Small objects on a surface of the given extent: books, jars, bowls, cups, boxes, fruit."""
    for k in range(count):
        # Spread over the width so that objects rarely intersect.
        x = ((k + rng.uniform(0.15, 0.85)) / count - 0.5) * area[0]
        y = rng.uniform(-0.4, 0.4) * area[1]
        s = rng.uniform(0.5, 1.0) * min(tallest, 0.4)
        _small_thing(spot.at(x, y, 0, rng.uniform(0, 2 * math.pi)), materials, rng, s)


def _small_thing(spot: Spot, materials: Materials, rng: np.random.Generator, s: float) -> None:
    kind = int(rng.integers(8))
    if kind == 0:  # a pile of books
        for k in range(int(rng.integers(1, 5))):
            size = (rng.uniform(0.14, 0.2), rng.uniform(0.2, 0.26), 0.035)
            spot.box(
                (0, 0, 0.036 * k),
                size,
                materials("paint"),
                materials("label"),
                turn(rng.uniform(-0.3, 0.3)),
            )
    elif kind == 1:  # a jar or tin
        spot.cylinder((0, 0, 0), 0.25 * s, 0.7 * s, materials("label"), materials("metal"))
    elif kind == 2:  # a vase
        spot.cylinder((0, 0, 0), 0.16 * s, 0.4 * s, materials("pottery"), taper=-0.7)
        spot.ball((0, 0, 0.5 * s), (0.27 * s, 0.27 * s, 0.25 * s), materials("pottery"))
        spot.cylinder((0, 0, 0.6 * s), 0.2 * s, 0.35 * s, materials("pottery"), taper=0.45)
    elif kind == 3:  # a bottle
        glass = materials("pottery")
        spot.cylinder((0, 0, 0), 0.13 * s, 0.6 * s, materials("label"), glass)
        spot.cylinder((0, 0, 0.6 * s), 0.13 * s, 0.2 * s, glass, taper=0.65)
        spot.cylinder((0, 0, 0.8 * s), 0.045 * s, 0.2 * s, glass)
    elif kind == 4:  # a bowl of fruit
        spot.cylinder((0, 0, 0), 0.2 * s, 0.2 * s, materials("pottery"), taper=-0.9)
        for a in range(4):
            x, y = 0.18 * s * math.cos(1.6 * a), 0.18 * s * math.sin(1.6 * a)
            spot.ball((x, y, 0.25 * s), (0.13 * s, 0.13 * s, 0.13 * s), materials("paint"))
    elif kind == 5:  # a box
        spot.box((0, 0, 0), (0.6 * s, 0.4 * s, 0.6 * s), materials("label"))
    elif kind == 6:  # a figure
        stone = materials("stone")
        spot.box((0, 0, 0), (0.3 * s, 0.3 * s, 0.15 * s), stone)
        spot.cylinder((0, 0, 0.15 * s), 0.12 * s, 0.5 * s, stone, taper=0.5)
        spot.ball((0, 0, 0.75 * s), (0.13 * s, 0.13 * s, 0.15 * s), stone)
    else:  # a cup
        spot.cylinder((0, 0, 0), 0.12 * s, 0.28 * s, materials("pottery"), taper=-0.25)


def desk(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A desk with screen, keyboard, papers and a chair in front (−y)."""
    w = rng.uniform(1.1, 1.7)
    h = table(spot, materials, rng, (w, 0.75, 0.73))
    dark = materials("metal")
    for k in range(int(rng.integers(1, 3))):
        x = (k - 0.3) * 0.5
        monitor = spot.at(x, 0.18, h, rng.uniform(-0.35, 0.35))
        monitor.box((0, 0, 0), (0.22, 0.16, 0.015), dark)
        monitor.box((0, 0.02, 0), (0.05, 0.03, 0.2), dark)
        monitor.box((0, 0, 0.12), (0.56, 0.035, 0.34), dark)
        monitor.box((0, -0.02, 0.135), (0.53, 0.012, 0.31), materials("screen"))
    spot.box((-0.1, -0.15, h), (0.42, 0.14, 0.02), materials("page"))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-0.45, 0.45) * w, rng.uniform(-0.3, -0.1)
        spot.box(
            (x, y, h), (0.21, 0.29, 0.008), materials("page"), rotation=turn(rng.uniform(-0.6, 0.6))
        )
    clutter(spot.at(0, 0.28, h), materials, rng, (w, 0.15), int(rng.integers(1, 4)), 0.28)
    chair(
        spot.at(rng.uniform(-0.2, 0.2), -0.65, 0, math.pi + rng.uniform(-0.6, 0.6)), materials, rng
    )


def floor_lamp(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A standing lamp; it glows but does not light the scene."""
    h = rng.uniform(1.2, 1.8)
    metal = materials("metal")
    spot.cylinder((0, 0, 0), 0.16, 0.03, metal)
    spot.cylinder((0, 0, 0), 0.02, h, metal)
    spot.cylinder(
        (0, 0, h - 0.12),
        rng.uniform(0.16, 0.26),
        0.28,
        materials("lamp"),
        taper=rng.uniform(0, 0.5),
    )


def potted_plant(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A plant in a pot: a tuft of balls or of upright leaves."""
    h, r = rng.uniform(0.25, 0.45), rng.uniform(0.14, 0.24)
    spot.cylinder((0, 0, 0), r * 0.8, h, materials("pottery"), materials("bark"), taper=-0.3)
    green = materials("leaves")
    if rng.uniform() < 0.5:
        for _ in range(int(rng.integers(4, 9))):
            x, y = rng.normal(0, 0.13, 2)
            s = rng.uniform(0.1, 0.22)
            spot.ball((x, y, h + rng.uniform(0.1, 0.8)), (s, s, s * 0.8), green)
        spot.cylinder((0, 0, h), 0.025, 0.5, materials("bark"))
        return
    for k in range(int(rng.integers(6, 12))):
        lean = turn(k * 2.4, rng.uniform(0.15, 0.6))
        tip = lean @ np.array([0, 0, 0.35])
        spot.ball((tip[0], tip[1], h + tip[2]), (0.05, 0.02, rng.uniform(0.3, 0.5)), green, lean)


def barrel(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A drum or barrel."""
    r, h = rng.uniform(0.25, 0.4), rng.uniform(0.7, 1.0)
    spot.cylinder((0, 0, 0), r, h, materials("ribbed"), materials("metal"))
    spot.cylinder((0, 0, h * 0.3), r * 1.04, 0.04, materials("metal"))
    spot.cylinder((0, 0, h * 0.65), r * 1.04, 0.04, materials("metal"))


def crates(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A stack of cases."""
    s = rng.uniform(0.4, 0.9)
    for level in range(int(rng.integers(1, 4))):
        shift = rng.uniform(-0.08, 0.08, 2)
        size = (s * rng.uniform(0.85, 1.1), s * rng.uniform(0.85, 1.1), s)
        spot.box(
            (shift[0], shift[1], level * s),
            size,
            materials("crate"),
            rotation=turn(rng.uniform(-0.3, 0.3)),
        )


def statue(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """Sculpture on a pedestal: a figure, stacked stones, or a knot of shapes."""
    base = rng.uniform(0.5, 1.1)
    stone = materials("stone")
    spot.box((0, 0, 0), (0.6, 0.6, base), materials("stone"))
    spot.box((0, 0, base), (0.7, 0.7, 0.06), stone)
    work = spot.at(0, 0, base + 0.06, rng.uniform(0, 6))
    form = materials("pottery") if rng.uniform() < 0.5 else stone
    kind = int(rng.integers(3))
    if kind == 0:
        work.cylinder((0, 0, 0), 0.2, 0.75, form, taper=0.35)
        work.ball((0, 0, 0.85), (0.24, 0.17, 0.28), form)
        work.ball((0, 0, 1.22), (0.11, 0.12, 0.15), form)
        work.ball((0.22, -0.1, 0.85), (0.05, 0.22, 0.06), form, turn(0.3, 0, 0.5))
        work.ball((-0.22, 0, 0.75), (0.05, 0.06, 0.26), form, turn(0, 0.3, 0))
        return
    z = 0.0
    for _ in range(int(rng.integers(3, 6))):
        r = rng.uniform(0.1, 0.28)
        material = materials("pottery") if kind == 2 else form
        if rng.uniform() < 0.6:
            work.ball((rng.normal(0, 0.04), 0, z + r * 0.9), (r, r, r), material)
        else:
            tilt = turn(rng.uniform(0, 3), rng.uniform(-0.3, 0.3))
            work.box((0, 0, z), (1.6 * r, 1.6 * r, 1.8 * r), material, rotation=tilt)
        z += 1.75 * r


def framed_painting(
    spot: Spot,
    materials: Materials,
    rng: np.random.Generator,
    size: tuple[float, float],
    role: str = "art",
) -> None:
    """A framed painting centred at the spot, facing −y."""
    w, h = size
    spot.box(
        (0, 0, -h / 2 - 0.04),
        (w + 0.08, 0.05, h + 0.08),
        materials("wood" if rng.uniform() < 0.6 else "metal"),
    )
    spot.box((0, -0.02, -h / 2), (w, 0.025, h), materials(role))


def kitchen_row(spot: Spot, materials: Materials, rng: np.random.Generator, width: float) -> None:
    """Counter with cupboards below and above, hob and objects; back at +y."""
    front, top, metal = materials("paint"), materials("stone"), materials("metal")
    spot.box((0, 0, 0), (width, 0.58, 0.86), front)
    spot.box((0, -0.01, 0.86), (width, 0.62, 0.04), top)
    count = max(2, round(width / 0.55))
    for k in range(count):
        x = ((k + 0.5) / count - 0.5) * width
        spot.box((x, -0.3, 0.1), (width / count - 0.03, 0.03, 0.72), front)
        spot.box((x, -0.325, 0.74), (0.16, 0.02, 0.02), metal)
        if rng.uniform() < 0.75:
            spot.box((x, 0.12, 1.45), (width / count - 0.02, 0.34, 0.65), materials("paint"))
    spot.box((rng.uniform(-0.2, 0.2) * width, 0, 0.9), (0.55, 0.5, 0.015), metal)
    clutter(spot.at(0, 0, 0.9), materials, rng, (width * 0.9, 0.35), int(rng.integers(3, 8)), 0.35)


def rack(spot: Spot, materials: Materials, rng: np.random.Generator, width: float) -> None:
    """A store's rack with goods on three levels, open on both sides."""
    metal = materials("metal")
    for x in (-0.5, 0.0, 0.5):
        for y in (-0.35, 0.35):
            spot.box((x * width, y, 0), (0.06, 0.06, 2.6), metal)
    for z in (0.15, 1.0, 1.85):
        spot.box((0, 0, z), (width, 0.8, 0.06), metal)
        x = -0.5 * width + 0.1
        while x < 0.5 * width - 0.5:
            s = rng.uniform(0.3, 0.65)
            role = "crate" if rng.uniform() < 0.6 else "label"
            if rng.uniform() < 0.8:
                spot.box(
                    (x + s / 2, rng.uniform(-0.1, 0.1), z + 0.06),
                    (s, 0.6, rng.uniform(0.3, 0.7)),
                    materials(role),
                )
            x += s + rng.uniform(0.03, 0.15)


def car(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A car or van, along x."""
    paint, dark = (
        materials("ribbed") if rng.uniform() < 0.15 else materials("paint"),
        materials("metal"),
    )
    tall = rng.uniform() < 0.3
    spot.box((0, 0, 0.3), (4.1, 1.7, 0.62), paint)
    cabin = (2.9, 1.55, 0.95) if tall else (2.2, 1.5, 0.55)
    spot.box((-0.2, 0, 0.92), cabin, dark, paint)
    spot.box((-0.2, 0, 0.92 + cabin[2]), (cabin[0] * 0.96, cabin[1] * 0.98, 0.05), paint)
    tilt = turn(0, 0, math.pi / 2)
    for x in (-1.3, 1.3):
        for y in (-0.78, 0.78):
            spot.cylinder((x, y, 0.24), 0.34, 0.2, dark, rotation=tilt)
    for y in (-0.6, 0.6):
        spot.ball((2.05, y, 0.65), (0.06, 0.14, 0.1), materials("lamp"))


def bench(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A park bench, back at +y."""
    wood, metal = materials("wood"), materials("metal")
    w = rng.uniform(1.3, 2.0)
    for y in (-0.2, 0.0, 0.2):
        spot.box((0, y, 0.42), (w, 0.15, 0.04), wood)
    for z in (0.55, 0.75):
        spot.box((0, 0.3, z), (w, 0.04, 0.14), wood)
    for x in (-0.4, 0.4):
        spot.box((x * w, 0, 0), (0.06, 0.5, 0.42), metal)


def street_lamp(spot: Spot, materials: Materials, rng: np.random.Generator) -> None:
    """A lamp post."""
    metal = materials("metal")
    h = rng.uniform(3.5, 6.0)
    spot.cylinder((0, 0, 0), 0.14, 0.5, metal)
    spot.cylinder((0, 0, 0), 0.07, h, metal)
    spot.box((0.4, 0, h - 0.1), (1.0, 0.08, 0.08), metal)
    spot.ball((0.85, 0, h - 0.25), (0.22, 0.22, 0.2), materials("lamp"))
