"""Gradients of the projection: from the sums of the hits to the Gaussians and the camera."""

from __future__ import annotations

from typing import NamedTuple

from zipsplat.render.cpu.compiler import inline, kernel
from zipsplat.render.cpu.geometry import (
    Ellipse,
    Mat3,
    Projection,
    Quat,
    Vec3,
    combined,
    dot,
    scaled,
    times,
    to_world,
)
from zipsplat.render.cpu.layout import (
    CHUNK,
    GROUP,
    HIGH_X,
    HIGH_Y,
    HIT,
    LOW_X,
    LOW_Y,
    DoubleArray,
    FloatArray,
    Hits,
    Inputs,
    Limits,
    Slots,
    Workspace,
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
from zipsplat.render.cpu.simd import Floats, Mask, fma, maximum, select, sqrt, unpack, zeros
from zipsplat.render.cpu.simd_memory import (
    item,
    lane_sums,
    load,
    load_table,
    store,
    store_columns_3,
    store_columns_4,
    store_rows,
)

CAMERA_SUMS = 12  # gradients of the rotation, row by row, and of the centre
UNPROJECT_FLOATS = (2 * COLUMNS + 2 * GROUP) * GROUP  # of working memory


@inline
def _gather(slots: Slots, slot: int, bits: int, hits: Hits, sums: FloatArray) -> tuple[Floats, ...]:
    """Add up the hits of each Gaussian of a group; see `layout.HIT`. `sums` is memory for them."""
    for i in range(GROUP):
        total = zeros()
        if bits >> i & 1:
            first = slots.first_hit[slot]
            for hit in range(first, first + slots.num_hits[slot]):
                if item(hits.used, hit):
                    total = total + load(hits.sums, hit * HIT)
            slot += 1
        store(sums, i * GROUP, total)
    return load_table(sums, 0, GROUP)


@inline
def _ellipse_gradient(
    e: Ellipse, sxx: Floats, sxy: Floats, syy: Floats
) -> tuple[Floats, Floats, Floats]:
    """Gradients by a, b, c from the matrix S of second moments.

    The gradient by Q = Σ⁻¹ is −½ S, and dQ = −Q dΣ Q; so that by Σ is ½ Q S Q.
    """
    p00 = fma(sxx, e.A, sxy * e.B)
    p01 = fma(sxx, e.B, sxy * e.C)
    p10 = fma(sxy, e.A, syy * e.B)
    p11 = fma(sxy, e.B, syy * e.C)
    v_a = 0.5 * fma(e.A, p00, e.B * p10)
    v_b = fma(e.A, p01, e.B * p11)
    v_c = 0.5 * fma(e.B, p01, e.C * p11)
    return v_a, v_b, v_c


@inline
def _point_gradient(
    proj: Projection,
    camera: FloatArray,
    v_J: tuple[Floats, Floats, Floats, Floats],
    v_mean_x: Floats,
    v_mean_y: Floats,
    v_depth: Floats,
) -> Vec3:
    """Gradient by the point in the camera's frame."""
    J, p = proj.J, proj.p
    v_xx, v_xz, v_yy, v_yz = v_J
    slope_x, slope_y = p.x * J.inverse_z, p.y * J.inverse_z
    free_x = (slope_x >= camera[LOW_X]) & (slope_x <= camera[HIGH_X])
    free_y = (slope_y >= camera[LOW_Y]) & (slope_y <= camera[HIGH_Y])
    v_x = fma(v_mean_x, J.xx, select(free_x, -(J.xx * v_xz), 0.0) * J.inverse_z)
    v_y = fma(v_mean_y, J.yy, select(free_y, -(J.yy * v_yz), 0.0) * J.inverse_z)
    focal = fma(J.xx, v_xx - J.slope_x * v_xz, J.yy * (v_yy - J.slope_y * v_yz))
    v_z = fma(v_x, slope_x, fma(v_y, slope_y, focal * J.inverse_z))
    return Vec3(v_x, v_y, v_depth - v_z)


@inline
def _quat_gradient(q: Quat, v: Mat3) -> tuple[Floats, Floats, Floats, Floats]:
    """Gradient by a quaternion of any length, from that by the rotation matrix."""
    w = 2.0 * (q.x * (v.z.y - v.y.z) + q.y * (v.x.z - v.z.x) + q.z * (v.y.x - v.x.y))
    x = 2.0 * (q.y * (v.x.y + v.y.x) + q.z * (v.x.z + v.z.x) + q.w * (v.z.y - v.y.z))
    x = x - 4.0 * q.x * (v.y.y + v.z.z)
    y = 2.0 * (q.x * (v.x.y + v.y.x) + q.z * (v.y.z + v.z.y) + q.w * (v.x.z - v.z.x))
    y = y - 4.0 * q.y * (v.x.x + v.z.z)
    z = 2.0 * (q.x * (v.x.z + v.z.x) + q.y * (v.y.z + v.z.y) + q.w * (v.y.x - v.x.y))
    z = z - 4.0 * q.z * (v.x.x + v.y.y)
    along = w * q.w + x * q.x + y * q.y + z * q.z
    i = q.inverse_length
    return (
        (w - along * q.w) * i,
        (x - along * q.x) * i,
        (y - along * q.y) * i,
        (z - along * q.z) * i,
    )


@inline
def _masked(mask: Mask, v: Vec3) -> Vec3:
    return Vec3(select(mask, v.x, 0.0), select(mask, v.y, 0.0), select(mask, v.z, 0.0))


@inline
def _rotation_gradient(camera: FloatArray, v_U: Mat3) -> Mat3:
    """Gradient by the world-from-ellipsoid rotation, from that by the camera-from-ellipsoid one."""
    x = to_world(camera, Vec3(v_U.x.x, v_U.y.x, v_U.z.x))
    y = to_world(camera, Vec3(v_U.x.y, v_U.y.y, v_U.z.y))
    z = to_world(camera, Vec3(v_U.x.z, v_U.y.z, v_U.z.z))
    return Mat3(Vec3(x.x, y.x, z.x), Vec3(x.y, y.y, z.y), Vec3(x.z, y.z, z.z))


@inline
def _camera_row(v_p: Floats, offset: Vec3, v_U: Vec3, R: Mat3) -> Vec3:
    """Gradient by one row of the camera's rotation."""
    return Vec3(
        fma(v_p, offset.x, dot(v_U, R.x)),
        fma(v_p, offset.y, dot(v_U, R.y)),
        fma(v_p, offset.z, dot(v_U, R.z)),
    )


class GroupGradients(NamedTuple):
    """Gradients of the loss by sixteen Gaussians, zero for those that are not seen."""

    mean: Vec3
    quat: tuple[Floats, Floats, Floats, Floats]
    scale: Vec3
    opacity: Floats


class _OfShape(NamedTuple):
    """Gradients by what the projection is made of."""

    p: Vec3  # the centre in the camera's frame
    U: Mat3  # camera from ellipsoid
    scale: Vec3


@inline
def _shape_gradient(
    proj: Projection, camera: FloatArray, sums: tuple[Floats, ...], v_depth: Floats, visible: Mask
) -> _OfShape:
    """Through the ellipse to the ellipsoid."""
    sx, sy, sxx, sxy, syy = sums[1], sums[2], sums[3], sums[4], sums[5]
    e, J, M, U, scale = proj.ellipse, proj.J, proj.M, proj.U, proj.scale
    v_a, v_b, v_c = _ellipse_gradient(e, sxx, sxy, syy)
    v_n1 = combined(2.0 * v_a, proj.n1, v_b, proj.n2)
    v_n2 = combined(2.0 * v_c, proj.n2, v_b, proj.n1)
    v_J = (dot(v_n1, M.x), dot(v_n1, M.z), dot(v_n2, M.y), dot(v_n2, M.z))
    v_p = _point_gradient(
        proj, camera, v_J, fma(e.A, sx, e.B * sy), fma(e.B, sx, e.C * sy), v_depth
    )
    v_M = Mat3(
        _masked(visible, scaled(v_n1, J.xx)),
        _masked(visible, scaled(v_n2, J.yy)),
        _masked(visible, combined(J.xz, v_n1, J.yz, v_n2)),
    )
    v_scale = times(v_M.x, U.x)
    v_scale = Vec3(
        fma(v_M.y.x, U.y.x, fma(v_M.z.x, U.z.x, v_scale.x)),
        fma(v_M.y.y, U.y.y, fma(v_M.z.y, U.z.y, v_scale.y)),
        fma(v_M.y.z, U.y.z, fma(v_M.z.z, U.z.z, v_scale.z)),
    )
    v_U = Mat3(times(v_M.x, scale), times(v_M.y, scale), times(v_M.z, scale))
    return _OfShape(_masked(visible, v_p), v_U, _masked(visible, v_scale))


@inline
def _color_gradient(
    source: Inputs,
    at: int,
    offset: Vec3,
    limits: Limits,
    v_rgb: Vec3,
    visible: Mask,
    table: FloatArray,
    basis: FloatArray,
    rows: FloatArray,
) -> Vec3:
    """Gradient by the offset from the camera; `rows` receives those by the coefficients."""
    used = num_harmonics(limits.degree)
    d = unit(offset)
    read_columns(source.sh_coeffs, at, limits.num_coeffs, used, table)
    write_basis(limits.degree, d, basis)
    rgb = color(used, table, basis)
    v = Vec3(
        select(visible & (rgb.x >= 0.0), v_rgb.x, 0.0),
        select(visible & (rgb.y >= 0.0), v_rgb.y, 0.0),
        select(visible & (rgb.z >= 0.0), v_rgb.z, 0.0),
    )
    v_d = direction_gradient(limits.degree, table, d, v)
    for s in range(used):
        y = load(basis, s * GROUP)
        store(table, 3 * s * GROUP, select(visible, y * v.x, 0.0))
        store(table, (3 * s + 1) * GROUP, select(visible, y * v.y, 0.0))
        store(table, (3 * s + 2) * GROUP, select(visible, y * v.z, 0.0))
    for first in range(0, 3 * used, GROUP):
        store_rows(rows, first, COLUMNS, load_table(table, first * GROUP, GROUP))
    inverse = 1.0 / sqrt(maximum(dot(offset, offset), 1e-24))
    return combined(inverse, v_d, -(inverse * dot(d, v_d)), d)


@inline
def _add_rows(
    target: FloatArray, row: int, num: int, width: int, used: int, rows: FloatArray, fresh: bool
) -> None:
    """Write or add the first `used` of 48 numbers of `num` rows to rows of `width`."""
    whole = used // GROUP * GROUP
    for i in range(num):
        at = (row + i) * width
        for k in range(0, whole, GROUP):
            value = load(rows, i * COLUMNS + k)
            store(target, at + k, value if fresh else load(target, at + k) + value)
        for k in range(whole, used):
            value = rows[i * COLUMNS + k]
            target[at + k] = value if fresh else target[at + k] + value
        if fresh:
            _zero(target, at + used, width - used)


@inline
def _add(target: FloatArray, at: int, source: FloatArray, num: int, fresh: bool) -> None:
    """Write or add some numbers."""
    for i in range(num):
        target[at + i] = source[i] if fresh else target[at + i] + source[i]


@inline
def _zero(target: FloatArray, at: int, num: int) -> None:
    for i in range(num):
        target[at + i] = 0.0


@inline
def _zero_group(gradients: Inputs, row: int, num: int, width: int) -> None:
    _zero(gradients.means, row * 3, num * 3)
    _zero(gradients.quats, row * 4, num * 4)
    _zero(gradients.scales, row * 3, num * 3)
    _zero(gradients.opacities, row, num)
    _zero(gradients.sh_coeffs, row * width, num * width)


@inline
def _add_group(
    gradients: Inputs, row: int, num: int, v: GroupGradients, small: FloatArray, fresh: bool
) -> None:
    """Write or add the gradients of `num` Gaussians from a row on, but those of the harmonics."""
    store_columns_3(small, 0, v.mean)
    _add(gradients.means, row * 3, small, num * 3, fresh)
    store_columns_4(small, 0, v.quat)
    _add(gradients.quats, row * 4, small, num * 4, fresh)
    store_columns_3(small, 0, v.scale)
    _add(gradients.scales, row * 3, small, num * 3, fresh)
    store(small, 0, v.opacity)
    _add(gradients.opacities, row, small, num, fresh)


@inline
def _add_camera(
    camera_sums: DoubleArray,
    chunk: int,
    proj: Projection,
    v: _OfShape,
    v_mean: Vec3,
    visible: Mask,
    small: FloatArray,
) -> None:
    """Add the gradients by the camera's rotation and centre."""
    x = _masked(visible, _camera_row(v.p.x, proj.offset, v.U.x, proj.R))
    y = _masked(visible, _camera_row(v.p.y, proj.offset, v.U.y, proj.R))
    z = _masked(visible, _camera_row(v.p.z, proj.offset, v.U.z, proj.R))
    c = v_mean
    ours = (x.x, x.y, x.z, y.x, y.y, y.z, z.x, z.y, z.z, -c.x, -c.y, -c.z)
    store(small, 0, lane_sums(ours))
    for k in range(CAMERA_SUMS):
        camera_sums[chunk * CAMERA_SUMS + k] += small[k]


@inline
def _unproject_group(
    source: Inputs,
    at: int,
    camera: FloatArray,
    limits: Limits,
    slots: Slots,
    group: int,
    num_features: int,
    hits: Hits,
    fresh: bool,
    gradients: Inputs,
    count: int,
    camera_sums: DoubleArray,
    chunk: int,
    work: Workspace,
) -> None:
    """Gradients of the `count` Gaussians of a group, which lie at a row of `source`."""
    table = work.floats[: COLUMNS * GROUP]
    rows = work.floats[COLUMNS * GROUP : 2 * COLUMNS * GROUP]
    basis = work.floats[2 * COLUMNS * GROUP : (2 * COLUMNS + GROUP) * GROUP]
    memory = work.floats[(2 * COLUMNS + GROUP) * GROUP : UNPROJECT_FLOATS]
    row = group * GROUP
    bits = slots.group_bits[group]
    visible = unpack(bits)
    sums = _gather(slots, slots.group_slot[group], bits, hits, memory)
    v_rgb = Vec3(sums[6], sums[7], sums[8])
    v_depth = sums[6] if num_features == 1 else sums[9]

    proj = read_group(source, at, camera, limits.eps2d)
    v = _shape_gradient(proj, camera, sums, v_depth, visible)
    w, x, y, z = _quat_gradient(proj.quat, _rotation_gradient(camera, v.U))
    xyz = _masked(visible, Vec3(x, y, z))
    v_mean = to_world(camera, v.p)
    if limits.degree >= 0:
        v_offset = _color_gradient(
            source, at, proj.offset, limits, v_rgb, visible, table, basis, rows
        )
        v_offset = _masked(visible, v_offset)
        v_mean = Vec3(v_mean.x + v_offset.x, v_mean.y + v_offset.y, v_mean.z + v_offset.z)
    v_quat = (select(visible, w, 0.0), xyz.x, xyz.y, xyz.z)
    v_opacity = select(visible, sums[0] / load(source.opacities, at), 0.0)

    used = 3 * num_harmonics(limits.degree)
    _add_rows(gradients.sh_coeffs, row, count, 3 * limits.num_coeffs, used, rows, fresh)
    ours = GroupGradients(v_mean, v_quat, v.scale, v_opacity)
    _add_group(gradients, row, count, ours, memory, fresh)
    _add_camera(camera_sums, chunk, proj, v, v_mean, visible, memory)


@kernel
def unproject(
    inputs: Inputs,
    tail: Inputs,
    tail_row: int,
    camera: FloatArray,
    limits: Limits,
    slots: Slots,
    num_features: int,
    hits: Hits,
    fresh: bool,
    gradients: Inputs,
    camera_sums: DoubleArray,
    first_chunk: int,
    last_chunk: int,
    work: Workspace,
) -> None:
    """Gradients of the Gaussians of some chunks.

    Args:
        inputs: the scene.
        tail: as in `project.project`.
        tail_row: as there.
        camera: as there.
        limits: as there.
        slots: as `project` left them.
        num_features: 1 (depth), 3 (colour) or 4 (both).
        hits: as `backward.unblender` left them.
        fresh: whether gradients are written; otherwise they are added.
        gradients: as `inputs`; receives the gradients of the loss.
        camera_sums: 12 numbers per chunk, zero; receives gradients by rotation and centre.
        first_chunk: first chunk to be done.
        last_chunk: the one behind the last.
        work: memory to work in.
    """
    num = len(inputs.opacities)
    per_chunk = CHUNK // GROUP
    num_groups = (num + GROUP - 1) // GROUP
    for chunk in range(first_chunk, last_chunk):
        for group in range(chunk * per_chunk, min((chunk + 1) * per_chunk, num_groups)):
            row = group * GROUP
            count = min(GROUP, num - row)
            if slots.group_bits[group] != 0:
                source, at = inputs, row
                if row >= tail_row:
                    source, at = tail, row - tail_row
                _unproject_group(
                    source,
                    at,
                    camera,
                    limits,
                    slots,
                    group,
                    num_features,
                    hits,
                    fresh,
                    gradients,
                    count,
                    camera_sums,
                    chunk,
                    work,
                )
            elif fresh:
                _zero_group(gradients, row, count, 3 * limits.num_coeffs)
