"""The whole viewer, spoken to as browsers do but without one."""

from __future__ import annotations

import io
import json
import resource
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("viser", reason="the viewer needs viser: pip install 'zipsplat[viewer]'")

from zipsplat.camera import Camera
from zipsplat.formats import FORMATS
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.trajectories import load_camera_path
from zipsplat.viewer.reconstruction import Photos, Reconstruction
from zipsplat.viewer.worker import Job

Until = Callable[..., None]
HOSTILE = Path(__file__).parents[2] / "hostile_files"


@pytest.fixture
def scene(viewer: Any, images: tuple[torch.Tensor, ...]) -> Reconstruction:
    """What the viewer shows after it reconstructed three photos."""
    job = viewer.reconstruct(Photos(images))
    assert job.is_over.wait(30)
    assert job.error is None
    shown: Reconstruction = viewer.scene
    return shown


@pytest.fixture
def downloads(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes, int]]:
    """Files that are sent: name, content, to which client."""
    sent: list[tuple[str, bytes, int]] = []
    monkeypatch.setattr(viewer.browsers, "send_file", lambda *file: sent.append(file))
    return sent


@pytest.fixture
def notices(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    """Error messages and whom they are shown to."""
    notices: list[tuple[str, int | None]] = []

    def notify(title: str, body: str, client_id: int | None = None) -> None:
        notices.append((f"{title}: {body}", client_id))

    monkeypatch.setattr(viewer.browsers, "notify", notify)
    return notices


def splats_of(viewer: Any, client_id: int) -> Any:
    return viewer.browsers.view(client_id)._splats


def num_splats(viewer: Any, client_id: int) -> int:
    splats = splats_of(viewer, client_id)
    return 0 if splats is None else len(splats.buffer)


def click(page: Any, button: Any) -> None:
    page.set(button, True)


def test_slider_moves_run_no_backbone(
    viewer: Any, backbone: Any, scene: Reconstruction, open_page: Any, until: Until
) -> None:
    page = open_page()
    assert backbone.num_runs == 1
    for value in (0.9, 0.75, 0.5, 0.25):
        page.set(viewer.scene_panel._compression, value)
    until(lambda: viewer.scene.compression == 0.25)
    assert backbone.num_runs == 1
    assert viewer.scene.gaussians.num_gaussians == 3 * 32
    until(lambda: "96 Gaussians" in viewer.scene_panel._text.content)
    until(lambda: num_splats(viewer, 0) == 96)
    assert viewer.scene.photos is scene.photos


def test_every_client_gets_colours_for_its_own_camera(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until
) -> None:
    from zipsplat.viewer.appearance import colors_from

    first, second = open_page(), open_page()
    places = {0: (0.0, 0.0, -1.0), 1: (3.0, -2.0, 5.0)}
    first.look(places[0])
    second.look(places[1])
    wanted = {n: colors_from(scene.gaussians, torch.tensor(p)) for n, p in places.items()}
    assert (wanted[0] != wanted[1]).any()
    for number, colors in wanted.items():
        until(lambda n=number, c=colors: np.array_equal(splats_of(viewer, n).rgbs, c))
    first.set(viewer.scene_panel._view_colors, False)
    for number in places:
        until(
            lambda n=number: np.array_equal(
                splats_of(viewer, n).rgbs, viewer.browsers._shown.buffers.rgbs
            )
        )


def test_the_look_is_shared_and_reaches_the_splats(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until
) -> None:
    open_page()
    page, panel = open_page(), viewer.scene_panel
    page.set(panel._by_token, True)
    for number in (0, 1):
        until(lambda n=number: len(np.unique(splats_of(viewer, n).rgbs, axis=0)) <= 12)
    median = float(scene.gaussians.opacities.median())
    viewer.change_look(min_opacity=median)
    left = int((scene.gaussians.opacities >= median).sum())
    assert 0 < left < 384
    until(lambda: num_splats(viewer, 1) == left)
    until(lambda: f"{left} of 384 Gaussians" in panel._text.content)
    viewer.change_look(min_opacity=1.0)
    until(lambda: splats_of(viewer, 0) is None)
    viewer.change_look(min_opacity=0.0, background=(1, 2, 3))
    until(lambda: num_splats(viewer, 0) == 384)
    until(lambda: viewer.browsers.view(0)._background == (1, 2, 3))


def test_exact_frames_come_at_rest_and_go_when_the_camera_moves(
    viewer: Any,
    scene: Reconstruction,
    open_page: Any,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zipsplat.viewer import client_view

    exact_frame, may_render = client_view.exact_frame, threading.Event()
    may_render.set()

    def held_up(*arguments: Any) -> Any:
        assert may_render.wait(60)
        return exact_frame(*arguments)

    monkeypatch.setattr(client_view, "exact_frame", held_up)
    page = open_page()
    page.set(viewer.scene_panel._exact, True)
    view = viewer.browsers.view(0)
    is_exact = lambda: view._has_frame and not view._splats.visible  # noqa: E731
    until(is_exact, seconds=120)  # the renderer may have to be compiled first
    frame = exact_frame(view._shown, view.camera())
    camera = Camera.from_focal(12 / np.tan(0.5), w=32, h=24)
    wanted, _ = scene.gaussians.render(camera, Pose.identity(), backgrounds=torch.ones(3))
    np.testing.assert_allclose(frame, (wanted[0] * 255).permute(1, 2, 0).clamp(0, 255), atol=1)
    may_render.clear()
    page.look((0.0, 0.0, -0.5))
    until(lambda: view._splats.visible)
    may_render.set()
    until(is_exact)


def test_a_client_that_leaves_during_a_reconstruction(
    viewer: Any, backbone: Any, images: Any, open_page: Any, until: Until
) -> None:
    staying, leaving = open_page(), open_page()
    backbone.may_go_on.clear()
    backbone.started.clear()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        job = viewer.reconstruct(Photos(images), client_id=1)
        assert backbone.started.wait(30)
        leaving.leave()
        until(lambda: list(viewer.server.get_clients()) == [0])
        backbone.may_go_on.set()
        assert job.is_over.wait(30)
        viewer.browsers.notify("too", "late", client_id=1)
        viewer.browsers.send_file("late.ply", b"", client_id=1)
        with pytest.raises(ValueError, match="no longer connected"):
            viewer.browsers.view(1)
    assert job.error is None
    assert not warned
    until(lambda: num_splats(viewer, 0) == 384 and staying.num_bytes > 384 * 32)
    late = open_page()
    until(lambda: splats_of(viewer, 2) is not None and late.num_bytes > 384 * 32)


def test_errors_go_to_the_client_that_caused_them(
    viewer: Any, images: Any, open_page: Any, until: Until, notices: list[Any]
) -> None:
    open_page()
    page = open_page()
    click(page, viewer.photo_panel._make)
    until(lambda: notices)
    assert notices == [
        ("That did not work: there are no photos to reconstruct from; add some first", 1)
    ]

    def fail(job: Job) -> None:
        raise RuntimeError("out of memory")

    viewer.run("fail", fail, client_id=0)
    until(lambda: len(notices) == 2)
    assert notices[1] == ("That did not work: out of memory", 0)
    job = viewer.reconstruct(Photos(images))
    assert job.is_over.wait(30)
    assert job.error is None


def png(value: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (40, 30), (value, 9, 9)).save(file, "PNG")
    return file.getvalue()


def test_uploads_join_the_scene_or_replace_it(
    viewer: Any, backbone: Any, scene: Reconstruction, open_page: Any, until: Until
) -> None:
    page, panel = open_page(), viewer.photo_panel
    upload = panel_upload(viewer)
    page.upload(upload, "more.png", png(200))
    until(lambda: "1 added" in panel._text.content)
    assert viewer.scene is scene  # nothing happens before the button is pressed
    click(page, panel._make)
    until(lambda: viewer.scene is not scene)
    assert len(viewer.scene.photos.images) == 4
    assert viewer.scene.photos.images[:3] == scene.photos.images
    until(lambda: panel._text.content == "4 in the scene.")
    page.upload(upload, "other.png", png(20))
    until(lambda: "1 added" in panel._text.content)
    page.set(panel._keep, False)
    until(lambda: not panel._keep.value)
    click(page, panel._make)
    until(lambda: len(viewer.scene.photos.images) == 1)
    assert backbone.num_runs == 3


def panel_upload(viewer: Any, label: str = "Add a photo, video or .zip") -> Any:
    handles = viewer.server.gui._gui_input_handle_from_uuid.values()
    (found,) = [handle for handle in handles if getattr(handle, "label", "") == label]
    return found


def test_bad_uploads(viewer: Any, open_page: Any, until: Until, notices: list[Any]) -> None:
    page, upload = open_page(), panel_upload(viewer)
    page.upload(upload, "bad.png", b"junk")
    until(lambda: notices)
    assert notices[0][0].startswith("That did not work: bad.png: cannot be read as an image")
    transfers = viewer.server.gui._current_file_upload_states
    page.upload(upload, "large.png", bytes(200_001))
    until(lambda: len(notices) == 2)
    assert "large.png" in notices[1][0]
    assert "at most 0.2 MB; --max-upload" in notices[1][0]
    page.upload(upload, "lie.png", bytes(1000), announced=10)
    until(lambda: len(notices) == 3)
    assert "lie.png: larger than announced" in notices[2][0]
    page.upload(upload, "negative.png", b"", announced=-(10**12))
    until(lambda: len(notices) == 4)
    page.upload(upload, "held.png", b"", announced=150_000)
    until(lambda: len(transfers) == 1)
    page.upload(upload, "too much.png", b"", announced=60_000)  # together more than is allowed
    until(lambda: len(notices) == 5)
    page.upload(upload, "x" * 1_000_000 + ".png", b"", announced=0)
    until(lambda: len(notices) == 6)
    assert len(notices[5][0]) < 200
    assert len(transfers) == 1
    page.leave()
    until(lambda: not transfers)
    assert not viewer.photo_panel._added


def test_an_image_bomb_costs_one_notice(
    viewer: Any, open_page: Any, until: Until, notices: list[Any]
) -> None:
    page, upload = open_page(), panel_upload(viewer)
    for count, name in enumerate(("thin_tall.png", "rgb_400MP.png"), start=1):
        page.upload(upload, name, (HOSTILE / name).read_bytes())
        until(lambda count=count: len(notices) == count)
        assert notices[-1][0].startswith(f"That did not work: {name}: ")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20  # KiB


def test_what_a_file_had_to_be_read_without_is_a_note(viewer: Any, scene: Reconstruction) -> None:
    viewer.show_scene(replace(scene, remarks=("left out 1 of 9 Gaussians",)))
    assert "*Note: left out 1 of 9 Gaussians.*" in viewer.scene_panel._text.content
    viewer.show_scene(scene)
    assert "Note" not in viewer.scene_panel._text.content


def test_downloads_in_every_format(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until,
    downloads: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    page, panel = open_page(), viewer.export_panel
    median = float(scene.gaussians.opacities.median())
    viewer.change_look(min_opacity=median, by_token=True)
    wanted = scene.gaussians.select(scene.gaussians.opacities >= median)
    choices = panel._suffix.options
    monkeypatch.setattr(viewer, "options", replace(viewer.options, note="CC BY"))
    assert len(choices) == len(FORMATS.names()) + 1
    for suffix in choices:
        page.set(panel._suffix, suffix)
        until(lambda s=suffix: panel._suffix.value == s)
        count = len(downloads)
        click(page, panel_upload(viewer, "Download"))
        until(lambda n=count: len(downloads) > n)
        name, content, client_id = downloads[-1]
        assert client_id == 0
        (tmp_path / name).write_bytes(content)
        if name.endswith(".html"):
            assert b"<html" in content
            assert f"{wanted.num_gaussians} Gaussians".encode() in content
            assert b"CC BY" in content
            continue
        assert name == f"scene{suffix}"
        assert (b"CC BY" in content) == (suffix in (".ply", ".compressed.ply", ".glb", ".sog"))
        again = Gaussians.load(tmp_path / name)
        assert again.num_gaussians == wanted.num_gaussians
        assert float((again.rgb.mean(0) - wanted.rgb.mean(0)).abs().max()) < 0.05


def test_camera_paths_are_recorded_saved_loaded_and_rendered(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until,
    downloads: list[Any], notices: list[Any], tmp_path: Path,
) -> None:  # fmt: skip
    page, panel = open_page(), viewer.camera_panel
    click(page, panel_upload(viewer, "Save path"))
    until(lambda: notices)
    assert "the camera path is empty" in notices[0][0]
    for count, place in enumerate([(0.0, 0.0, -1.0), (0.5, 0.0, -1.0)], start=1):
        page.look(place)
        until(lambda p=place: viewer.browsers.view(0).camera().position == list(p))
        click(page, panel_upload(viewer, "Add this view"))
        until(lambda c=count: len(panel._keys) == c)
    click(page, panel_upload(viewer, "Save path"))
    until(lambda: downloads)
    name, content, _ = downloads.pop()
    assert name == "scene-path.json"
    (tmp_path / name).write_bytes(content)
    saved = load_camera_path(tmp_path / name)
    torch.testing.assert_close(saved.poses.t, torch.tensor([[0.0, 0, -1], [0.5, 0, -1]]))
    assert saved.fov_deg == pytest.approx(np.degrees(2 * np.arctan(np.tan(0.5) * 32 / 24)))
    click(page, panel_upload(viewer, "Clear path"))
    until(lambda: panel.path is None and not panel._keys)
    page.upload(panel_upload(viewer, "Load path"), "path.json", content)
    until(lambda: len(panel._keys) == 2)
    page.upload(panel_upload(viewer, "Load path"), "bad.json", json.dumps([1]).encode())
    until(lambda: len(notices) == 2)
    assert "bad.json: not a camera path" in notices[1][0]
    page.set(panel._move, "Recorded path")
    page.set(panel._seconds, 0.1)
    until(lambda: panel._seconds.value == 0.1)
    click(page, panel_upload(viewer, "Render video"))
    until(lambda: downloads, seconds=120)
    assert downloads[0][0] == "scene-recorded.mp4"
    assert downloads[0][1][4:8] == b"ftyp"


def test_stopping_a_video_is_not_an_error(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until,
    downloads: list[Any], notices: list[Any],
) -> None:  # fmt: skip
    page, panel = open_page(), viewer.camera_panel
    page.set(panel._seconds, 100.0)
    until(lambda: panel._seconds.value == 100)
    click(page, panel_upload(viewer, "Render video"))
    until(
        lambda: viewer.status._bar.visible and "Rendering video (" in viewer.status._text.content,
        120,
    )
    click(page, panel_upload(viewer, "Stop"))
    until(lambda: not viewer.status._bar.visible)
    assert not downloads
    assert not notices


def test_saved_scenes_have_no_slider_but_take_photos(
    viewer: Any, open_page: Any, until: Until, images: Any, tmp_path: Path
) -> None:
    page, panel = open_page(), viewer.scene_panel
    far = torch.ones(10, 14) * 5
    viewer.show_scene(Reconstruction(Gaussians.from_packed(far.clamp(max=5) * 0.2)))
    assert panel._compression.disabled
    assert panel._by_token.disabled
    assert panel._view_colors.disabled
    page.set(panel._compression, 0.5)
    page.upload(panel_upload(viewer), "one.png", png(3))
    until(lambda: not viewer.photo_panel._make.disabled)
    click(page, viewer.photo_panel._make)
    until(lambda: viewer.scene.features is not None)
    until(lambda: not panel._compression.disabled)


def test_frustums_stand_where_cameras_are_known(
    viewer: Any, images: Any, scene: Reconstruction, open_page: Any, until: Until
) -> None:
    open_page()
    until(lambda: viewer.browsers.view(0).frustums.handles)
    (only,) = viewer.browsers.view(0).frustums.handles
    assert only.position.tolist() == [0, 0, 0]
    poses = Pose.orbit(torch.tensor([0.0, 0.0, 3.0]), 2.0, [0, 10, 20])
    camera = Camera.from_fov(1.0, w=40, h=30)
    cameras = torch.stack([camera] * 3)  # type: ignore[list-item]
    known = Photos(images, cameras, poses)  # type: ignore[arg-type]
    job = viewer.reconstruct(known)
    assert job.is_over.wait(30)
    assert job.error is None
    frustums = viewer.browsers.view(0).frustums.handles
    relative = poses[:1].inv().compose(poses)
    for frustum, t, quat in zip(frustums, relative.t, relative.quat, strict=True):
        np.testing.assert_allclose(frustum.position, t, atol=1e-6)
        np.testing.assert_allclose(np.abs(frustum.wxyz @ quat.numpy()), 1, atol=1e-6)
        assert frustum.fov == pytest.approx(float(camera.vfov))


def test_up_axis_and_camera_reset(
    viewer: Any, scene: Reconstruction, open_page: Any, until: Until
) -> None:
    page, other = open_page(), open_page()
    assert viewer.server.initial_camera.position.tolist() == [0, 0, 0]
    for one in (page, other):
        one.look((7.0, 7.0, 7.0))
    places = [viewer.server.get_clients()[n].camera for n in (0, 1)]
    until(lambda: all(place.position.tolist() == [7, 7, 7] for place in places))
    click(page, panel_upload(viewer, "Reset camera"))
    until(lambda: places[0].position.tolist() == [0, 0, 0])
    assert places[1].position.tolist() == [7, 7, 7]
    viewer.set_up_axis("+z")
    assert float(places[1].position[2]) > float(scene.gaussians.means[:, 2].median())
