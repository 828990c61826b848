"""Sky, sun and lamps for a time of day."""

from __future__ import annotations

import math

import numpy as np

from splatscenes.builder import SceneBuilder, Sky, Triple
from splatscenes.materials import Materials
from splatscenes.palette import hsv
from splatscenes.world import FloatArray


def _light(hue: float, saturation: float, strength: float) -> Triple:
    # Squared: from display values to linear light (gamma 2).
    r, g, b = (float(c) ** 2 * strength for c in hsv(hue, saturation, 1.0))
    return r, g, b


def _sun_direction(rng: np.random.Generator, low_deg: float, high_deg: float) -> FloatArray:
    height = math.radians(rng.uniform(low_deg, high_deg))
    around = rng.uniform(0, 2 * math.pi)
    flat = math.cos(height)
    return np.array([flat * math.cos(around), flat * math.sin(around), math.sin(height)])


def _day(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> None:
    clouds = materials.texture("clouds") if rng.uniform() < 0.75 else -1
    scene.sky = Sky(
        zenith=_light(rng.uniform(0.55, 0.62), rng.uniform(0.35, 0.75), rng.uniform(0.5, 0.9)),
        horizon=_light(rng.uniform(0.5, 0.6), rng.uniform(0.03, 0.25), rng.uniform(0.9, 1.2)),
        sun=(1.0, 0.95, 0.8),
        bounce=_light(rng.uniform(0.08, 0.2), 0.2, rng.uniform(0.3, 0.5)),
        ambient=rng.uniform(0.6, 0.9),
        cloud_texture=clouds,
        cloud_light=rng.uniform(0.9, 1.4),
        haze=float(rng.choice([0.0, 0.0, 0.001, 0.002])),  # 0.002/m halves contrast at 350 m
    )
    strength = rng.uniform(1.2, 2.4)
    scene.add_sun(_sun_direction(rng, 25, 75), _light(0.11, rng.uniform(0.05, 0.25), strength))


def _sunset(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> None:
    warm = rng.uniform(0.02, 0.11)
    clouds = materials.texture("clouds") if rng.uniform() < 0.7 else -1
    scene.sky = Sky(
        zenith=_light(rng.uniform(0.56, 0.7), rng.uniform(0.25, 0.55), rng.uniform(0.25, 0.5)),
        horizon=_light(warm, rng.uniform(0.35, 0.65), rng.uniform(0.8, 1.2)),
        sun=_light(warm, 0.5, 1.3),
        bounce=_light(warm, 0.3, 0.3),
        ambient=rng.uniform(0.6, 1.0),
        cloud_texture=clouds,
        cloud_light=rng.uniform(0.5, 1.1),
        haze=float(rng.choice([0.0, 0.001, 0.003])),
    )
    light = _light(warm + 0.02, rng.uniform(0.4, 0.65), rng.uniform(1.8, 3.2))
    scene.add_sun(_sun_direction(rng, 8, 24), light)


def _overcast(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> None:
    grey = _light(0.6, rng.uniform(0.02, 0.15), rng.uniform(0.7, 1.0))
    scene.sky = Sky(
        zenith=grey,
        horizon=_light(0.58, rng.uniform(0.0, 0.1), rng.uniform(0.8, 1.1)),
        sun=(0.1, 0.1, 0.1),
        bounce=_light(0.1, 0.1, 0.35),
        ambient=rng.uniform(1.0, 1.3),
        cloud_texture=materials.texture("clouds"),
        cloud_light=rng.uniform(0.55, 0.9),
        haze=float(rng.choice([0.0, 0.002, 0.006, 0.012])),
    )
    scene.add_sun(_sun_direction(rng, 40, 80), (0.5, 0.5, 0.52), shadows=False)


def _night(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> None:  # noqa: ARG001 (one signature)
    scene.sky = Sky(
        zenith=_light(rng.uniform(0.58, 0.7), 0.7, 0.07),
        horizon=_light(rng.uniform(0.55, 0.72), rng.uniform(0.2, 0.5), rng.uniform(0.08, 0.2)),
        sun=(0.3, 0.3, 0.35),
        bounce=(0.1, 0.1, 0.12),
        ambient=rng.uniform(1.2, 2.0),
    )
    scene.add_sun(_sun_direction(rng, 30, 60), _light(0.62, 0.2, rng.uniform(0.25, 0.6)))


def light_outdoors(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> bool:
    """Sample a time of day and set its light; returns whether it is night."""
    sample = rng.uniform()
    if sample < 0.5:
        _day(scene, materials, rng)
    elif sample < 0.72:
        _sunset(scene, materials, rng)
    elif sample < 0.9:
        _overcast(scene, materials, rng)
    else:
        _night(scene, materials, rng)
        return True
    return False


def light_indoors(
    scene: SceneBuilder,
    materials: Materials,
    rng: np.random.Generator,
    half: Triple,
    center: Triple,
) -> None:
    """Light a room: sky outside its windows, lamps below the ceiling.

    Args:
        scene: scene to light.
        materials: source of the cloud texture.
        rng: random generator.
        half: half extents of the room.
        center: centre of the room.
    """
    night = light_outdoors(scene, materials, rng)
    tint = _light(rng.uniform(0.05, 0.14), rng.uniform(0.0, 0.35), 1.0)
    level = rng.uniform(0.25, 0.7)
    outside = scene.sky
    # Stands for light reflected by walls: uniform, in the colour of the lamps.
    scene.sky = Sky(
        zenith=outside.zenith,
        horizon=outside.horizon,
        sun=outside.sun,
        bounce=(tint[0] * level, tint[1] * level, tint[2] * level),
        ambient=1.0 if night else rng.uniform(0.5, 0.9),
        cloud_texture=outside.cloud_texture,
        cloud_light=outside.cloud_light,
    )
    count = int(rng.integers(1, 3))
    for k in range(count):
        x = center[0] + half[0] * rng.uniform(-0.6, 0.6)
        y = center[1] + half[1] * (rng.uniform(-0.5, 0.5) if count == 1 else (k - 0.5) * 1.1)
        # Just below the ceiling, which would otherwise get no light.
        z = center[2] + half[2] * rng.uniform(0.72, 0.9)
        # Two lamps are dimmed so that the room does not get twice as bright.
        strength = rng.uniform(0.5, 1.3) / count**0.5
        color = (tint[0] * strength, tint[1] * strength, tint[2] * strength)
        # Only the first lamp casts shadows: each shadow costs a ray per pixel.
        scene.add_lamp((x, y, z), color, reach=1.1 * max(half), shadows=k == 0)
