"""The photos' cameras in the viewer: where views start, flights, frustums, cameras from files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("viser", reason="the viewer needs viser: pip install 'zipsplat[viewer]'")

from tests.zipsplat.test_cameras_beside import write_cameras
from tests.zipsplat.viewer.conftest import green
from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath, save_camera_path
from zipsplat.viewer.flights import flight
from zipsplat.viewer.photo_source import PhotoSource, load_photos, load_scene_cameras
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.viewpoints import BrowserCamera, Viewpoint, photo_view

Until = Callable[..., None]
NAMES = ("a.jpg", "b.jpg", "c.jpg")


def around() -> Pose:
    return Pose.orbit(torch.tensor([0.0, 0, 1]), 1.0, torch.tensor([0.0, 40, 80]))


def known(images: tuple[torch.Tensor, ...] = ()) -> Photos:
    size = {"w": torch.full((3,), 40.0), "h": torch.full((3,), 30.0)}
    return Photos(images, Camera.from_fov(torch.full((3,), 1.0), **size), around(), NAMES)


@pytest.mark.parametrize(("aspect", "is_wide"), [(3.0, True), (0.5, False)])
def test_the_whole_photo_is_in_the_view(aspect: float, is_wide: bool) -> None:
    camera = Camera.from_focal(50.0, w=40, h=30)
    pose = around()[1]
    view = photo_view(green(0), camera, pose)
    assert view.position == pytest.approx(pose.t.tolist())
    assert view.up == pytest.approx((-pose.R[:, 1]).tolist())
    forward = torch.tensor(view.target) - pose.t
    torch.testing.assert_close(forward / forward.norm(), pose.R[:, 2])
    half = math.tan(view.vfov(aspect) / 2)
    assert half == pytest.approx(0.3 if is_wide else 0.4 / aspect)


def test_flights_go_around_and_end_where_they_should() -> None:
    poses = around()
    start = BrowserCamera(poses.quat[0].tolist(), poses.t[0].tolist(), 1.0, 200, 100)
    end = Viewpoint(
        tuple(poses.t[2].tolist()), (0.0, 0.0, 1.0), tuple((-poses.R[2, :, 1]).tolist()), (0.1, 0.4)
    )
    views = flight(start, torch.tensor([0.0, 0, 1]), end)
    assert views[-1] is end
    assert len(views) > 10
    places = torch.tensor([view.position for view in views])
    distances = (places - torch.tensor([0.0, 0, 1])).norm(dim=-1)
    torch.testing.assert_close(distances, torch.ones(len(views)), atol=1e-3, rtol=0)
    assert float(places.diff(dim=0).norm(dim=-1).max()) < 0.15
    halves = [math.tan(view.vfov(2.0) / 2) for view in views]
    assert halves == sorted(halves, reverse=True)
    assert halves[0] < math.tan(0.5)


def test_walking_from_photo_to_photo(viewer: Any, open_page: Any, until: Until) -> None:
    viewer.show_scene(Reconstruction(green(0), known()))  # a file with its cameras beside it
    page, other = open_page(), open_page()
    panel, poses = viewer.photo_panel, around()
    place = [viewer.server.get_clients()[n].camera for n in (0, 1)]

    def is_at(client: int, view: int) -> bool:
        camera = place[client]
        ahead = camera.look_at - camera.position
        return np.allclose(camera.position, poses.t[view], atol=1e-4) and np.allclose(
            ahead / np.linalg.norm(ahead), poses.R[view, :, 2], atol=1e-4
        )

    page.set(panel._steps[1], True)
    until(lambda: is_at(0, 1))
    assert panel._where.content == "b.jpg (2 of 3)"
    vertical = 0.75 * math.tan(0.5)  # half the photo's height; the windows of the tests are 4:3
    assert place[0].fov == pytest.approx(2 * math.atan(vertical), rel=1e-3)
    page.set(panel._steps[1], True)
    until(lambda: is_at(0, 2))
    page.set(panel._steps[1], True)  # around the end
    until(lambda: is_at(0, 0))
    other.set(panel._steps[0], True)  # everybody walks alone
    until(lambda: is_at(1, 2))
    assert is_at(0, 0)
    viewer.browsers.view(0).frustums._clicked(1, 0)
    until(lambda: is_at(0, 1))
    viewer.reset_cameras(0)
    until(lambda: is_at(0, 0))


def test_who_stands_where_a_photo_was_taken_sees_no_frustums(
    viewer: Any, open_page: Any, until: Until
) -> None:
    page, other = open_page(), open_page()
    viewer.show_scene(Reconstruction(green(0), known()))
    late = open_page()

    def see(*clients: int) -> bool:
        views = [viewer.browsers.view(n).frustums.handles for n in clients]
        return all(len(one) == 3 and all(handle.visible for handle in one) for one in views)

    late.look((0.0, -5.0, 0.0))
    other.look((0.0, -5.0, 0.0))
    until(lambda: see(1, 2))
    for view in range(3):
        page.look(tuple(around().t[view].tolist()))
        until(lambda: not any(h.visible for h in viewer.browsers.view(0).frustums.handles))
        assert see(1, 2)
        page.look((0.0, -4.0, 0.0))
        until(lambda: see(0))
    viewer.photo_panel._show.value = False
    until(lambda: not any(h.visible for h in viewer.browsers.view(1).frustums.handles))


def test_without_cameras_nobody_walks(
    viewer: Any, images: Any, open_page: Any, until: Until
) -> None:
    open_page()
    assert viewer.reconstruct(Photos(images)).is_over.wait(30)
    panel = viewer.photo_panel
    assert all(button.disabled for button in panel._steps)
    assert not panel._show.value
    until(lambda: len(viewer.browsers.view(0).frustums.handles) == 1)
    with pytest.raises(ValueError, match="are unknown"):
        viewer.fly_to_photo(0, 0)


def test_cameras_of_saved_scenes(tmp_path: Path) -> None:
    scene = str(tmp_path / "scene.ply")
    assert load_scene_cameras(None, scene).poses is None
    file = write_cameras(tmp_path)
    for path in (None, str(file)):
        photos = load_scene_cameras(path, scene)
        assert photos.names == ("a.jpg", "<b>.jpg")
        assert photos.poses is not None
    shown = Reconstruction(green(0), photos)
    assert shown.poses is photos.poses  # in the world of the file
    path = str(tmp_path / "path.json")
    save_camera_path(CameraPath(around(), 60.0), path)
    with pytest.raises(ValueError, match=r"path\.json"):
        load_scene_cameras(path, scene)


def test_photos_with_the_cameras_of_other_programs(tmp_path: Path) -> None:
    for name, size in (("a.jpg", (640, 480)), ("<b>.jpg", (480, 640)), ("c.jpg", (64, 48))):
        Image.new("RGB", size, (9, 99, 9)).save(tmp_path / name)
    source = PhotoSource((str(tmp_path),), str(write_cameras(tmp_path)))
    photos = load_photos(source, lambda *_: None)
    assert photos.names == ("a.jpg", "<b>.jpg")  # c.jpg has no camera
    assert photos.cameras is not None
    assert photos.cameras.f.tolist() == [[500, 510], [600, 600]]
    assert [tuple(image.shape[1:]) for image in photos.images] == [(480, 640), (640, 480)]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_photos(PhotoSource((str(tmp_path),), "nowhere.json"), lambda *_: None)
