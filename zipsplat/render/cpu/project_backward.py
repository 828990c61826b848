"""Backward of `project`: from the sums of intersections to the Gaussians and the camera."""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.geometry import Projection, Vec3, combined, dot, to_world
from zipsplat.render.cpu.geometry_backward import (
    ShapeGradient,
    camera_row,
    masked,
    quat_gradient,
    rotation_gradient,
    shape_gradient,
)
from zipsplat.render.cpu.gradients import GroupGradients, add_group, add_rows, zero_group
from zipsplat.render.cpu.layout import (
    CHUNK,
    GROUP,
    INTERSECTION,
    V_FEATURE,
    DoubleArray,
    FloatArray,
    Inputs,
    Intersections,
    RasterSettings,
    Scene,
    SceneGradients,
    Shading,
    Slots,
    Workspace,
    group_of,
)
from zipsplat.render.cpu.project import read_group, unit
from zipsplat.render.cpu.shade import (
    COLUMNS,
    color,
    direction_gradient,
    num_harmonics,
    read_columns,
    write_basis,
)
from zipsplat.render.cpu.simd import (
    Floats,
    Mask,
    item,
    lane_sums,
    load,
    load_table,
    maximum,
    select,
    sqrt,
    store,
    store_rows,
    unpack,
    zeros,
)

CAMERA_SUMS = 12  # gradients of the rotation, row by row, and of the centre
PROJECT_BACKWARD_FLOATS = (2 * COLUMNS + 2 * GROUP) * GROUP  # of working memory


@inline
def _gather(
    slots: Slots, slot: int, bits: int, intersections: Intersections, sums: FloatArray
) -> tuple[Floats, ...]:
    """Sum the intersections of each Gaussian of a group, in `sums`; see `layout.INTERSECTION`."""
    for i in range(GROUP):
        total = zeros()
        if bits >> i & 1:
            first = slots.first_intersection[slot]
            for intersection in range(first, first + slots.num_intersections[slot]):
                if item(intersections.used, intersection):
                    total = total + load(intersections.sums, intersection * INTERSECTION)
            slot += 1
        store(sums, i * GROUP, total)
    return load_table(sums, 0, GROUP)


class _Memory(NamedTuple):
    """Memory for one group."""

    table: FloatArray  # of harmonics, by columns
    rows: FloatArray  # receives the gradients of the coefficients
    basis: FloatArray
    small: FloatArray  # 16 vectors for everything else


@inline
def _memory_in(floats: FloatArray) -> _Memory:
    """Split PROJECT_BACKWARD_FLOATS numbers of scratch memory."""
    return _Memory(
        floats[: COLUMNS * GROUP],
        floats[COLUMNS * GROUP : 2 * COLUMNS * GROUP],
        floats[2 * COLUMNS * GROUP : (2 * COLUMNS + GROUP) * GROUP],
        floats[(2 * COLUMNS + GROUP) * GROUP : PROJECT_BACKWARD_FLOATS],
    )


@inline
def _color_gradient(
    source: Inputs,
    at: int,
    offset: Vec3,
    shading: Shading,
    v_rgb: Vec3,
    visible: Mask,
    memory: _Memory,
) -> Vec3:
    """Gradient of the offset from the camera; `memory.rows` receives those of the coefficients."""
    table, basis = memory.table, memory.basis
    used = num_harmonics(shading.degree)
    d = unit(offset)
    read_columns(source.sh_coeffs, at, shading.num_coeffs, used, table)
    write_basis(shading.degree, d, basis)
    rgb = color(used, table, basis)
    v = Vec3(
        select(visible & (rgb.x >= 0.0), v_rgb.x, 0.0),
        select(visible & (rgb.y >= 0.0), v_rgb.y, 0.0),
        select(visible & (rgb.z >= 0.0), v_rgb.z, 0.0),
    )
    v_d = direction_gradient(shading.degree, table, d, v)
    for s in range(used):
        y = load(basis, s * GROUP)
        store(table, 3 * s * GROUP, select(visible, y * v.x, 0.0))
        store(table, (3 * s + 1) * GROUP, select(visible, y * v.y, 0.0))
        store(table, (3 * s + 2) * GROUP, select(visible, y * v.z, 0.0))
    for first in range(0, 3 * used, GROUP):
        store_rows(memory.rows, first, COLUMNS, load_table(table, first * GROUP, GROUP))
    inverse = 1.0 / sqrt(maximum(dot(offset, offset), 1e-24))
    return combined(inverse, v_d, -(inverse * dot(d, v_d)), d)


@inline
def _add_camera(
    of_camera: DoubleArray,
    proj: Projection,
    v: ShapeGradient,
    v_mean: Vec3,
    visible: Mask,
    small: FloatArray,
) -> None:
    """Add the gradients of the camera's rotation and centre."""
    x = masked(visible, camera_row(v.p.x, proj.offset, v.U.x, proj.R))
    y = masked(visible, camera_row(v.p.y, proj.offset, v.U.y, proj.R))
    z = masked(visible, camera_row(v.p.z, proj.offset, v.U.z, proj.R))
    c = v_mean
    ours = (x.x, x.y, x.z, y.x, y.y, y.z, z.x, z.y, z.z, -c.x, -c.y, -c.z)
    store(small, 0, lane_sums(ours))
    for k in range(CAMERA_SUMS):
        of_camera[k] += small[k]


@inline
def _project_group_backward(
    scene: Scene,
    group: int,
    camera: FloatArray,
    settings: RasterSettings,
    slots: Slots,
    intersections: Intersections,
    gradients: SceneGradients,
    of_camera: DoubleArray,
    memory: _Memory,
) -> None:
    """Gradients of the Gaussians of a group; those of the camera are added to `of_camera`."""
    shading, fresh = settings.shading, gradients.fresh
    row = group * GROUP
    count = min(GROUP, scene.num - row)
    source, at = group_of(scene, row)
    bits = slots.group_bits[group]
    visible = unpack(bits)
    sums = _gather(slots, slots.group_slot[group], bits, intersections, memory.small)
    v_rgb = Vec3(sums[V_FEATURE], sums[V_FEATURE + 1], sums[V_FEATURE + 2])
    is_alone = intersections.num_features == 1
    v_depth = sums[V_FEATURE] if is_alone else sums[V_FEATURE + 3]

    proj = read_group(source, at, camera, settings.eps2d)
    v = shape_gradient(proj, camera, sums, v_depth, visible, settings.antialiased)
    w, x, y, z = quat_gradient(proj.quat, rotation_gradient(camera, v.U))
    xyz = masked(visible, Vec3(x, y, z))
    v_mean = to_world(camera, v.p)
    if shading.degree >= 0:
        v_offset = _color_gradient(source, at, proj.offset, shading, v_rgb, visible, memory)
        v_offset = masked(visible, v_offset)
        v_mean = Vec3(v_mean.x + v_offset.x, v_mean.y + v_offset.y, v_mean.z + v_offset.z)
    v_quat = (select(visible, w, 0.0), xyz.x, xyz.y, xyz.z)
    v_opacity = select(visible, sums[0] / load(source.opacities, at), 0.0)

    width, used = 3 * shading.num_coeffs, 3 * num_harmonics(shading.degree)
    add_rows(gradients.inputs.sh_coeffs, row, count, width, used, memory.rows, fresh)
    ours = GroupGradients(v_mean, v_quat, v.scale, v_opacity)
    add_group(gradients.inputs, row, count, ours, memory.small, fresh)
    _add_camera(of_camera, proj, v, v_mean, visible, memory.small)


@kernel
def project_backward(
    scene: Scene,
    camera: FloatArray,
    settings: RasterSettings,
    slots: Slots,
    intersections: Intersections,
    gradients: SceneGradients,
    first_chunk: int,
    last_chunk: int,
    work: Workspace,
) -> None:
    """Gradients of the Gaussians of some chunks.

    Args:
        scene: the Gaussians.
        camera: see `layout`.
        settings: see `layout`.
        slots: as `project` left them.
        intersections: as `blend_backward.blend_backward_kernel` left them.
        gradients: receives the gradients of the loss.
        first_chunk: first chunk.
        last_chunk: end of the range, exclusive.
        work: scratch memory.
    """
    memory = _memory_in(work.floats)
    per_chunk = CHUNK // GROUP
    num_groups = (scene.num + GROUP - 1) // GROUP
    for chunk in range(first_chunk, last_chunk):
        of_camera = gradients.camera_sums[chunk * CAMERA_SUMS : (chunk + 1) * CAMERA_SUMS]
        for group in range(chunk * per_chunk, min((chunk + 1) * per_chunk, num_groups)):
            if slots.group_bits[group] != 0:
                _project_group_backward(
                    scene,
                    group,
                    camera,
                    settings,
                    slots,
                    intersections,
                    gradients,
                    of_camera,
                    memory,
                )
            elif gradients.fresh:
                row = group * GROUP
                count = min(GROUP, scene.num - row)
                zero_group(gradients.inputs, row, count, 3 * settings.shading.num_coeffs)
