"""First stage: project, cull and colour the Gaussians, and count the tiles that each touches."""

from __future__ import annotations

import math

import numpy as np

from zipsplat.render._rules import ALPHA_MIN, EXTENT_MAX, LOG2_ALPHA_MIN, TWO_LN_2
from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.ellipse import Outline, row_span, tile_span
from zipsplat.render.cpu.geometry import (
    Ellipse,
    Projection,
    Vec3,
    compensation,
    dot,
    normalized,
    project_group,
    scaled,
)
from zipsplat.render.cpu.layout import (
    CHUNK,
    FOCAL_X,
    FOCAL_Y,
    GROUP,
    PRINCIPAL_X,
    PRINCIPAL_Y,
    RECORD,
    TILE,
    FloatArray,
    ImageSize,
    Inputs,
    RasterSettings,
    Scene,
    Shading,
    Slots,
    Workspace,
    group_of,
)
from zipsplat.render.cpu.shade import COLUMNS, color, num_harmonics, read_columns, write_basis
from zipsplat.render.cpu.simd import (
    Floats,
    Ints,
    Mask,
    any_lane,
    bits_of,
    ceil,
    fma,
    is_finite,
    load,
    load_columns_3,
    load_columns_4,
    log2,
    lowest_bit,
    maximum,
    minimum,
    pack,
    select,
    select_ints,
    sqrt,
    store,
    store_ints,
    store_rows,
    to_floats,
    transpose,
)

_ALPHA_MIN = np.float32(ALPHA_MIN)
PROJECT_FLOATS = (COLUMNS + 2 * GROUP) * GROUP  # of working memory
_LOG2_E = math.log2(math.e)
# Tiles are chosen by an ellipse slightly larger than that of alpha = 1/255, so that rounding never
# drops a tile in which the blending would have coloured a pixel.
_MARGIN_FACTOR, _MARGIN = 1.001, 0.002


@inline
def read_group(inputs: Inputs, row: int, camera: FloatArray, eps2d: float) -> Projection:
    """Project the sixteen Gaussians that begin at a row."""
    x, y, z = load_columns_3(inputs.means, row * 3)
    qw, qx, qy, qz = load_columns_4(inputs.quats, row * 4)
    sx, sy, sz = load_columns_3(inputs.scales, row * 3)
    quat = normalized(qw, qx, qy, qz)
    return project_group(Vec3(x, y, z), quat, Vec3(sx, sy, sz), camera, eps2d)


@inline
def unit(offset: Vec3) -> Vec3:
    """Directions from the camera's centre; arbitrary for a Gaussian that lies in it."""
    return scaled(offset, 1.0 / sqrt(maximum(dot(offset, offset), 1e-24)))


@inline
def _in_view(
    projection: Projection,
    mean_x: Floats,
    mean_y: Floats,
    opacity: Floats,
    settings: RasterSettings,
) -> Mask:
    """Gaussians that pass gsplat 1.5's culling; NaN fails every comparison."""
    culling, size = settings.culling, settings.size
    z = projection.p.z
    ellipse = projection.ellipse
    level = minimum(TWO_LN_2 * (log2(opacity) - LOG2_ALPHA_MIN), EXTENT_MAX * EXTENT_MAX)
    radius_x = ceil(sqrt(maximum(level, 0.0) * ellipse.a))
    radius_y = ceil(sqrt(maximum(level, 0.0) * ellipse.c))
    deep_enough = (z >= culling.near) & (z <= culling.far)
    large_enough = (radius_x > culling.radius_clip) | (radius_y > culling.radius_clip)
    overlaps_x = (mean_x + radius_x > 0.0) & (mean_x - radius_x < size.width)
    overlaps_y = (mean_y + radius_y > 0.0) & (mean_y - radius_y < size.height)
    kept: Mask = deep_enough & large_enough & overlaps_x & overlaps_y & (opacity >= _ALPHA_MIN)
    # An infinity or NaN propagates into the sum, and then x − x is NaN.
    total = mean_x + mean_y + ellipse.A + ellipse.B + ellipse.C + opacity + z
    return kept & is_finite(total)


@inline
def _count_tiles(
    mean_x: Floats,
    mean_y: Floats,
    outline: Outline,
    visible: Mask,
    size: ImageSize,
) -> Ints:
    """How many tiles each ellipse touches."""
    tiles_x = (size.width + TILE - 1) // TILE
    tiles_y = (size.height + TILE - 1) // TILE
    row, last_row = tile_span(mean_y - outline.half_y, mean_y + outline.half_y, tiles_y)
    count = row * 0
    active = visible & (row <= last_row)
    while any_lane(active):
        first, last = row_span(to_floats(row), mean_x, mean_y, outline, tiles_x)
        count = count + select_ints(active & (first <= last), last - first + 1, 0)
        row = row + 1
        active = visible & (row <= last_row)
    return count


@inline
def _outline(ellipse: Ellipse, log2_opacity: Floats) -> Outline:
    """The ellipse within which alpha is at least 1/255, and the margin."""
    level = TWO_LN_2 * (log2_opacity - LOG2_ALPHA_MIN) * _MARGIN_FACTOR + _MARGIN
    half_x = sqrt(level * ellipse.a)
    half_y = sqrt(level * ellipse.c)
    slope, steepest_y = ellipse.b / ellipse.c, ellipse.b / ellipse.a * half_x
    return Outline(half_y, slope, steepest_y, sqrt(level / ellipse.A))


@inline
def _features(
    inputs: Inputs,
    row: int,
    projection: Projection,
    shading: Shading,
    table: FloatArray,
    basis: FloatArray,
) -> tuple[Floats, Floats, Floats, Floats, Mask]:
    """The features, colour and depth or depth alone, and where they are finite."""
    z = projection.p.z
    if shading.degree < 0:
        return z, z, z, z, is_finite(z)
    used = num_harmonics(shading.degree)
    read_columns(inputs.sh_coeffs, row, shading.num_coeffs, used, table)
    write_basis(shading.degree, unit(projection.offset), basis)
    rgb = color(used, table, basis)
    finite = is_finite(rgb.x + rgb.y + rgb.z)
    return clamp_min_zero(rgb.x), clamp_min_zero(rgb.y), clamp_min_zero(rgb.z), z, finite


@inline
def clamp_min_zero(x: Floats) -> Floats:
    """max(x, 0), propagating NaN."""
    return select(x < 0.0, 0.0, x)


@kernel
def project(
    scene: Scene,
    camera: FloatArray,
    settings: RasterSettings,
    slots: Slots,
    first_chunk: int,
    last_chunk: int,
    work: Workspace,
) -> None:
    """Fill the slots of some chunks.

    Args:
        scene: the Gaussians.
        camera: see `layout`.
        settings: see `layout`.
        slots: receives the results.
        first_chunk: first chunk.
        last_chunk: end of the range, exclusive.
        work: scratch memory.
    """
    # In one piece: 100 000 Gaussians take 3.6 to 3.9 ms; split into functions, 4.0 to 4.3.
    table = work.floats[: COLUMNS * GROUP]
    basis = work.floats[COLUMNS * GROUP : (COLUMNS + GROUP) * GROUP]
    rows = work.floats[(COLUMNS + GROUP) * GROUP : PROJECT_FLOATS]
    keys, counts = work.ints[:GROUP], work.ints[GROUP : 2 * GROUP]
    per_chunk = CHUNK // GROUP
    num_groups = (scene.num + GROUP - 1) // GROUP
    for chunk in range(first_chunk, last_chunk):
        slot = chunk * CHUNK
        for group in range(chunk * per_chunk, min((chunk + 1) * per_chunk, num_groups)):
            row = group * GROUP
            source, at = group_of(scene, row)
            projection = read_group(source, at, camera, settings.eps2d)
            opacity = load(source.opacities, at)
            if settings.antialiased:
                opacity = opacity * compensation(projection)
            p = projection.p
            mean_x = fma(p.x * projection.J.inverse_z, camera[FOCAL_X], camera[PRINCIPAL_X])
            mean_y = fma(p.y * projection.J.inverse_z, camera[FOCAL_Y], camera[PRINCIPAL_Y])
            visible = _in_view(projection, mean_x, mean_y, opacity, settings)
            bits = pack(visible)
            if bits != 0:
                ellipse = projection.ellipse
                log2_opacity = log2(opacity)
                outline = _outline(ellipse, log2_opacity)
                count = _count_tiles(mean_x, mean_y, outline, visible, settings.size)
                bits = pack(visible & (count > 0))
            slots.group_slot[group] = slot
            if bits != 0:
                f0, f1, f2, f3, finite = _features(
                    source, at, projection, settings.shading, table, basis
                )
                bits = bits & pack(finite)
                columns = (
                    mean_x,
                    mean_y,
                    ellipse.A * (-0.5 * _LOG2_E),
                    ellipse.B * -_LOG2_E,
                    ellipse.C * (-0.5 * _LOG2_E),
                    log2_opacity,
                    f0,
                    f1,
                    f2,
                    f3,
                    p.z,
                    outline.half_y,
                    outline.slope,
                    outline.steepest_y,
                    outline.half_width,
                )
                store_rows(rows, 0, RECORD, transpose(columns))
                store_ints(keys, 0, bits_of(p.z))
                store_ints(counts, 0, count)
                left = bits
                while left != 0:
                    i = lowest_bit(left)
                    left = left & (left - 1)
                    store(slots.records, slot * RECORD, load(rows, i * RECORD))
                    slots.ids[slot] = row + i
                    slots.keys[slot] = keys[i]
                    slots.num_intersections[slot] = counts[i]
                    slot += 1
            slots.group_bits[group] = bits
        slots.chunk_count[chunk] = slot - chunk * CHUNK
