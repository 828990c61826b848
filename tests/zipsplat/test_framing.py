"""Turntables hold the whole body of a scene in every frame; rooms are seen from inside."""

import math
from dataclasses import replace

import pytest
import torch

from zipsplat.camera import Camera
from zipsplat.framing import (
    best_sweep,
    camera_orbit,
    first_image,
    scene_body,
    video_camera,
    whole_scene,
)
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.render import RenderSettings
from zipsplat.rotations import matrix_from_quat

FOV_DEG = 55.0
# Width, height, and the horizontal field of view in degrees.
IMAGES = [(640, 360, 80.0), (360, 640, 35.0), (512, 512, 55.0), (900, 200, 120.0)]


def scene(points: torch.Tensor, scale: float = 0.02, seed: int = 1) -> Gaussians:
    """Flakes of random sizes, directions and opacities at (N, 3) points."""
    generator = torch.Generator().manual_seed(seed)
    N = len(points)
    return Gaussians(
        points,
        scale * (0.2 + 2 * torch.rand(N, 3, generator=generator)),
        torch.randn(N, 4, generator=generator),
        0.05 + 0.95 * torch.rand(N, generator=generator),
        torch.zeros(N, 1, 3),
    )


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def uniform(*shape: int) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 1


def cloud() -> Gaussians:
    return scene(normal(3000, 3) * torch.tensor([0.5, 1.0, 0.7]) + torch.tensor([3.0, -2, 7]))


def rod() -> Gaussians:
    points = uniform(500, 3) * torch.tensor([0.02, 4.0, 0.02])
    return scene(points + torch.tensor([0, 0, 50.0]))


def two_balls() -> Gaussians:
    return replace(scene(torch.tensor([[0.0, 0, 0], [1, 0, 0]])), opacities=torch.ones(2))


def clusters() -> Gaussians:
    """Most of it in one place, the rest at five times its size, as a statue with a fine face."""
    points = normal(1000, 3) * 0.1
    return scene(torch.cat((points, uniform(600, 3) * 0.4)), scale=0.01)


def big_and_soft() -> Gaussians:
    return scene(uniform(40, 3), scale=0.5)


def room() -> Gaussians:
    """Walls, floor and ceiling around the first camera, which looks from one end to the other."""
    points = uniform(4000, 3)
    axis = torch.arange(4000) % 3
    points[range(4000), axis] = points[range(4000), axis].sign()
    return scene(points * torch.tensor([2.0, 1.2, 3.0]) + torch.tensor([0, 0, 2.8]))


def relief() -> Gaussians:
    """What one image of 60 degrees shows, about one unit away."""
    points = torch.cat((uniform(2000, 2) * math.tan(math.radians(30)), torch.ones(2000, 1)), dim=-1)
    return scene(points * (1 + 0.2 * uniform(2000, 1)), scale=0.01)


def sky(num: int, distance: float) -> Gaussians:
    return scene(torch.nn.functional.normalize(normal(num, 3), dim=-1) * distance, scale=2.0)


OBJECTS = [cloud, rod, two_balls, clusters, big_and_soft]


def cut_off(g: Gaussians, camera: Camera, poses: Pose) -> torch.Tensor:
    """Whether a part of each Gaussian within 3 sigma leaves any of the images, (N,).

    Points along the axes, and those where the ellipsoid touches planes parallel to the sides.
    """
    root = matrix_from_quat(g.quats) * g.scales.unsqueeze(-2)
    side = math.sqrt(1 / 2)
    corners = torch.tensor([[x, y, z] for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
    directions = torch.nn.functional.normalize(corners[corners.any(dim=-1)] * side, dim=-1)
    ends = g.means[:, None] + 3 * directions @ root.mT
    width, height = camera.size.tolist()
    near = RenderSettings().near_plane
    lost = torch.zeros(g.num_gaussians, dtype=torch.bool)
    for pose in poses:
        local = pose.inv().transform(ends.flatten(0, 1))
        pixels = camera.project(local).unflatten(0, ends.shape[:2])
        is_inside = (pixels >= 0).all(-1) & (pixels <= torch.tensor([width, height])).all(-1)
        is_inside &= local[:, 2].unflatten(0, ends.shape[:2]) > near
        lost |= ~is_inside.all(dim=-1)
    return lost


def narrower_deg(camera: Camera) -> float:
    return math.degrees(min(float(camera.hfov), float(camera.vfov)))


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("elevation_deg", [0.0, 35.0])
@pytest.mark.parametrize("make", [*OBJECTS, room, relief])
def test_nothing_of_a_compact_scene_leaves_a_turntable(make, elevation_deg, image):
    g = make()
    width, height, hfov_deg = image
    camera = Camera.from_fov(math.radians(hfov_deg), w=width, h=height)
    poses = camera_orbit(
        g, 24, fov_deg=narrower_deg(camera), sweep_deg=360, elevation_deg=elevation_deg
    )
    assert not cut_off(g, camera, poses).any()


@pytest.mark.parametrize("make", OBJECTS)
@pytest.mark.parametrize(("share", "distance"), [(0.1, 30.0), (0.4, 100.0), (0.4, 1000.0)])
def test_a_far_sky_is_left_out_and_the_object_before_it_is_whole(make, share, distance):
    g = make()
    num = g.num_gaussians
    g = replace(g, means=g.means - g.means.median(dim=0).values)
    g = g.scale(1 / float(g.means.norm(dim=-1).max() + 3 * g.scales.max()))  # of radius 1
    g = replace(g, opacities=torch.full((num,), 0.8))
    far = sky(max(1, round(share / (1 - share) * num)) if num > 2 else 1, distance)
    both = torch.cat([g, replace(far, opacities=torch.full_like(far.opacities, 0.8))])
    body = scene_body(both)
    assert body.members.tolist() == [True] * num + [False] * far.num_gaussians
    camera = Camera.from_fov(math.radians(FOV_DEG), w=64, h=64)
    poses = camera_orbit(both, 16, fov_deg=FOV_DEG)
    assert not cut_off(g, camera, poses).any()


@pytest.mark.parametrize("make", [*OBJECTS, room, relief])
def test_orbits_are_no_farther_than_needed(make):
    g = make()
    whole = whole_scene(g, FOV_DEG)
    ball = scene_body(g).radius / math.sin(math.radians(FOV_DEG / 2))
    assert ball < whole.distance < 1.1 * ball
    camera = Camera.from_fov(math.radians(FOV_DEG), w=64, h=64)
    nearer = Pose.orbit(whole.center, 0.45 * whole.distance, torch.arange(0.0, 360, 15))
    assert cut_off(g, camera, nearer).any()


def test_what_cannot_be_seen_does_not_count():
    g = cloud()
    body = scene_body(g)
    means = body.center + torch.tensor([1.1 * body.radius, 0, 0])  # near enough for the body
    shown = replace(g[:1], means=means[None])
    assert scene_body(torch.cat([g, shown])).radius > 1.05 * body.radius
    ghost = replace(shown, opacities=torch.tensor([0.003]))
    body = scene_body(torch.cat([g, ghost]))
    assert body.radius == pytest.approx(scene_body(g).radius, rel=1e-6)
    assert scene_body(replace(g, opacities=torch.zeros_like(g.opacities))).members.all()


def test_the_centre_is_weighted_by_opacity():
    points = torch.tensor([[0.0, 0, 0]] * 4 + [[1.0, 0, 0]] * 3)
    g = replace(scene(points), opacities=torch.tensor([0.1] * 4 + [0.9] * 3))
    assert scene_body(g).center.tolist() == [1, 0, 0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scenes_of_any_scale_are_before_the_near_plane(scale):
    g = cloud().scale(scale)
    camera = Camera.from_fov(math.radians(FOV_DEG), w=64, h=64)
    assert not cut_off(g, camera, camera_orbit(g, 8, fov_deg=FOV_DEG)).any()


@pytest.mark.parametrize("make", [room, relief])
def test_scenes_around_the_first_camera_are_seen_from_there(make):
    g = make()
    assert best_sweep(g, FOV_DEG) is None
    poses = camera_orbit(g, 8, fov_deg=FOV_DEG, sweep_deg=None)
    torch.testing.assert_close(poses[0].Rt, torch.eye(4), atol=1e-6, rtol=0)
    assert poses.t.norm(dim=-1).max() < 0.35 * scene_body(g).radius * 2


@pytest.mark.parametrize(("distance", "surrounds"), [(1.25, True), (1.45, True), (1.55, False)])
def test_a_camera_is_surrounded_within_one_and_a_half_radii(distance, surrounds):
    g = cloud()
    body = scene_body(g)
    shift = torch.tensor([0, 0, distance]) * body.radius - body.center
    moved = g.transform(Pose(torch.eye(3), shift))
    assert (first_image(moved, 90) is not None) == surrounds


@pytest.mark.parametrize("make", OBJECTS)
def test_objects_are_seen_from_outside(make):
    g = make()
    assert best_sweep(g, FOV_DEG) == 360
    wiggle = camera_orbit(g, 8, fov_deg=FOV_DEG, sweep_deg=None)
    camera = Camera.from_fov(math.radians(FOV_DEG), w=64, h=64)
    assert not cut_off(g, camera, wiggle).any()


def test_a_scene_behind_or_around_the_origin_has_no_first_image():
    behind = room().transform(Pose(torch.eye(3), torch.tensor([0.0, 0, -6])))
    centred = room().transform(Pose(torch.eye(3), torch.tensor([0.0, 0, -2.8])))
    assert first_image(behind, FOV_DEG) is None
    assert first_image(centred, FOV_DEG) is None
    assert first_image(room(), FOV_DEG) is not None


def test_a_video_has_the_shape_of_the_photos_and_shows_a_little_less() -> None:
    photo = Camera(
        *(torch.tensor(pair) for pair in ([640.0, 361.0], [500.0, 480.0], [300.0, 190.0]))
    )
    video = video_camera(photo)
    assert video.size.tolist() == [512, 289]
    assert video.c.tolist() == [256, 144.5]
    assert 0.8 < video.hfov / photo.hfov < 0.95
    assert 0.8 < video.vfov / photo.vfov < 0.95
    assert video_camera(photo.scale(2), 320).size.tolist() == [320, 180]
