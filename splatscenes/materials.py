"""Materials of one world: a few textures per role, painted on first use."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from splatscenes.builder import SceneBuilder
from splatscenes.palette import Palette
from splatscenes.textures import mip_chain, paint_texture


@dataclass(frozen=True)
class Role:
    """The purpose of a material.

    Attributes:
        painters: candidate textures; repeated names are more likely.
        tile: minimum and maximum size of a repeat in metres; negative: fits the face.
        aspect: height of a repeat relative to its width.
        variants: maximum number of textures painted per world; further uses tint them.
        gloss: maximum gloss.
        emission: emitted light as a multiple of the colour.
        tint_spread: maximum darkening by tints.
        blotch: maximum strength and size in metres of large stains, which hide the repeats.
    """

    painters: tuple[str, ...]
    tile: tuple[float, float]
    aspect: float = 1.0
    variants: int = 1
    gloss: float = 0.0
    emission: float = 0.0
    tint_spread: float = 0.15
    blotch: tuple[float, float] = (0.2, 2.5)


_PLAIN_WALLS = ("plaster", "plaster", "plaster", "concrete")
_PAPERED = ("stripes", "damask", "dots", "brick", "planks", "tiles", "masonry", "plaid")

_GROUND = (0.5, 14.0)  # strong, wide stains: repeats show most on large ground

ROLES: dict[str, Role] = {
    "wall": Role(_PLAIN_WALLS + _PAPERED, (1.2, 2.6), variants=2),
    "ceiling": Role(("plaster", "plaster", "planks", "concrete", "tiles"), (1.5, 3.0)),
    "floor": Role(
        ("planks", "planks", "checker", "tiles", "terrazzo", "marble", "concrete", "cobbles"),
        (1.2, 2.8),
        gloss=0.25,
    ),
    "rug": Role(("rug", "rug", "damask", "plaid", "hide"), (-1.0, -1.0), variants=2),
    "wood": Role(("timber",), (0.5, 1.0), variants=2, gloss=0.15, tint_spread=0.4),
    "paint": Role(("plaster", "metal", "timber"), (0.8, 1.6), variants=2, tint_spread=0.6),
    "fabric": Role(
        ("woven", "woven", "plaid", "stripes", "dots", "hide", "damask"),
        (0.4, 1.1),
        variants=3,
        tint_spread=0.4,
    ),
    "metal": Role(("metal", "plaster", "concrete"), (0.7, 1.4), gloss=0.5, tint_spread=0.3),
    "stone": Role(("marble", "masonry", "terrazzo", "concrete", "rock"), (0.8, 2.0), variants=2),
    "art": Role(("painting", "painting", "poster", "portrait", "poster"), (-1.0, -1.0), variants=4),
    "page": Role(("page",), (-1.0, -1.0)),
    "screen": Role(("screen", "painting"), (-1.0, -1.0), emission=1.2),
    "books": Role(("book_spines",), (1.0, 1.4), aspect=0.33, variants=2),
    "label": Role(("label", "poster"), (-1.0, -1.0), variants=3, tint_spread=0.5),
    "crate": Role(("crate",), (-1.0, -1.0), variants=2, tint_spread=0.35),
    "pottery": Role(
        ("stripes", "dots", "marble", "hide", "plaster", "damask", "tiles"),
        (0.2, 0.5),
        variants=3,
        gloss=0.5,
        tint_spread=0.5,
    ),
    "front": Role(("windows", "windows", "windows", "curtain_wall"), (5.0, 9.0), variants=4),
    "tower": Role(("curtain_wall", "curtain_wall", "windows"), (8.0, 16.0), variants=3, gloss=0.3),
    "shop": Role(("shopfront",), (-1.0, -1.0), variants=3),
    "roof": Role(("roof_tiles", "roof_tiles", "planks", "concrete"), (1.5, 3.0), variants=2),
    "road": Role(("asphalt", "asphalt", "cobbles"), (3.0, 5.0), blotch=_GROUND),
    "pavement": Role(("concrete", "cobbles", "tiles", "masonry"), (1.5, 3.0), blotch=_GROUND),
    "ground": Role(("grass", "grass", "soil"), (2.5, 5.0), variants=2, blotch=_GROUND),
    "sand": Role(("soil", "rock"), (3.0, 6.0), variants=2, blotch=_GROUND),
    "snow": Role(("snow",), (4.0, 7.0), blotch=_GROUND),
    "rock": Role(("rock", "rock", "masonry"), (2.0, 5.0), variants=2, tint_spread=0.3),
    "leaves": Role(("foliage",), (0.9, 1.8), variants=3, tint_spread=0.4),
    "bark": Role(("bark",), (0.8, 1.4)),
    "water": Role(("water",), (4.0, 9.0), gloss=0.9),
    "ribbed": Role(("corrugated",), (2.0, 3.0), variants=3, tint_spread=0.4),
    "brickwork": Role(("brick", "masonry", "concrete"), (1.2, 2.4), variants=2),
    "lamp": Role(("plaster",), (0.5, 0.5), emission=2.5, tint_spread=0.1),
}


@dataclass
class Materials:
    """Makes the materials of one world, coloured by its palette."""

    scene: SceneBuilder
    rng: np.random.Generator
    palette: Palette
    _painted: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def __call__(self, role: str) -> int:
        """Make a material for a role: each is new, but they share a few textures.

        Raises:
            ValueError: for an unknown role.
        """
        if role not in ROLES:
            raise ValueError(f"no material role {role!r}; known: {', '.join(sorted(ROLES))}")
        spec = ROLES[role]
        texture, tile = self._texture(role, spec)
        spread = spec.tint_spread
        tint = self.rng.uniform(1 - spread, 1.0) * self.rng.uniform(1 - 0.5 * spread, 1.0, 3)
        return self.scene.add_material(
            texture,
            (tile, tile if tile < 0 else tile * spec.aspect),
            tint,
            gloss=float(self.rng.uniform(0, 1) ** 2 * spec.gloss),  # squared: mostly matte
            emission=spec.emission,
            blotch=(
                float(self.rng.uniform(0, spec.blotch[0])),
                float(self.rng.uniform(0.25, 1.0) * spec.blotch[1]),
            ),
        )

    def texture(self, painter: str) -> int:
        """Paint a texture outside the roles; returns its index."""
        return self.scene.add_texture(mip_chain(paint_texture(painter, self.rng, self.palette)))

    def _texture(self, role: str, spec: Role) -> tuple[int, float]:
        pool = self._painted.setdefault(role, [])
        # 0.6: usually fill the pool early, but not always with all variants.
        if len(pool) < spec.variants and (not pool or self.rng.uniform() < 0.6):
            painter = spec.painters[int(self.rng.integers(len(spec.painters)))]
            pool.append((self.texture(painter), float(self.rng.uniform(*spec.tile))))
            return pool[-1]
        return pool[int(self.rng.integers(len(pool)))]
