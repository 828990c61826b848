"""Images and depth of places whose appearance is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splatscenes.builder import SceneBuilder
from splatscenes.camera_paths import look_at_poses
from splatscenes.raycast import Pinhole, render
from splatscenes.textures import TEXTURE_SIZE, mip_chain
from splatscenes.world import BOX, ELLIPSOID, World


def _camera(position: tuple[float, ...], target: tuple[float, ...], size: int = 40) -> Pinhole:
    points = np.array([position, target], dtype=np.float64)
    pose = look_at_poses(points[:1], points[1:], np.zeros(1))[0]
    K = np.array([[size, 0, size / 2], [0, size, size / 2], [0, 0, 1.0]])
    return Pinhole(pose, K, size, size)


def _points(camera: Pinhole, depth: np.ndarray) -> np.ndarray:
    """World points (H, W, 3) of the pixel centres."""
    v, u = np.mgrid[: camera.height, : camera.width] + 0.5
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.K).T
    local = rays * depth[..., None]
    return local @ camera.world_from_camera[:3, :3].T + camera.world_from_camera[:3, 3]


def _lit(builder: SceneBuilder, light: float = 0.0) -> World:
    if light:
        builder.add_sun(np.array([0.0, -1.0, 1.0]), (light, light, light))
    return builder.world()


def test_depth_is_exact_and_along_the_optical_axis(grey_builder: SceneBuilder) -> None:
    grey_builder.add_solid(ELLIPSOID, (0.5, 4, 1), (1, 1, 1), 0)
    grey_builder.add_solid(BOX, (0, 0, -1), (50, 50, 1), 0, loose=True)
    camera = _camera((0, 0, 1.5), (0.5, 4, 0.6))
    _, depth, keys = render(_lit(grey_builder), camera)
    points = _points(camera, depth.astype(np.float64))
    on_ball = np.abs(np.linalg.norm(points - [0.5, 4, 1], axis=-1) - 1) < 1e-4
    on_floor = np.abs(points[..., 2]) < 1e-4
    sky = depth == -1
    assert ((on_ball.astype(int) + on_floor + sky) == 1).all()
    assert min(on_ball.sum(), on_floor.sum(), sky.sum()) > 100
    assert len(np.unique(keys[on_ball])) == 1


def test_light_follows_the_angle_to_the_sun(grey_builder: SceneBuilder) -> None:
    grey_builder.add_solid(BOX, (0, 0, -1), (50, 50, 1), 0, loose=True)
    ambient_only, _, _ = render(_lit(grey_builder), _camera((0, 0, 5), (0, 1, 0)))
    lit, _, _ = render(_lit(grey_builder, 0.8), _camera((0, 0, 5), (0, 1, 0)))
    # Albedo 0.25, ambient 1, sun 0.8 at 45°; displayed as the root of the light.
    assert ambient_only.mean() == pytest.approx(255 * math.sqrt(0.25), abs=0.6)
    expected = 0.25 * (1 + 0.8 * math.sqrt(0.5))
    assert lit.mean() == pytest.approx(255 * math.sqrt(expected), abs=0.6)


def test_shadows_fall_away_from_the_sun(grey_builder: SceneBuilder) -> None:
    grey_builder.add_solid(BOX, (0, 0, -1), (50, 50, 1), 0, loose=True)
    grey_builder.add_solid(BOX, (0, 0, 2), (1, 1, 0.1), 0)
    camera = _camera((7.0, 5.0, 3.0), (0.0, 1.5, 0.0), 64)
    color, depth, _ = render(_lit(grey_builder, 0.8), camera)
    points = _points(camera, depth)
    floor = np.abs(points[..., 2]) < 1e-3
    x, y = points[..., 0], points[..., 1]
    # The sun stands at −y, 45° high: the plate at height 2 shades y from 1 to 3.
    shaded = floor & (np.abs(x) < 0.8) & (y > 1.3) & (y < 2.7)
    bright = floor & ((np.abs(x) > 1.3) | (y > 3.4))
    assert shaded.sum() > 15
    assert color[shaded].max() < color[bright].min()


def test_corners_are_darker(grey_builder: SceneBuilder) -> None:
    grey_builder.add_room((0.0, 0.0, 1.5), (2.0, 2.0, 1.5), [0] * 6)
    camera = _camera((0, -1.5, 1.5), (1.5, 2, 1.5), 64)
    color, depth, _ = render(_lit(grey_builder), camera)
    points = _points(camera, depth)
    back = np.abs(points[..., 1] - 2) < 1e-3
    from_edge = 2 - np.abs(points[..., 0])
    middle = back & (from_edge > 0.5) & (np.abs(points[..., 2] - 1.5) < 0.5)
    corner = back & (from_edge < 0.1) & (np.abs(points[..., 2] - 1.5) < 0.5)
    assert color[corner].mean() < color[middle].mean() - 15


def test_edges_are_smooth(grey_builder: SceneBuilder) -> None:
    grey_builder.add_solid(BOX, (0, 5, 0), (1, 0.1, 3), 0)
    camera = _camera((0, 0, 0), (0.37, 5, 0.11), 48)
    color, _, _ = render(_lit(grey_builder), camera)
    levels = np.unique(color[..., 0])
    assert len(levels) >= 4  # the sky, the box, and mixtures of them


def test_far_textures_fade_to_their_mean(grey_builder: SceneBuilder) -> None:
    checker = np.indices((TEXTURE_SIZE, TEXTURE_SIZE)).sum(0) // 32 % 2
    texture = np.repeat(checker[..., None], 3, -1).astype(np.float32)
    fine = grey_builder.add_material(grey_builder.add_texture(mip_chain(texture)), (0.5, 0.5))
    grey_builder.add_solid(BOX, (0, 30, 0), (80, 0.5, 80), fine)
    far, _, _ = render(_lit(grey_builder), _camera((0, -170, 0), (0, 1, 0)))
    near, _, _ = render(_lit(grey_builder), _camera((0, 29.1, 0), (0, 30, 0)))
    middle = (slice(12, 28), slice(12, 28))
    assert far[middle].std() < 4 < 60 < near[middle].std()


def test_lettering_reads_from_left_to_right(grey_builder: SceneBuilder) -> None:
    ramp = np.tile(np.linspace(0.1, 0.9, TEXTURE_SIZE, dtype=np.float32), (TEXTURE_SIZE, 1))
    texture = grey_builder.add_texture(mip_chain(np.repeat(ramp[..., None], 3, -1)))
    fitted = grey_builder.add_material(texture, (-1.0, -1.0))
    grey_builder.add_solid(BOX, (0, 0, 0), (1, 1, 1), fitted)
    world = _lit(grey_builder)
    for position in ((0, -5, 0), (0, 5, 0), (-5, 0, 0), (5, 0, 0)):
        color, depth, _ = render(world, _camera(position, (0, 0, 0)))
        row = color[20, depth[20] > 0, 0].astype(int)
        assert (np.diff(row[2:-2]) > 0).all()


def test_lettering_on_walls_reads_from_left_to_right(grey_builder: SceneBuilder) -> None:
    ramp = np.tile(np.linspace(0.1, 0.9, TEXTURE_SIZE, dtype=np.float32), (TEXTURE_SIZE, 1))
    texture = grey_builder.add_texture(mip_chain(np.repeat(ramp[..., None], 3, -1)))
    fitted = grey_builder.add_material(texture, (-1.0, -1.0))
    grey_builder.add_room((0.0, 0.0, 0.0), (9.0, 9.0, 9.0), [fitted] * 6)
    world = _lit(grey_builder)
    for target in ((0, -5, 0), (0, 5, 0), (-5, 0, 0), (5, 0, 0)):
        color, _, _ = render(world, _camera((0, 0, 0), target))
        assert (np.diff(color[20, :, 0].astype(int)) > 0).all()
