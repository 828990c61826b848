"""Whole generated scenes: repeatable, free of collisions, consistent between views."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from splatscenes.camera_paths import PATHS, look_at_poses, place_cameras
from splatscenes.exteriors import EXTERIORS
from splatscenes.interiors import INTERIORS
from splatscenes.raycast import render
from splatscenes.scene import GeneratedScene, generate_scene
from splatscenes.stage import Stage
from splatscenes.trace import clearances
from splatscenes.world import GLOSS, HAZE, World

SIZE = (48, 64)


def _first(index: int, split: str = "train", seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return generate_scene(split, seed, index, 6, SIZE).render(2)


def test_scenes_follow_from_split_seed_and_index() -> None:
    color, depth = _first(3)
    again, again_depth = _first(3)
    np.testing.assert_array_equal(color, again)
    np.testing.assert_array_equal(depth, again_depth)
    for other in (_first(4), _first(3, "test"), _first(3, seed=1)):
        assert np.abs(color.astype(int) - other[0].astype(int)).mean() > 5


def test_threads_change_nothing() -> None:
    alone = [_first(index) for index in (5, 6, 7)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(_first, (5, 6, 7)))
    for (color, depth), (other_color, other_depth) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(color, other_color)
        np.testing.assert_array_equal(depth, other_depth)


def test_more_views_and_pixels_show_the_same_place() -> None:
    few = generate_scene("train", 0, 8, 3, (24, 32))
    many = generate_scene("train", 0, 8, 24, (48, 64))
    assert few.place == many.place
    assert few.key == many.key == "train-0-000008"
    np.testing.assert_allclose(few.shot.world_from_camera[0], many.shot.world_from_camera[0])
    np.testing.assert_allclose(few.shot.K[0, 0] * 2, many.shot.K[0, 0])
    small, _ = few.render(0)
    large, _ = many.render(0)
    halved = large.reshape(24, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(halved - small).mean() < 8


@pytest.mark.parametrize("place", sorted({*INTERIORS, *EXTERIORS}, key=lambda p: p.__name__))
def test_every_place_has_room_for_a_smooth_path(place: object) -> None:
    scene = generate_scene("train", 1, 0, 12, SIZE, (place,))  # type: ignore[arg-type]
    poses = scene.shot.world_from_camera
    rotations, centers = poses[:, :3, :3], poses[:, :3, 3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (12, 1, 1)), atol=1e-9
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    assert (clearances(scene.world, centers, 0.1) > 0.09).all()
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    assert steps.max() < 4 * np.median(steps)
    turns = np.einsum("nij,nij->n", rotations[1:], rotations[:-1])  # 1 + 2 cos of the angle
    assert np.degrees(np.arccos(np.clip((turns - 1) / 2, -1, 1))).max() < 40
    color, depth = scene.render(5)
    assert color.std() > 12  # something is to be seen
    assert 20 < color.mean() < 235
    assert (depth > 0).mean() > 0.3
    assert (depth[depth > 0] > 0.05).all()


def test_images_differ_from_scene_to_scene() -> None:
    scenes = [generate_scene("train", 2, index, 2, (24, 32)) for index in range(8)]
    assert len({scene.place for scene in scenes}) >= 4
    small = [scene.render(0)[0].reshape(3, 8, 4, 8, 3).mean((1, 3)) for scene in scenes]
    gaps = [np.abs(a - b).mean() for i, a in enumerate(small) for b in small[:i]]
    assert min(gaps) > 4
    assert np.median(gaps) > 25


def _matte(world: World) -> World:
    """Without gloss and haze, whose look depends on where one stands."""
    materials, sky = world.materials.copy(), world.sky.copy()
    materials[:, GLOSS] = 0
    sky[HAZE] = 0
    return world._replace(materials=materials, sky=sky)


def _reprojection(
    scene: GeneratedScene, first: int, second: int, claimed: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Colour gaps of what both views see, and its share of what the first sees in the frame.

    `claimed` replaces the pose of the second view that projection believes in.
    """
    world, shot = _matte(scene.world), scene.shot
    color, depth, keys = render(world, shot.camera(first))
    other, other_depth, other_keys = render(world, shot.camera(second))
    v, u = np.mgrid[: shot.height, : shot.width] + 0.5
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(shot.K).T
    pose = shot.world_from_camera[first]
    target = shot.world_from_camera[second] if claimed is None else claimed
    points = (rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]
    local = (points - target[:3, 3]) @ target[:3, :3]
    pixel = local @ shot.K.T
    x, y = pixel[..., 0] / pixel[..., 2] - 0.5, pixel[..., 1] / pixel[..., 2] - 0.5
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    inside = (depth > 0) & (local[..., 2] > 0.05)
    inside &= (i >= 0) & (i < shot.height - 1) & (j >= 0) & (j < shot.width - 1)
    rows, columns = np.nonzero(inside)
    i, j, fx, fy = i[inside], j[inside], (x - np.floor(x))[inside], (y - np.floor(y))[inside]
    key, z = keys[rows, columns], local[inside][:, 2]
    same = np.ones(len(rows), dtype=bool)
    mixed = np.zeros((len(rows), 3))
    for a, b, weight in (
        (0, 0, (1 - fx) * (1 - fy)), (0, 1, fx * (1 - fy)), (1, 0, (1 - fx) * fy), (1, 1, fx * fy)
    ):  # fmt: skip
        same &= other_keys[i + a, j + b] == key
        same &= np.abs(other_depth[i + a, j + b] - z) < 0.02 * z + 0.02
        mixed += weight[:, None] * other[i + a, j + b]
    gap = np.abs(mixed - color[rows, columns]).mean(-1)
    return gap[same], float(same.mean())


@pytest.mark.parametrize("index", [10, 11, 12, 13])
def test_views_agree_where_they_see_the_same_surface(index: int) -> None:
    scene = generate_scene("train", 0, index, 24, (120, 160))
    gaps, share = _reprojection(scene, 8, 11)
    assert share > 0.2  # many pixels are compared
    assert np.median(gaps) < 4
    assert np.quantile(gaps, 0.9) < 16
    # A pose that is off by two pixels shows.
    turn = 2 / scene.shot.K[0, 0]
    cos, sin = np.cos(turn), np.sin(turn)
    about_y = np.array([[cos, 0, sin, 0], [0, 1, 0, 0], [-sin, 0, cos, 0], [0, 0, 0, 1]])
    wrong, _ = _reprojection(scene, 8, 11, scene.shot.world_from_camera[11] @ about_y)
    assert np.mean(wrong) > 1.3 * np.mean(gaps)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_paths_are_smooth_and_look_somewhere(name: str) -> None:
    stage = Stage("box", (-5, -5, 1), (5, 5, 3), ((0.0, 0.0, 1.0),), (1.0, 3.0), 0.3, (name,))
    times = np.linspace(0, 1, 40)
    for seed in range(8):
        positions, targets = PATHS[name](stage, times, np.random.default_rng(seed))
        assert positions.shape == targets.shape == (40, 3)
        steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
        assert steps.max() <= 2.5 * steps.mean() + 1e-9
        assert np.linalg.norm(targets - positions, axis=1).min() > 1e-3


def test_cameras_look_at_their_targets_with_the_sky_above() -> None:
    rng = np.random.default_rng(0)
    positions, targets = rng.uniform(-3, 3, (2, 20, 3))
    poses = look_at_poses(positions, targets, np.zeros(20))
    local = np.einsum("nji,nj->ni", poses[:, :3, :3], targets - positions)
    np.testing.assert_allclose(local[:, :2], 0, atol=1e-9)
    assert (local[:, 2] > 0).all()
    up = np.einsum("nji,j->ni", poses[:, :3, :3], np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(up[:, 0], 0, atol=1e-9)
    assert (up[:, 1] < 0).all()  # y points down


def test_a_place_without_room_is_refused() -> None:
    scene = generate_scene("train", 0, 3, 2, SIZE)
    stage = Stage(
        "wall", (50, 50, 1), (50.1, 50.1, 1.1), ((0.0, 0.0, 0.0),), (1, 2), 0.5, ("walk",)
    )
    with pytest.raises(RuntimeError, match="no free camera path"):
        place_cameras(scene.world, stage, 2, SIZE, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("val", 0, 0, 2, SIZE), "split must be one of train, test, example, got 'val'"),
        (("train", -1, 0, 2, SIZE), "must not be negative"),
        (("train", 0, -4, 2, SIZE), "must not be negative"),
        (("train", 0, 0, 0, SIZE), "needs views"),
        (("train", 0, 0, 1, (0, 4)), "needs views and pixels"),
    ],
)
def test_bad_requests_say_what_is_wrong(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_scene(*arguments)  # type: ignore[arg-type]
