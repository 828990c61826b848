"""Scene number `index` of an endless collection, determined by a few integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splatscenes.builder import SceneBuilder
from splatscenes.camera_paths import Shot, place_cameras
from splatscenes.exteriors import EXTERIORS
from splatscenes.interiors import INTERIORS, Place
from splatscenes.materials import Materials
from splatscenes.palette import Palette
from splatscenes.raycast import measure, render
from splatscenes.world import EXPOSURE, World

# Part of the seed, so that splits never share random numbers.
SPLITS = {"train": 1, "test": 2, "example": 3}
_ATTEMPTS = 20  # worlds to try before giving up


@dataclass(frozen=True)
class GeneratedScene:
    """A world and the cameras in it.

    Attributes:
        key: name in shards: split, seed and index.
        place: kind of place, e.g. `library`.
        world: the world.
        shot: the cameras.
    """

    key: str
    place: str
    world: World
    shot: Shot

    def render(self, view: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Image (H, W, 3) uint8 and z depth (H, W) in metres, −1 where the sky is."""
        color, depth, _ = render(self.world, self.shot.camera(view))
        return color, depth


def scene_key(split: str, seed: int, index: int) -> str:
    """Name of a scene in shards, `<split>-<seed>-<index>`."""
    return f"{split}-{seed}-{index:06d}"


def _expose(world: World, shot: Shot, rng: np.random.Generator) -> World:
    """Set the exposure so that the views' mean brightness matches a random key."""
    views = np.linspace(0, len(shot.world_from_camera) - 1, 4).astype(int)
    light = np.concatenate([measure(world, shot.camera(int(v)))[1].reshape(-1) for v in views])
    # Log average, as in photographic tone mapping (Reinhard et al. 2002); 1e-4 guards black.
    middle = float(np.exp(np.mean(np.log(light + 1e-4))))
    bright = float(np.quantile(light, 0.95))
    key = rng.uniform(0.13, 0.26)  # around the 18 % grey of light meters
    sky = world.sky.copy()
    # But never push the 95 % quantile far beyond white.
    sky[EXPOSURE] = min(key / middle, 2.2 / bright)
    return world._replace(sky=sky)


def _attempt(
    place: Place, num_views: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[str, World, Shot]:
    builder = SceneBuilder()
    stage = place(builder, Materials(builder, rng, Palette.sample(rng)), rng)
    world = builder.world()
    shot = place_cameras(world, stage, num_views, size, rng)
    return stage.name, _expose(world, shot, rng), shot


def generate_scene(
    split: str,
    seed: int,
    index: int,
    num_views: int,
    size: tuple[int, int],
    places: tuple[Place, ...] = (),
) -> GeneratedScene:
    """Build scene number `index`.

    World and camera path do not depend on the number and size of the views, except for the aspect
    ratio.

    Args:
        split: `train`, `test` or `example`.
        seed: seed of the collection.
        index: number of the scene, from 0.
        num_views: cameras along the path.
        size: height and width in pixels.
        places: kinds of places to choose from; all by default.

    Raises:
        ValueError: for an unknown split, a negative index, no views or empty images.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if index < 0 or seed < 0:
        raise ValueError(f"seed and index must not be negative, got {seed} and {index}")
    if num_views < 1 or min(size) < 1:
        raise ValueError(f"a scene needs views and pixels, got {num_views} views of {size}")
    # A little more than half indoors.
    indoors = np.random.default_rng((SPLITS[split], seed, index)).uniform() < 0.55
    choice = places or (INTERIORS if indoors else EXTERIORS)
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng((SPLITS[split], seed, index, attempt))
        place = choice[int(rng.integers(len(choice)))]
        try:
            name, world, shot = _attempt(place, num_views, size, rng)
        except RuntimeError:  # no free camera path: build another world
            continue
        return GeneratedScene(scene_key(split, seed, index), name, world, shot)
    raise RuntimeError(f"scene {index} of seed {seed} found no free camera path; please report it")
