"""The viewer in a real browser: by role and label, on pixels and on what the server sees.

Needs Chromium and the Python package playwright (its own browsers are not needed).
"""

from __future__ import annotations

import io
import math
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.zipsplat.headless import MARKS, headless_chromium
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.model.untrained import untrained_network
from zipsplat.pose import Pose
from zipsplat.predictor import ZipSplat
from zipsplat.viewer.reconstruction import Photos, Reconstruction

SIZE = {"width": 720, "height": 480}
BALLS = {"red": (0.6, 0.0), "green": (0.0, -0.6), "blue": (-0.6, 0.0)}  # x, y; y points down

pytestmark = MARKS


@pytest.fixture
def tiny() -> ZipSplat:
    """A network whose scenes are in front of the first camera: the photo as a relief."""
    return ZipSplat.from_network(untrained_network(), device="cpu", image_size=28)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with headless_chromium() as browser:
        yield browser


@pytest.fixture
def page(chromium: Any, viewer: Any, until: Callable[..., None]) -> Iterator[Any]:
    outside: list[str] = []
    page = chromium.new_page(viewport=SIZE)
    page.on("request", lambda request: outside.append(request.url))
    page.goto(f"http://127.0.0.1:{viewer.server.get_port()}")
    page.wait_for_selector("canvas")
    until(lambda: viewer.server.get_clients(), seconds=60)
    page.get_by_role("alert").get_by_role("button").click()  # that there is no graphics card
    yield page
    page.close()
    own = re.compile(r"(http://127\.0\.0\.1:\d+/|data:|blob:)")
    assert not [url for url in outside if not own.match(url)]


def balls(degree: int = 0) -> Gaussians:
    """A red ball right, a green one above and a blue one left, two units in front."""
    directions = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    shell = 0.15 * torch.nn.functional.normalize(directions, dim=-1)
    centers = torch.tensor([(x, y, 2.0) for x, y in BALLS.values()])
    colors = dc_from_rgb(torch.eye(3)).repeat_interleave(300, 0)
    sh = torch.zeros(900, (degree + 1) ** 2, 3)
    sh[:, 0] = colors
    return Gaussians(
        means=(centers[:, None] + shell).flatten(0, 1),
        scales=torch.full((900, 3), 0.02),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(900, 1),
        opacities=torch.full((900,), 0.9),
        sh_coeffs=sh,
    )


def pixels(page: Any) -> np.ndarray:
    """What the canvas shows, (H, W, 3)."""
    panel = page.get_by_text("ZipSplat", exact=True).bounding_box()
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    return np.asarray(image)[:, : int(panel["x"]) - 40].astype(int)


def settle(page: Any, is_right: Callable[[np.ndarray], bool], seconds: float = 60) -> np.ndarray:
    """Wait until the image is as it should be; splats appear unsorted and fade in."""
    end = time.monotonic() + seconds
    while not is_right(image := pixels(page)):
        assert time.monotonic() < end, "the image never became what it should be"
        time.sleep(0.3)
    return image


def has_changed(image: np.ndarray, before: np.ndarray) -> bool:
    """Whether at least one pixel in two hundred has clearly another colour."""
    return bool((np.abs(image - before) > 40).any(-1).mean() > 0.005)


def centre(image: np.ndarray, channel: int) -> tuple[float, float] | None:
    """Where the pixels of a pure colour are: x and y relative to the middle."""
    others = [c for c in range(3) if c != channel]
    mask = (image[..., channel] > 180) & (image[..., others].max(-1) < 90)
    if mask.sum() < 50:
        return None
    rows, columns = np.nonzero(mask)
    return columns.mean() - image.shape[1] / 2, rows.mean() - image.shape[0] / 2


def shows_balls(image: np.ndarray) -> bool:
    places = [centre(image, channel) for channel in range(3)]
    if None in places:
        return False
    red, green, blue = places  # type: ignore[misc]
    return bool(red[0] > 40 and blue[0] < -40 and green[1] < -40 and abs(green[0]) < 30)


def field(page: Any, label: str) -> Any:
    """The number box of a labelled slider."""
    row = page.locator("div").filter(has=page.get_by_text(label, exact=True)).last
    return row.locator("xpath=..").get_by_role("textbox")


def test_upright_windows_start_farther_away(chromium: Any, viewer: Any, until: Any) -> None:
    away = balls().transform(Pose(torch.eye(3), torch.tensor([0.0, 0, -2])))
    viewer.show_scene(Reconstruction(away))
    usual = float(np.linalg.norm(viewer.server.initial_camera.position))
    half = math.radians(30)
    farther = math.sin(half) / math.sin(math.atan(math.tan(half) / 2))
    for (width, height), wanted in (((800, 400), usual), ((400, 800), usual * farther)):
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.goto(f"http://127.0.0.1:{viewer.server.get_port()}")
        until(lambda: viewer.server.get_clients(), seconds=60)
        (client,) = viewer.server.get_clients().values()

        def is_there(client: Any = client, wanted: float = wanted) -> bool:
            distance = float(np.linalg.norm(client.camera.position))
            return distance == pytest.approx(wanted, rel=0.01)

        until(is_there, seconds=60)
        time.sleep(1)  # and it stays there
        assert is_there()
        page.close()
        until(lambda: not viewer.server.get_clients(), seconds=60)


def test_a_saved_scene_upright_unmirrored_and_in_its_colours(viewer: Any, page: Any) -> None:
    viewer.show_scene(Reconstruction(balls()))
    viewer.browsers.place_cameras(lambda _fov_deg: first_place())
    image = settle(page, shows_balls)
    assert (image[5, 5] == 255).all()

    page.get_by_role("checkbox", name="Exact when at rest").check()
    view = next(iter(viewer.browsers._views.values()))
    end = time.monotonic() + 120
    while not view._has_frame:
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(2)
    exact = pixels(page)
    assert shows_balls(exact)
    assert np.abs(exact - image).mean() < 4  # two renderers, one scene
    page.get_by_role("checkbox", name="Exact when at rest").uncheck()

    viewer.change_look(background=(0, 0, 0))
    dark = settle(page, lambda p: bool((p[5, 5] == 0).all()) and shows_balls(p))
    assert dark.mean() < 60

    page.get_by_role("combobox", name="Up").click()
    page.get_by_role("option", name="+y").click()
    settle(page, lambda p: (found := centre(p, 1)) is not None and found[1] > 40)


def first_place() -> Any:
    from zipsplat.viewer.viewpoints import Viewpoint

    return Viewpoint((0.0, 0.0, 0.0), (0.0, 0.0, 2.0))


def test_slider_colours_upload_and_download(
    viewer: Any,
    page: Any,
    backbone: Any,
    images: tuple[torch.Tensor, ...],
    until: Callable[..., None],
    tmp_path: Path,
) -> None:
    assert viewer.reconstruct(Photos(images)).is_over.wait(60)
    start = settle(page, lambda p: (p < 250).any(-1).sum() > 500)
    page.get_by_text("384 Gaussians").wait_for()

    box = field(page, "Compression")
    box.fill("0.5")
    box.press("Enter")
    until(lambda: viewer.scene.compression == 0.5)
    page.get_by_text("192 Gaussians").wait_for()
    settle(page, lambda p: has_changed(p, start))
    assert backbone.num_runs == 1

    before = pixels(page)
    page.get_by_role("checkbox", name="Colour by token").check()
    until(lambda: viewer.look.by_token)
    settle(page, lambda p: has_changed(p, before))
    page.get_by_role("checkbox", name="Colour by token").uncheck()

    Image.new("RGB", (40, 30), (250, 120, 0)).save(tmp_path / "more.png")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add a photo, video or .zip").click()
    chooser.value.set_files(tmp_path / "more.png")
    page.get_by_text("3 in the scene, 1 added.").wait_for()
    page.get_by_role("button", name="Reconstruct").click()
    page.get_by_text("4 in the scene.").wait_for()
    assert backbone.num_runs == 2
    assert len(viewer.scene.photos.images) == 4

    page.get_by_text("Download", exact=True).first.click()  # opens the folder
    page.get_by_role("combobox", name="Format").click()
    page.get_by_role("option", name=".spz", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "scene.spz"
    assert Gaussians.load(path).num_gaussians == viewer.scene.gaussians.num_gaussians == 256

    file = tmp_path / "large.png"
    file.write_bytes(bytes(300_000))
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Add a photo, video or .zip").click()
    chooser.value.set_files(file)
    page.get_by_text("exceed the limit").wait_for()


def test_two_browsers_and_one_that_leaves(
    viewer: Any,
    page: Any,
    chromium: Any,
    backbone: Any,
    images: tuple[torch.Tensor, ...],
    until: Callable[..., None],
) -> None:
    other = chromium.new_page(viewport={"width": 600, "height": 300})
    other.goto(f"http://127.0.0.1:{viewer.server.get_port()}")
    until(lambda: len(viewer.server.get_clients()) == 2, seconds=60)
    backbone.may_go_on.clear()
    job = viewer.reconstruct(Photos(images), client_id=max(viewer.server.get_clients()))
    page.get_by_text("Encoding 3 views").wait_for()
    other.close()
    until(lambda: len(viewer.server.get_clients()) == 1, seconds=60)
    backbone.may_go_on.set()
    assert job.is_over.wait(60)
    assert job.error is None
    settle(page, lambda p: (p < 250).any(-1).sum() > 500)
    page.get_by_text("Encoding 3 views").wait_for(state="hidden")


def is_green(image: np.ndarray) -> bool:
    """Whether a twentieth of the image is of the colour of refined scenes."""
    mask = (image[..., 1] > 180) & (image[..., 0] < 110) & (image[..., 2] < 110)
    return bool(mask.mean() > 0.05)


def test_sharpen_shows_the_scene_as_it_changes_and_stops(
    viewer: Any,
    page: Any,
    tools: Any,
    images: tuple[torch.Tensor, ...],
    until: Callable[..., None],
) -> None:
    tools.last_step, tools.step_s = 1_000_000, 0.05
    assert viewer.reconstruct(Photos(images, names=("a", "b", "c"))).is_over.wait(60)
    before = settle(page, lambda p: (p < 250).any(-1).sum() > 500)
    assert not is_green(before)
    page.get_by_role("button", name="Sharpen", exact=True).click()
    page.get_by_text("Sharpening (").wait_for()
    page.get_by_text("s left").wait_for()
    page.get_by_text("one is doubtful").wait_for()
    settle(page, is_green)  # while it still runs
    assert viewer.status._stop.visible
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("steps, stopped").wait_for()
    until(lambda: not viewer._is_sharpening)
    num_steps = tools.num_steps
    page.get_by_text(f"{100 + num_steps} Gaussians").first.wait_for()
    time.sleep(1)
    assert tools.num_steps == num_steps
    assert is_green(pixels(page))

    page.get_by_role("combobox", name="Shown scene").click()
    page.get_by_role("option", name="Feed-forward").click()
    settle(page, lambda p: not is_green(p))

    page.get_by_role("button", name="Next photo").click()
    page.get_by_text("b (2 of 3)").wait_for()
    (client,) = viewer.server.get_clients().values()
    goal = viewer.scene.poses.t[1].numpy()
    until(lambda: np.allclose(client.camera.position, goal, atol=1e-3), seconds=60)


def test_a_click_on_a_frustum_flies_there(
    viewer: Any, page: Any, until: Callable[..., None], images: tuple[torch.Tensor, ...]
) -> None:
    size = {"w": torch.full((3,), 40.0), "h": torch.full((3,), 30.0)}
    far_apart = torch.tensor([[0.0, 0, 0], [0.6, 0, 2], [-0.6, 0, 2]])
    poses = Pose(torch.eye(3).expand(3, 3, 3), far_apart)
    photos = Photos(images, Camera.from_fov(torch.full((3,), 1.0), **size), poses)
    viewer.show_scene(Reconstruction(balls(), photos))
    (client,) = viewer.server.get_clients().values()
    frustums = viewer.browsers.view(client.client_id).frustums
    time.sleep(1)  # it was placed at the first photo, where no frustum is shown
    client.camera.position, client.camera.look_at = (0.0, 0.0, -1.0), (0.0, 0.0, 2.0)
    until(lambda: all(one.visible for one in frustums.handles))
    image = settle(page, lambda p: (p < 250).any(-1).sum() > 500)
    time.sleep(2)
    height, width = image.shape[:2]
    focal = height / 2 / math.tan(client.camera.fov / 2)
    depth = 3 + frustums.handles[1].scale * 0.5  # within its image
    page.mouse.click(width / 2 + focal * 0.6 / depth, height / 2)
    until(lambda: np.allclose(client.camera.position, (0.6, 0, 2), atol=1e-3), seconds=60)
    page.get_by_text("photo 2 (2 of 3)").wait_for()
