"""Sharpening: in what world, with what, and what the panel and the browsers are shown of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("viser", reason="the viewer needs viser: pip install 'zipsplat[viewer]'")

from tests.zipsplat.viewer.conftest import green
from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.posed_images import SparsePoints
from zipsplat.refinement.settings import RefinementProgress, RefinementSettings
from zipsplat.viewer import sharpening
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.sharpening import FoundCameras, sharpen, with_cameras

Until = Callable[..., None]


def points_at(depth: float) -> SparsePoints:
    """Three points that the first of the views sees, and a near one that only the second does."""
    return SparsePoints(
        positions=np.array([[0, 0, depth], [0.1, 0, depth], [0, 0.1, depth], [0, 0, 0.01]], "f4"),
        colors=np.zeros((4, 3), "f4"),
        errors=np.zeros(4, "f4"),
        offsets=np.arange(5),
        views=np.array([0, 0, 0, 1]),
        pixels=np.zeros((4, 2), "f4"),
    )


def found_cameras(images: tuple[torch.Tensor, ...], views: tuple[int, ...]) -> FoundCameras:
    V = len(views)
    camera = Camera.from_fov(torch.full((V,), 1.0), w=torch.full((V,), 40), h=torch.full((V,), 30))
    poses = Pose(torch.eye(3).expand(V, 3, 3), torch.arange(V)[:, None] * torch.ones(3))
    photos = Photos(tuple(images[v] for v in views), camera, poses, (), points_at(0.5))
    return FoundCameras(photos, views)


def test_cameras_get_the_scale_of_the_scene(images: tuple[torch.Tensor, ...]) -> None:
    scene = Reconstruction(green(0), Photos(images))  # one unit before the first camera
    placed = with_cameras(scene, found_cameras(images, (0, 2)), lambda _: pytest.fail("called"))
    assert placed.gaussians is scene.gaussians
    assert placed.photos.images == (images[0], images[2])
    assert placed.poses is not None
    torch.testing.assert_close(placed.poses.t, torch.tensor([[0.0] * 3, [2.0] * 3]))
    assert placed.photos.points is not None
    np.testing.assert_allclose(placed.photos.points.positions[0], [0, 0, 1])


def test_without_the_first_photo_the_placed_ones_are_the_scene(
    images: tuple[torch.Tensor, ...],
) -> None:
    made: list[Photos] = []

    def reconstruct(photos: Photos) -> Reconstruction:
        made.append(photos)
        return Reconstruction(green(7), photos)

    scene = Reconstruction(green(0), Photos(images))
    placed = with_cameras(scene, found_cameras(images, (1, 2)), reconstruct)
    assert made[0].images == images[1:]
    assert made[0].poses is None  # as of the scene before
    assert placed.gaussians.num_gaussians == 107
    assert placed.photos.poses is not None


class Record:
    """A watcher that stops after some reports."""

    def __init__(self, last: int = 10**9) -> None:
        self.reports: list[RefinementProgress] = []
        self.scenes: list[Reconstruction] = []
        self.last = last

    def report(self, progress: RefinementProgress) -> bool:
        self.reports.append(progress)
        return len(self.reports) < self.last

    def show(self, scene: Reconstruction) -> None:
        self.scenes.append(scene)


def test_sharpening_is_given_the_photos_in_the_world_of_the_scene(
    images: tuple[torch.Tensor, ...], tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharpening, "_SHOW_S", 0.0)
    around = Pose.orbit(torch.tensor([0.0, 0, 1]), 1.0, torch.tensor([30.0, 60, 90]))
    cameras = found_cameras(images, (0, 1, 2)).photos.cameras
    there = replace(points_at(1.0), positions=around[0].transform(torch.eye(3)).numpy())
    photos = Photos(images, cameras, around, ("a", "b", "c"), there)
    scene = Reconstruction(green(0), photos, group_size=4, encode_s=1.0, decode_s=1.0)
    tools.last_step, tools.step_s = 5, 0.0
    record, settings = Record(), RefinementSettings(seconds=3)
    sharpened, refined = sharpen(scene, tools.refine, settings, record)
    _, used, _, poses, points = tools.start
    assert tools.settings is settings
    assert used == images
    torch.testing.assert_close(poses.Rt, (around[:1].inv().compose(around)).Rt)
    np.testing.assert_allclose(points.positions, np.eye(3), atol=1e-6)
    assert sharpened.is_sharpened
    assert (sharpened.group_size, sharpened.encode_s) == (None, None)
    assert sharpened.photos is photos
    assert sharpened.gaussians.num_gaussians == 105
    assert refined.num_steps == 5
    assert [one.gaussians.num_gaussians for one in record.scenes] == [101, 102, 103, 104, 105]
    assert all(one.is_sharpened and one.photos is photos for one in record.scenes)
    assert record.reports[0].step == 1


def test_whoever_watches_can_stop_it(images: tuple[torch.Tensor, ...], tools: Any) -> None:
    photos = found_cameras(images, (0, 1, 2)).photos
    scene = Reconstruction(green(0), photos)
    _, refined = sharpen(scene, tools.refine, RefinementSettings(), Record(last=1))
    assert (refined.num_steps, refined.stopped) == (1, "interrupted")


def test_without_cameras_nothing_can_be_sharpened(images: Any, tools: Any) -> None:
    with pytest.raises(ValueError, match="needs the cameras"):
        sharpen(Reconstruction(green(0), Photos(images)), tools.refine, DEFAULT, Record())


DEFAULT = RefinementSettings()


@pytest.fixture
def scene(viewer: Any, images: tuple[torch.Tensor, ...]) -> Reconstruction:
    """What the viewer shows after it reconstructed three photos."""
    job = viewer.reconstruct(Photos(images, names=("a.jpg", "b.jpg", "c.jpg")))
    assert job.is_over.wait(30)
    shown: Reconstruction = viewer.scene
    return shown


@pytest.fixture
def notices(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    notices: list[str] = []
    monkeypatch.setattr(viewer.browsers, "notify", lambda _title, body, *_: notices.append(body))
    return notices


def is_over(viewer: Any) -> bool:
    return not viewer._is_sharpening and not viewer.status._bar.visible


def test_the_panel_finds_cameras_sharpens_and_keeps_both_scenes(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until, tools: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sharpening, "_SHOW_S", 0.05)
    page, panel = open_page(), viewer.sharpen_panel
    assert panel._version.disabled
    page.set(panel._seconds, 7.0)
    until(lambda: panel._seconds.value == 7.0)
    page.set(panel._start, True)
    until(lambda: "dB** PSNR" in panel._text.content and "9 s left" in panel._text.content)
    assert "one is doubtful" in panel._text.content
    assert viewer.scene_panel._compression.disabled  # it would undo what is shown
    until(lambda: 100 < num_splats(viewer) < 140)  # a state on the way
    until(lambda: "60.0 dB** PSNR of the photos · 140 Gaussians · 40 steps" in panel._text.content)
    until(lambda: is_over(viewer))
    assert tools.settings.seconds == 7.0
    assert viewer.scene.is_sharpened
    assert viewer.scene_as_kept().num_gaussians == 140  # for downloads and videos
    until(lambda: num_splats(viewer) == 140)
    assert panel._version.value == "Sharpened"
    assert viewer.scene_panel._by_token.disabled

    until(lambda: not panel._version.disabled)
    page.set(panel._version, "Feed-forward")
    until(lambda: num_splats(viewer) == 384)
    assert not viewer.scene.is_sharpened
    page.set(panel._version, "Sharpened")
    until(lambda: num_splats(viewer) == 140)
    page.set(viewer.scene_panel._compression, 0.5)  # of the feed-forward scene
    until(lambda: num_splats(viewer) == 192)
    until(lambda: panel._version.value == "Feed-forward")
    page.set(panel._version, "Sharpened")
    until(lambda: num_splats(viewer) == 140)

    page.set(panel._start, True)  # again: the cameras are known now
    until(lambda: tools.num_steps == 40 and is_over(viewer))
    assert tools.num_searches == 1


def num_splats(viewer: Any) -> int:
    splats = next(iter(viewer.browsers._views.values()))._splats
    return 0 if splats is None else len(splats.buffer)


def test_stopping_keeps_what_was_reached(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until, tools: Any, notices: list[str]
) -> None:
    page, panel = open_page(), viewer.sharpen_panel
    tools.last_step = 100_000
    page.set(panel._start, True)
    until(lambda: tools.num_steps > 5 and viewer.status._stop.visible)
    page.set(viewer.status._stop, True)
    until(lambda: "steps, stopped" in panel._text.content)
    until(lambda: is_over(viewer))
    assert viewer.scene.is_sharpened
    assert viewer.scene.gaussians.num_gaussians == 100 + tools.num_steps
    assert not notices
    assert not viewer.scene_panel._compression.disabled


def test_what_fails_is_one_line_and_changes_nothing(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until, tools: Any, notices: list[str]
) -> None:
    page, panel = open_page(), viewer.sharpen_panel
    tools.error = ValueError("no two photos overlap\nand more that nobody reads")
    page.set(panel._start, True)
    until(lambda: panel._text.content == "**That did not work:** no two photos overlap")
    until(lambda: is_over(viewer) and notices)
    assert viewer.scene is scene
    tools.error = None
    viewer.show_scene(with_cameras(scene, found_cameras(scene.photos.images, (0, 1, 2)), fail))
    shown = viewer.scene
    tools.error = RuntimeError("out of memory")
    page.set(panel._start, True)
    until(lambda: "**That did not work:** out of memory" in panel._text.content)
    until(lambda: is_over(viewer))
    assert viewer.scene is shown
    assert panel._version.disabled


def fail(_: Photos) -> Reconstruction:
    raise AssertionError("the scene is there already")


def test_saved_scenes_cannot_be_sharpened(viewer: Any) -> None:
    viewer.show_scene(Reconstruction(green(0)))
    assert viewer.sharpen_panel._start.disabled


def test_other_photos_forget_the_sharpened_scene(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until
) -> None:
    page, panel = open_page(), viewer.sharpen_panel
    page.set(panel._start, True)
    until(lambda: "40 steps" in panel._text.content and is_over(viewer))
    other = torch.zeros(3, 30, 40)
    assert viewer.reconstruct(Photos((other,))).is_over.wait(30)
    assert not viewer.scene.is_sharpened
    assert panel._version.disabled
    assert panel._text.content == ""
