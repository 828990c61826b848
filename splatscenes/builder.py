"""Assembles shapes, materials and lights into a world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splatscenes.textures import TEXELS
from splatscenes.tree import build_tree
from splatscenes.world import (
    BOX,
    CENTER,
    ELLIPSOID,
    FRUSTUM,
    HALF,
    LOCAL,
    NUM_DATA,
    NUM_LIGHT,
    NUM_MATERIAL,
    NUM_SKY,
    ROOM,
    SHIFT,
    TAPER,
    TRIANGLE,
    FloatArray,
    World,
)

Triple = tuple[float, float, float]


def turn(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> FloatArray:
    """World-from-local rotation (3, 3): roll about x, then pitch about y, then yaw about z."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    cr, sr = math.cos(roll), math.sin(roll)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


@dataclass(frozen=True)
class Sky:
    """Sky light.

    Colours are linear light, not display values.

    Attributes:
        zenith: light from above; also the ambient light on upward surfaces.
        horizon: light at the horizon; distant objects fade into it.
        sun: glow around the sun.
        bounce: ambient light from below.
        ambient: strength of ambient light relative to the visible sky.
        cloud_texture: index of a cloud texture, −1 for none.
        cloud_light: brightness of clouds.
        haze: extinction per metre.
    """

    zenith: Triple = (0.5, 0.6, 0.8)
    horizon: Triple = (0.8, 0.85, 0.9)
    sun: Triple = (1.0, 0.9, 0.7)
    bounce: Triple = (0.3, 0.28, 0.25)
    ambient: float = 0.6
    cloud_texture: int = -1
    cloud_light: float = 1.0
    haze: float = 0.0


class SceneBuilder:
    """Collects shapes, materials and lights; `world()` turns them into arrays."""

    def __init__(self) -> None:
        self._kind: list[int] = []
        self._data: list[FloatArray] = []
        self._material: list[tuple[int, int]] = []
        self._group: list[int] = []
        self._boxes: list[FloatArray] = []
        self._loose: list[int] = []
        self._faces: list[Sequence[int]] = []
        self._openings: list[tuple[float, ...]] = []
        self._materials: list[FloatArray] = []
        self._lights: list[FloatArray] = []
        self._num_groups = 0
        self.textures: list[npt.NDArray[np.uint8]] = []
        self.sky = Sky()

    # ------------------------------------------------------------------ looks

    def add_texture(self, mips: npt.NDArray[np.uint8]) -> int:
        """Add a mip chain (TEXELS, 3); returns its index."""
        self.textures.append(mips)
        return len(self.textures) - 1

    def add_material(
        self,
        texture: int,
        tile: tuple[float, float],
        tint: Sequence[float] | FloatArray = (1.0, 1.0, 1.0),
        gloss: float = 0.0,
        emission: float = 0.0,
        blotch: tuple[float, float] = (0.0, 1.0),
    ) -> int:
        """Add a material.

        Args:
            texture: index of a texture.
            tile: size of one repeat in metres along u and v; negative: number of repeats per face.
            tint: linear factors of the texture's colour.
            gloss: 0 matte … 1 polished.
            emission: emitted light as a multiple of the colour.
            blotch: strength and size in metres of large stains.
        """
        row = np.array([texture, *tile, *tint, gloss, emission, *blotch], dtype=np.float64)
        assert row.shape == (NUM_MATERIAL,)
        self._materials.append(row)
        return len(self._materials) - 1

    def add_sun(self, direction: FloatArray, light: Triple, shadows: bool = True) -> None:
        """Add a light at infinity; the first light is the sun that the sky shows."""
        unit = direction / np.linalg.norm(direction)
        self._lights.append(np.array([0, *unit, *light, 1.0, float(shadows)]))

    def add_lamp(self, position: Triple, light: Triple, reach: float, shadows: bool) -> None:
        """Add a point light; at distance `reach`, its light is about `light`."""
        self._lights.append(np.array([1, *position, *light, reach, float(shadows)]))

    # ------------------------------------------------------------------ shapes

    def _add(
        self,
        kind: int,
        data: FloatArray,
        material: tuple[int, int],
        box: FloatArray,
        group: int | None = None,
        loose: bool = False,
    ) -> int:
        if group is None:
            group = self._num_groups
            self._num_groups += 1
        if loose:
            self._loose.append(len(self._kind))
        self._kind.append(kind)
        self._data.append(data)
        self._material.append(material)
        self._group.append(group)
        self._boxes.append(box)
        return len(self._kind) - 1

    def add_solid(
        self,
        kind: int,
        center: Sequence[float] | FloatArray,
        half: Sequence[float],
        material: int,
        cap: int | None = None,
        rotation: FloatArray | None = None,
        taper: float = 0.0,
        shift: tuple[float, float] = (0.0, 0.0),
        loose: bool = False,
    ) -> int:
        """Add a box, an ellipsoid or a frustum.

        Args:
            kind: shape.
            center: world position.
            half: half extents along the shape's axes (radii of round shapes at the base).
            material: material of the sides.
            cap: material of top and bottom; that of the sides by default.
            rotation: world-from-local (3, 3).
            taper: taper of a frustum: 1 − top radius / base radius.
            shift: texture offset.
            loose: keep out of the BVH, for shapes as large as the world.

        Returns:
            Index of the primitive.
        """
        axes = np.eye(3) if rotation is None else rotation
        extent = np.maximum(np.asarray(half, dtype=np.float64), 1e-4)
        data = np.zeros(NUM_DATA)
        data[LOCAL : LOCAL + 9] = (axes / extent).T.reshape(-1)
        data[CENTER : CENTER + 3] = center
        data[HALF : HALF + 3] = extent
        data[TAPER] = taper
        data[SHIFT : SHIFT + 2] = shift
        widest = extent * (max(1.0, 1.0 - taper), max(1.0, 1.0 - taper), 1.0)
        reach = np.abs(axes) @ widest
        middle = np.asarray(center, dtype=np.float64)
        box = np.concatenate([middle - reach, middle + reach])
        pair = (material, material if cap is None else cap)
        return self._add(kind, data, pair, box, loose=loose)

    def add_room(self, center: Triple, half: Triple, faces: Sequence[int]) -> int:
        """Add a box seen from inside; `faces` are the materials of −x +x −y +y −z +z."""
        self._faces.append(faces)
        row = len(self._faces) - 1
        number = self.add_solid(ROOM, center, half, row, loose=True)
        return number

    def add_opening(self, room: int, face: int, span: tuple[float, float, float, float]) -> None:
        """Cut a rectangle out of a room's face.

        Args:
            room: index of the room.
            face: 0–5.
            span: low and high end along the first, then the second of the face's other two
                axes, in [-1, 1].
        """
        self._openings.append((float(room), float(face), *span))

    def add_mesh(
        self, vertices: FloatArray, faces: npt.NDArray[np.int64], material: int, smooth: bool = True
    ) -> None:
        """Add triangles, with texture projected from above (from the side if steep).

        Args:
            vertices: (N, 3) world.
            faces: (F, 3), counter-clockwise seen from outside.
            material: material of all faces.
            smooth: interpolate vertex normals.
        """
        corners = vertices[faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        vertex_normals = np.zeros_like(vertices)
        if smooth:
            for k in range(3):
                np.add.at(vertex_normals, faces[:, k], normals)
            corner_normals = vertex_normals[faces]
        else:
            corner_normals = np.repeat(normals[:, None], 3, axis=1)
        corner_normals = corner_normals / (
            np.linalg.norm(corner_normals, axis=-1, keepdims=True) + 1e-12
        )
        steep = np.abs(normals[:, 2]) < 0.6 * np.linalg.norm(normals, axis=1)
        uv = np.where(
            (steep & ~np.bool_(smooth))[:, None, None], _side_uv(corners, normals), corners[..., :2]
        )
        edges = np.concatenate([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 1)
        data = np.concatenate(
            [corners[:, 0], edges, corner_normals.reshape(-1, 9), uv.reshape(-1, 6)], axis=1
        )
        boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
        group = self._num_groups
        self._num_groups += 1
        for k in range(len(faces)):
            if not smooth:
                group, self._num_groups = self._num_groups, self._num_groups + 1
            self._add(TRIANGLE, data[k], (material, material), boxes[k], group)

    # ------------------------------------------------------------------ result

    def world(self) -> World:
        """Build the arrays of everything added so far."""
        num = len(self._kind)
        loose = np.zeros(num, dtype=np.bool_)
        loose[self._loose] = True
        inside = np.flatnonzero(~loose)
        boxes = np.array(self._boxes).reshape(-1, 6)[inside]
        order, bounds, nodes = build_tree(np.ascontiguousarray(boxes))
        order = np.concatenate([inside[order], np.flatnonzero(loose)]).astype(np.int64)
        place = np.empty(num, dtype=np.int64)
        place[order] = np.arange(num)
        openings = np.array(self._openings, dtype=np.float64).reshape(-1, 6)
        openings[:, 0] = place[openings[:, 0].astype(np.int64)]
        textures = np.array(self.textures, dtype=np.uint8).reshape(-1, TEXELS, 3)
        return World(
            kind=np.array(self._kind, dtype=np.int32)[order],
            data=np.array(self._data).reshape(-1, NUM_DATA)[order],
            material=np.array(self._material, dtype=np.int32).reshape(-1, 2)[order],
            group=np.array(self._group, dtype=np.int32)[order],
            faces=np.array(self._faces, dtype=np.int32).reshape(-1, 6),
            bounds=bounds,
            nodes=nodes,
            num_in_tree=len(inside),
            openings=openings,
            materials=np.array(self._materials).reshape(-1, NUM_MATERIAL),
            textures=textures,
            lights=np.array(self._lights).reshape(-1, NUM_LIGHT),
            sky=_sky_row(self.sky),
        )


def _side_uv(corners: FloatArray, normals: FloatArray) -> FloatArray:
    along = np.stack([-normals[:, 1], normals[:, 0], np.zeros(len(normals))], axis=1)
    along = along / (np.linalg.norm(along, axis=1, keepdims=True) + 1e-12)
    return np.stack([np.einsum("fkc,fc->fk", corners, along), -corners[..., 2]], axis=-1)


def _sky_row(sky: Sky) -> FloatArray:
    row = [*sky.zenith, *sky.horizon, *sky.sun, *sky.bounce]
    row += [sky.ambient, sky.cloud_texture, sky.cloud_light, sky.haze, 1.0]
    assert len(row) == NUM_SKY
    return np.array(row, dtype=np.float64)


@dataclass(frozen=True)
class Spot:
    """A local coordinate frame for shapes.

    Attributes:
        scene: scene that receives the shapes.
        origin: world position.
        yaw: rotation about the vertical, radians.
    """

    scene: SceneBuilder
    origin: Triple = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    def at(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Spot:
        """A spot relative to this one."""
        return Spot(self.scene, self._world((x, y, z)), self.yaw + yaw)

    def _world(self, p: Triple) -> Triple:
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        x, y, z = self.origin
        return (x + c * p[0] - s * p[1], y + s * p[0] + c * p[1], z + p[2])

    def _rotation(self, rotation: FloatArray | None) -> FloatArray:
        yaw = turn(self.yaw)
        return yaw if rotation is None else yaw @ rotation

    def box(
        self,
        base: Triple,
        size: Triple,
        material: int,
        top: int | None = None,
        rotation: FloatArray | None = None,
    ) -> None:
        """Add a box, by the centre of its base and its size (rotated about its own centre)."""
        center = self._world((base[0], base[1], base[2] + size[2] / 2))
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        shift = (
            0.37 * base[0] + 0.11,
            0.53 * base[1] + 0.29,
        )  # different for each box, so repeats do not line up
        self.scene.add_solid(BOX, center, half, material, top, self._rotation(rotation), 0.0, shift)

    def ball(
        self, center: Triple, radii: Triple, material: int, rotation: FloatArray | None = None
    ) -> None:
        """Add an ellipsoid, by its centre and radii."""
        turned = self._rotation(rotation)
        self.scene.add_solid(ELLIPSOID, self._world(center), radii, material, None, turned)

    def cylinder(
        self,
        base: Triple,
        radius: float,
        height: float,
        material: int,
        cap: int | None = None,
        taper: float = 0.0,
        rotation: FloatArray | None = None,
    ) -> None:
        """Add a cylinder, or with taper a cone, by the centre of its base."""
        center = self._world((base[0], base[1], base[2] + height / 2))
        half = (radius, radius, height / 2)
        turned = self._rotation(rotation)
        self.scene.add_solid(FRUSTUM, center, half, material, cap, turned, taper)

    def mesh(self, vertices: FloatArray, faces: npt.NDArray[np.int64], material: int) -> None:
        """Add triangles with sharp edges."""
        placed = vertices @ turn(self.yaw).T + np.asarray(self.origin)
        self.scene.add_mesh(placed, faces, material, smooth=False)
