"""Light on a surface and in the sky (compiled).

Matte surfaces under a sky of two colours, a sun and lamps; hard shadows; ambient light dimmed near
other surfaces; a little gloss. Everything but gloss and haze is view-independent.
"""

from __future__ import annotations

import math

from splatscenes._compile import inlined
from splatscenes.noise import noise3
from splatscenes.ray_end import surface_at, texture_color
from splatscenes.shapes import NO_INTERSECTION, Vector
from splatscenes.trace import blocker, clearance
from splatscenes.world import (
    AMBIENT,
    BLOTCH,
    BLOTCH_SIZE,
    CLOUD_LIGHT,
    CLOUD_TEXTURE,
    EMISSION,
    GLOSS,
    HAZE,
    TEXTURE,
    TINT,
    IntArray,
    World,
)

_LIFT = 1e-4  # metres; offset of secondary rays from their surface
_CORNER = 0.35  # metres; range of ambient occlusion


@inlined
def sky_color(world: World, d: Vector, width: float) -> Vector:
    """Radiance of the sky in a unit direction; `width` is the pixel's angle in radians."""
    sky, lights = world.sky, world.lights
    height = d[2]
    blend = max(height, 0.0) ** 0.5  # the horizon's colour fades quickly, as in a real sky
    red = sky[3] + (sky[0] - sky[3]) * blend
    green = sky[4] + (sky[1] - sky[4]) * blend
    blue = sky[5] + (sky[2] - sky[5]) * blend
    if lights.shape[0] > 0 and lights[0, 0] == 0:
        toward = max(d[0] * lights[0, 1] + d[1] * lights[0, 2] + d[2] * lights[0, 3], 0.0)
        # A wide halo and a narrow core.
        glow = 0.7 * toward**12 + 1.5 * toward**200
        red, green, blue = red + sky[6] * glow, green + sky[7] * glow, blue + sky[8] * glow
    if sky[CLOUD_TEXTURE] >= 0 and height > 0.02:
        # A flat layer: directions near the horizon meet it far away; 0.08 keeps that finite.
        scale = 0.16 / (height + 0.08)
        texture = int(sky[CLOUD_TEXTURE])
        cover = texture_color(
            world.textures, texture, d[0] * scale, d[1] * scale, 2 * width * scale
        )[0]
        cover *= min(1.0, 6 * height)  # fades into the haze of the horizon
        shade = sky[CLOUD_LIGHT]
        red += cover * (shade * (0.7 + 0.3 * sky[6]) - red)
        green += cover * (shade * (0.7 + 0.3 * sky[7]) - green)
        blue += cover * (shade * (0.7 + 0.3 * sky[8]) - blue)
    return red, green, blue


@inlined
def _light_at(world: World, k: int, p: Vector) -> tuple[Vector, float, float]:
    """Unit direction to a light, distance, and attenuation."""
    lights = world.lights
    if lights[k, 0] == 0:
        return (lights[k, 1], lights[k, 2], lights[k, 3]), NO_INTERSECTION, 1.0
    x, y, z = lights[k, 1] - p[0], lights[k, 2] - p[1], lights[k, 3] - p[2]
    length = math.sqrt(x * x + y * y + z * z) + 1e-9
    spread = length / lights[k, 7]
    # Inverse square, clamped near the lamp by 0.15.
    return (x / length, y / length, z / length), length, 1.0 / (0.15 + spread * spread)


@inlined
def _direct(
    world: World,
    p: Vector,
    n: Vector,
    view: Vector,
    gloss: float,
    guesses: IntArray,
    stack: IntArray,
) -> tuple[Vector, Vector, int]:
    """Irradiance at a point, specular light towards the viewer, bit set of shadowed lights."""
    red, green, blue = 0.0, 0.0, 0.0
    shine_r, shine_g, shine_b = 0.0, 0.0, 0.0
    shadows = 0
    lights = world.lights
    start = (p[0] + _LIFT * n[0], p[1] + _LIFT * n[1], p[2] + _LIFT * n[2])
    for k in range(lights.shape[0]):
        to, length, strength = _light_at(world, k, p)
        facing = n[0] * to[0] + n[1] * to[1] + n[2] * to[2]
        if facing <= 0:
            continue
        if lights[k, 8] > 0:
            primitive = blocker(world, start, to, length, guesses[k + 1], stack)
            guesses[k + 1] = primitive
            if primitive >= 0:
                shadows |= 1 << k
                continue
        red += lights[k, 4] * strength * facing
        green += lights[k, 5] * strength * facing
        blue += lights[k, 6] * strength * facing
        if gloss > 0:
            x, y, z = to[0] - view[0], to[1] - view[1], to[2] - view[2]
            along = (x * n[0] + y * n[1] + z * n[2]) / math.sqrt(x * x + y * y + z * z)
            # Blinn-Phong; an exponent of 60 makes a small, sharp highlight.
            shine = 0.6 * gloss * strength * max(along, 0.0) ** 60
            shine_r += shine * lights[k, 4]
            shine_g += shine * lights[k, 5]
            shine_b += shine * lights[k, 6]
    return (red, green, blue), (shine_r, shine_g, shine_b), shadows


@inlined
def _ambient(world: World, p: Vector, n: Vector, stack: IntArray) -> Vector:
    sky = world.sky
    reach = _CORNER
    x, y, z = p[0] + reach * n[0], p[1] + reach * n[1], p[2] + reach * n[2]
    free = clearance(world, x, y, z, reach, stack)
    open_share = 0.35 + 0.65 * max(free, 0.0) / reach  # corners keep 35 % of the light
    up = 0.5 + 0.5 * n[2]
    strength = sky[AMBIENT] * open_share
    return (
        strength * (sky[9] + (sky[0] - sky[9]) * up),
        strength * (sky[10] + (sky[1] - sky[10]) * up),
        strength * (sky[11] + (sky[2] - sky[11]) * up),
    )


@inlined
def shade(
    world: World,
    i: int,
    t: float,
    o: Vector,
    d: Vector,
    width: float,
    guesses: IntArray,
    stack: IntArray,
) -> tuple[Vector, int]:
    """Light that a ray receives from its intersection with primitive `i` at distance `t`.

    Args:
        world: the world.
        i: primitive.
        t: distance.
        o: start of the ray.
        d: unit direction.
        width: angle of a pixel in radians.
        guesses: per light, its last blocker; updated in place.
        stack: working memory.

    Returns:
        Light, and a surface number that differs across edges that need antialiasing.
    """
    p = (o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])
    n, (u, v), (size_u, size_v), material, face = surface_at(world, i, p[0], p[1], p[2])
    facing = -(n[0] * d[0] + n[1] * d[1] + n[2] * d[2])
    if facing < 0:  # thin sheets (roofs, awnings) show their backs too
        n, facing = (-n[0], -n[1], -n[2]), -facing
    materials = world.materials
    # Geometric mean of the short and the long side of the slanted footprint.
    footprint = t * width / math.sqrt(max(facing, 0.03)) / math.sqrt(size_u * size_v)
    red, green, blue = texture_color(
        world.textures, int(materials[material, TEXTURE]), u, v, footprint
    )
    factor = 1.0
    if materials[material, BLOTCH] > 0:
        s = 1 / materials[material, BLOTCH_SIZE]
        factor += materials[material, BLOTCH] * (
            2 * noise3(p[0] * s, p[1] * s, p[2] * s, material) - 1
        )
    red, green, blue = (
        red * materials[material, TINT] * factor,
        green * materials[material, TINT + 1] * factor,
        blue * materials[material, TINT + 2] * factor,
    )
    light, shine, shadows = _direct(world, p, n, d, materials[material, GLOSS], guesses, stack)
    ambient = _ambient(world, p, n, stack)
    glow = materials[material, EMISSION]
    out_r = red * (light[0] + ambient[0] + glow) + shine[0]
    out_g = green * (light[1] + ambient[1] + glow) + shine[1]
    out_b = blue * (light[2] + ambient[2] + glow) + shine[2]
    if materials[material, GLOSS] > 0:
        # Schlick's Fresnel term with 4 % at normal incidence, as for most dielectrics.
        mirror = materials[material, GLOSS] * (0.04 + 0.96 * (1 - min(facing, 1.0)) ** 5)
        back = 2 * facing
        r = (d[0] + back * n[0], d[1] + back * n[1], d[2] + back * n[2])
        s = sky_color(world, r, 0.05)  # blurred: reflections of the sky only, slightly rough
        out_r, out_g, out_b = out_r + mirror * s[0], out_g + mirror * s[1], out_b + mirror * s[2]
    if world.sky[HAZE] > 0:
        clear = math.exp(-t * world.sky[HAZE])
        out_r = world.sky[3] + clear * (out_r - world.sky[3])
        out_g = world.sky[4] + clear * (out_g - world.sky[4])
        out_b = world.sky[5] + clear * (out_b - world.sky[5])
    return (out_r, out_g, out_b), (int(world.group[i]) * 8 + face) * 16 + shadows
