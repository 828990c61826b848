"""Videos show the whole scene, in the right colours, and are written whole or not at all."""

import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from zipsplat import Camera, Gaussians, Pose, viz
from zipsplat.harmonics import dc_from_rgb
from zipsplat.video import load_video, video_info

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "geometry.npz"
RED, GREEN, BLUE = (0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.9)


def scene(points, colors, scale=0.05) -> Gaussians:
    """Nearly opaque balls."""
    means = torch.tensor(points, dtype=torch.float32).reshape(-1, 3)
    N = len(means)
    sh = dc_from_rgb(torch.tensor(colors, dtype=torch.float32)).reshape(-1, 1, 3)
    quats = torch.tensor([1.0, 0, 0, 0]).expand(N, 4)
    return Gaussians(means, torch.full((N, 3), scale), quats, torch.full((N,), 0.99), sh)


def cross(scale=0.05) -> Gaussians:
    """Red towards +x, green up (−y), blue towards +z, grey in the middle, around (1, 2, 3)."""
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, -1, 0], [0, 0, 1]]) + torch.tensor(
        [1.0, 2, 3]
    )
    return scene(points.tolist(), [(0.5, 0.5, 0.5), RED, GREEN, BLUE], scale)


def centroid(frame: np.ndarray, channel: int) -> tuple[float, float]:
    """Row and column, from −1 to 1, of what is mostly of one colour."""
    pixels = frame.astype(float)
    others = np.delete(pixels, channel, axis=2).max(2)
    weight = np.clip(pixels[..., channel] - others - 40, 0, None)
    assert weight.sum() > 0, "the ball is not in the image"
    rows, columns = np.mgrid[-1 : 1 : frame.shape[0] * 1j, -1 : 1 : frame.shape[1] * 1j]
    return float((rows * weight).sum() / weight.sum()), float(
        (columns * weight).sum() / weight.sum()
    )


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}


def test_golden_center_and_radius(golden):
    cloud = Gaussians.from_packed(golden["cloud"])
    center, radius = viz.scene_center_radius(cloud)
    assert torch.equal(center, golden["center"])
    assert radius == pytest.approx(float(golden["radius"]), rel=1e-6)
    _, half = viz.scene_center_radius(cloud, quantile=0.5, margin=1.0)
    assert half == pytest.approx(float(golden["radius_q50_m1"]), rel=1e-6)


def test_a_turntable_goes_around_the_right_way_and_is_upright(tmp_path):
    frames = viz.turntable(cross(), tmp_path / "orbit.mp4", render_size=48, num_frames=8)
    assert frames.shape == (8, 48, 48, 3)
    assert frames.dtype == np.uint8
    assert centroid(frames[0], 1)[0] < -0.2, "up is not up"
    assert centroid(frames[0], 0)[1] > 0.2, "seen from −z, +x is on the right"
    assert abs(centroid(frames[2], 0)[1]) < 0.1, "from +x, red is in the middle"
    assert centroid(frames[2], 2)[1] > 0.2, "from +x, +z is on the right"
    assert centroid(frames[4], 0)[1] < -0.2, "from behind, +x is on the left"


def test_the_video_holds_the_returned_frames(tmp_path):
    path = tmp_path / "folder" / "orbit.mp4"
    frames = viz.turntable(cross(), path, render_size=48, num_frames=6, fps=12)
    info = video_info(path)
    assert (info.num_frames, info.width, info.height) == (6, 48, 48)
    assert info.duration_s == pytest.approx(0.5)
    stored = torch.stack(load_video(path, num_frames=6)).movedim(1, -1).numpy() * 255
    assert np.abs(stored - frames).mean() < 4


@pytest.mark.parametrize("sweep_deg", [360.0, None])
@pytest.mark.parametrize("fov_deg", [30.0, 90.0])
def test_nothing_of_the_scene_is_cut_off(tmp_path, sweep_deg, fov_deg):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(60, 3, generator=generator) * torch.tensor([4.0, 1.0, 2.0]) + 5
    ball = scene(points.tolist(), [BLUE] * 60, scale=0.02)
    frames = viz.turntable(
        ball, tmp_path / "a.mp4", render_size=40, num_frames=4, sweep_deg=sweep_deg, fov_deg=fov_deg
    )
    edge = np.concatenate([frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]], axis=1)
    assert (edge >= 250).all(), "something touches the edge"
    assert (frames < 200).any(axis=(1, 2, 3)).all(), "something is in every frame"


def in_front_of_the_origin(**options) -> Gaussians:
    """A wall of balls three units before the first camera."""
    points = [[0.8 * x, 0.8 * y, 3 + 0.1 * (x + y)] for x in range(-2, 3) for y in range(-2, 3)]
    return scene(points, [BLUE] * 25, **options)


def test_a_wiggle_starts_where_the_first_image_was_taken():
    g = in_front_of_the_origin()
    start = viz.camera_orbit(g, 8, fov_deg=55, sweep_deg=None)[0]
    assert start.t.norm() < 0.2
    assert start.R[2, 2] > 0.99


def test_a_wiggle_around_the_origin_keeps_its_distance():
    g = in_front_of_the_origin().transform(Pose(torch.eye(3), torch.tensor([0.0, 0, -3])))
    poses = [viz.camera_orbit(g, 8, fov_deg=55, sweep_deg=sweep)[0] for sweep in (None, 360)]
    torch.testing.assert_close(poses[0].Rt, poses[1].Rt)


def test_a_far_horizon_does_not_shrink_the_scene():
    g = in_front_of_the_origin()
    sky = scene([[0, 0, 90.0]] * 5, [BLUE] * 5)
    both = torch.cat([g, sky])
    assert viz.scene_center_radius(both)[1] > 50
    far, near = (viz.camera_orbit(one, 4, fov_deg=55).t.norm(dim=-1).max() for one in (both, g))
    assert far < 1.2 * near


def test_turntables_loop_without_a_repeated_frame(tmp_path):
    frames = viz.turntable(cross(), tmp_path / "orbit.mp4", render_size=48, num_frames=8)
    assert not np.array_equal(frames[0], frames[-1])


@pytest.mark.parametrize("scale", [0.05, 0.0])
def test_one_gaussian_is_seen_whole(tmp_path, scale):
    frames = viz.turntable(
        scene([[3.0, 4, 5]], [RED], scale), tmp_path / "one.mp4", render_size=32, num_frames=2
    )
    if scale:
        assert frames[0, 16, 16, 0] > 150 > frames[0, 16, 16, 1]
        assert (frames[0, 0] >= 250).all()


def test_empty_scenes_and_batches_are_refused(tmp_path):
    empty = cross()[:0]
    for call in (
        lambda: viz.turntable(empty, tmp_path / "a.mp4"),
        lambda: viz.scene_center_radius(empty),
    ):
        with pytest.raises(ValueError, match="no Gaussians"):
            call()
    with pytest.raises(ValueError, match="index it first"):
        viz.scene_center_radius(torch.stack([cross(), cross()]))
    assert list(tmp_path.iterdir()) == []


def test_render_video_is_rendering_rounded_to_bytes_in_any_chunk():
    g = cross()
    camera = Camera.from_fov(math.radians(60), w=40, h=30)
    poses = Pose.orbit(torch.tensor([1.0, 2, 3]), 4.0, [0.0, 50.0, 100.0])
    frames = viz.render_video(g, camera, poses, bg=(0.2, 0.4, 0.6), chunk=2)
    images, _ = g.render(camera, poses, backgrounds=torch.tensor([0.2, 0.4, 0.6]))
    expected = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(frames, expected)
    assert frames[0, 0, 0].tolist() == [51, 102, 153]
    several = Camera.from_packed(camera.packed().expand(3, 6))
    assert np.array_equal(
        viz.render_video(g, several, poses, bg=(0.2, 0.4, 0.6), chunk=1), expected
    )


def test_depth_videos_are_brighter_where_nearer():
    g = scene([[-0.5, 0, 2], [0.5, 0, 4]], [RED, RED], scale=0.2)
    camera = Camera.from_fov(math.radians(60), w=48, h=32)
    look = viz.Look(mode="depth", depth_range=(1.0, 5.0), bg=(0, 0, 0))
    (frame,) = viz.render_frames(g, camera, Pose.identity((1,)), look)
    near, far = frame[16, 24 - 10].astype(int), frame[16, 24 + 5].astype(int)
    assert near.sum() > far.sum() + 100
    assert frame[0, 0].tolist() == [0, 0, 0]
    (automatic,) = viz.render_frames(g, camera, Pose.identity((1,)), viz.Look(mode="depth"))
    assert automatic[0, 0].tolist() == [255, 255, 255]
    assert automatic[16, 14].sum() != automatic[16, 29].sum()


def test_group_colors_can_be_filmed(tmp_path):
    frames = viz.turntable(
        cross(0.2).color_by_group(2), tmp_path / "a.mp4", render_size=32, num_frames=2
    )
    assert (frames < 200).any()


def test_progress_is_reported():
    reports = []
    camera = Camera.from_fov(1.0, w=8, h=8)
    poses = Pose.orbit(torch.tensor([1.0, 2, 3]), 4.0, [0.0, 1.0, 2.0])
    look = viz.Look(chunk=2)
    list(viz.render_frames(cross(), camera, poses, look, lambda *report: reports.append(report)))
    assert reports == [(2, 3), (3, 3)]


@pytest.mark.parametrize(
    "values", [{"mode": "xray"}, {"chunk": 0}, {"bg": (1, 2, 3)}, {"bg": (1,)}]
)
def test_looks_that_make_no_sense(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        viz.Look(**values)


@pytest.mark.parametrize("num_frames", [24, 96])
def test_the_frames_alive_do_not_grow_with_the_length(num_frames, tmp_path, monkeypatch):
    alive, most, make = [0], [0], viz.to_pixels

    def tracked(images):
        batch = make(images).copy()  # owns its memory, so that it lives as long as its frames
        alive[0] += len(batch)
        most[0] = max(most[0], alive[0])
        weakref.finalize(batch, lambda: alive.__setitem__(0, alive[0] - len(images)))
        return batch

    monkeypatch.setattr(viz, "to_pixels", tracked)
    frames = viz.turntable_frames(
        cross(), num_frames=num_frames, render_size=16, look=viz.Look(chunk=4)
    )
    viz.save_video(frames, tmp_path / "a.mp4")
    assert 4 <= most[0] <= 16


def test_an_interrupted_video_leaves_no_file(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        viz.turntable(
            cross(), tmp_path / "a.mp4", render_size=16, num_frames=4, chunk=1, report=stop
        )
    assert list(tmp_path.iterdir()) == []


# --- figures ---


def test_the_color_ramp_falls_in_brightness_from_near_to_far():
    colors = viz.color_depth(torch.linspace(1, 3, 50)[None], 1.0, 3.0)
    assert colors.shape == (3, 1, 50)
    brightness = (colors * torch.tensor([0.30, 0.59, 0.11])[:, None, None]).sum(0)[0]
    assert (brightness.diff() < 0).all()
    clamped = viz.color_depth(torch.tensor([[-5.0, 99.0]]), 1.0, 3.0)
    torch.testing.assert_close(clamped, colors[..., [0, -1]])


def test_depth_fades_into_the_background():
    depth, alpha = torch.full((1, 3), 2.0), torch.tensor([[0.0, 0.5, 1.0]])
    colors = viz.color_depth(depth, 1.0, 3.0, alpha, background=(1.0, 0.0, 0.0))
    assert colors[:, 0, 0].tolist() == [1, 0, 0]
    torch.testing.assert_close(colors[:, 0, 1], (colors[:, 0, 0] + colors[:, 0, 2]) / 2)
    with pytest.raises(ValueError, match="near"):
        viz.color_depth(depth, 3.0, 3.0)


def test_the_legend_runs_from_near_to_far_with_numbers():
    legend = viz.depth_legend(0.5, 12.3, 200)
    assert legend.shape[1:] == (200, 3)
    ramp = legend[0].astype(int).sum(1)
    assert ramp[0] > ramp[100] > ramp[-1]
    text = legend[-12:].min(2) < 128
    assert text[:, :60].any()
    assert text[:, -60:].any()
    assert not text[:, 80:120].any()


def test_a_contact_sheet_shows_every_image_in_order_with_its_label():
    images = [np.full((20, 40, 3), level, np.uint8) for level in (10, 80, 150, 220)]
    images[1] = np.full((60, 40, 3), 80, np.uint8)  # a tall one
    sheet = viz.contact_sheet(images, ["a", "b", "c", "d"], columns=3, cell_width=40)
    assert sheet.dtype == np.uint8
    levels = [level for level in (10, 80, 150, 220) if (sheet == level).all(2).sum() >= 40 * 20]
    assert levels == [10, 80, 150, 220]
    row, column = np.median(np.argwhere((sheet == 220).all(2)), axis=0)
    assert column < 60, "the fourth of three columns is in the first"
    assert row > 60, "and in the second row"
    plain = viz.contact_sheet(images[:1], cell_width=40)
    assert plain.shape[0] < sheet.shape[0]
    for bad in ([], images):
        with pytest.raises(ValueError, match="labels"):
            viz.contact_sheet(bad, ["one"] if bad else [])


def test_images_are_saved_whole(tmp_path):
    viz.save_image(np.full((4, 5, 3), 7, np.uint8), tmp_path / "new" / "a.png")
    from zipsplat import load_image

    assert load_image(tmp_path / "new" / "a.png").shape == (3, 4, 5)
    with pytest.raises(ValueError, match="unknown file extension"):
        viz.save_image(np.full((4, 5, 3), 7, np.uint8), tmp_path / "a.nope")
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_turntables_may_be_animated_images(tmp_path):
    from PIL import Image

    cloud = cross()
    for name in ("orbit.gif", "orbit.webp"):
        frames = viz.turntable(cloud, tmp_path / name, render_size=24, num_frames=3)
        with Image.open(tmp_path / name) as animation:
            assert animation.n_frames == 3
            shown = np.asarray(animation.convert("RGB")).astype(int)
        assert np.abs(shown - frames[0]).mean() < 8
