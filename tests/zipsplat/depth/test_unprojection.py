"""Scenes of depth maps: what is unprojected, what is merged, what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.zipsplat.depth.tiny_depth import write_tiny
from zipsplat import Camera, DepthAnything, Pose
from zipsplat.camera_estimation.from_depth_anything import cameras_from_depth_anything
from zipsplat.depth.predictor import Depth
from zipsplat.depth.unprojection import is_depth_anything, points_of, scene_of

H, W, F = 24, 32, 40.0


def wall(tilt: float = 0.0, num_views: int = 2) -> Depth:
    """A wall z = 4 + tilt · x with colours of the place, seen by cameras side by side."""
    cameras = Camera.from_focal(torch.full((num_views,), F), w=W, h=H)
    t = torch.tensor([[0.3 * view, 0.0, 0.0] for view in range(num_views)])
    poses = Pose(torch.eye(3).expand(num_views, 3, 3).clone(), t)
    v, u = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
    ray = torch.stack(((u - W / 2) / F, (v - H / 2) / F), dim=-1)
    depth = torch.stack([(4 + tilt * x) / (1 - tilt * ray[..., 0]) for x in t[:, 0]])
    place = t[:, None, None, :2] + ray * depth[..., None]
    colors = torch.stack(
        (0.5 + 0.2 * place[..., 0], 0.5 + 0.2 * place[..., 1], torch.full_like(depth, 0.25)), dim=1
    )
    confidence = torch.full_like(depth, 2.0)
    return Depth(colors, depth, confidence, cameras, poses, cameras, None)


@pytest.mark.parametrize("tilt", [0.0, 0.4])
@pytest.mark.parametrize("compression", [1.0, 0.25])
def test_points_lie_on_the_surface_in_its_colours(tilt: float, compression: float) -> None:
    points = points_of(wall(tilt), compression)
    x, y, z = points.positions.unbind(-1)
    torch.testing.assert_close(z, 4 + tilt * x, atol=1e-3, rtol=0)
    cell = float(points.spacing.max())
    wanted = torch.stack((0.5 + 0.2 * x, 0.5 + 0.2 * y, torch.full_like(x, 0.25)), dim=-1)
    assert float((points.colors - wanted).abs().max()) <= 0.2 * cell
    expected = 4 / F / compression**0.5
    assert float(points.spacing.median()) == pytest.approx(expected, rel=0.1)


def test_what_several_views_show_is_merged() -> None:
    """Views share all but a strip of the wall; each point is there once."""
    single = len(points_of(wall(num_views=1)).positions)
    assert single == H * W
    both = points_of(wall(num_views=2))
    shift = 0.3 * F / 4  # pixels between the views
    assert H * W < len(both.positions) <= H * (W + shift + 2)
    apart = wall(num_views=2)
    apart.depth[1] *= 1.2
    assert len(points_of(apart).positions) == 2 * H * W


def test_compression_is_a_share_of_the_pixels() -> None:
    single = wall(num_views=1)
    for share in (1.0, 0.5, 0.1, 1e-9):
        count = scene_of(single, share).num_gaussians
        assert count == pytest.approx(max(1, share * H * W), rel=0.1)


def test_the_unsure_the_sky_and_edges_are_left_out() -> None:
    unsure = wall(num_views=1)
    assert unsure.confidence is not None
    unsure.confidence[0, :2] = 1.1
    positions = points_of(unsure).positions
    assert len(positions) == H * W - 2 * W
    sky = torch.zeros(1, H, W)
    sky[0, :5] = 0.4
    assert len(points_of(replace(unsure, confidence=None, sky=sky)).positions) == (H - 5) * W
    step = wall(num_views=1)
    step.depth[0, :, W // 2 :] *= 2
    assert len(points_of(step).positions) == H * W  # both sides of a clean edge are surfaces
    step.depth[0, :, W // 2] *= 0.75
    assert len(points_of(step).positions) == H * (W - 1)
    pole = wall(num_views=1)
    pole.depth[0, :, 10] *= 0.5
    assert len(points_of(pole).positions) == H * W
    with pytest.raises(ValueError, match="no pixel of the depth maps"):
        points_of(replace(wall(), confidence=None, sky=torch.ones(2, H, W)))


def test_the_scene_looks_like_the_images() -> None:
    maps = wall(0.2)
    assert maps.cameras is not None
    assert maps.poses is not None
    scene = scene_of(maps)
    scene.check()
    rendered = scene.render(maps.cameras, maps.poses, renderer="reference")[0]
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert float((rendered.clamp(0, 1) - maps.images)[inner].abs().mean()) < 0.03


def test_depth_alone_makes_no_scene() -> None:
    with pytest.raises(ValueError, match="predict depth only"):
        scene_of(replace(wall(), cameras=None, poses=None))


def test_kinds_of_weights(tmp_path: Path) -> None:
    assert is_depth_anything("da3-small")
    assert not is_depth_anything("zipsplat")
    assert not is_depth_anything("zipsplat-tiny")
    assert is_depth_anything(write_tiny(tmp_path / "x.safetensors"))


def test_cameras_of_images(tmp_path: Path) -> None:
    model = DepthAnything(write_tiny(tmp_path / "x.safetensors"), "cpu", image_size=28)
    images = [torch.rand(3, 50, 50), torch.rand(3, 40, 50), torch.rand(3, 60, 50)]
    cameras, poses = cameras_from_depth_anything(model, images)
    assert cameras.size.tolist() == [[50, 50], [50, 40], [50, 60]]
    torch.testing.assert_close(poses[0].Rt, torch.eye(4), atol=1e-6, rtol=0)
    mono = DepthAnything(write_tiny(tmp_path / "m.safetensors", "mono"), "cpu", image_size=28)
    with pytest.raises(ValueError, match="predict depth only"):
        cameras_from_depth_anything(mono, images)
