"""The page in a real browser, opened from disk: its images against our renderer's."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.peers.axes_scene import axes_scene
from tests.zipsplat.headless import MARKS, headless_chromium
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath
from zipsplat.webpage import write_page

pytestmark = MARKS

PARTS = "nav, h1, #status, #poster"
NAMES = ("one.jpg", "<b>two</b>.jpg", "three.jpg")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with headless_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def scene() -> Gaussians:
    return axes_scene(10_000)


def photos(size: tuple[int, int]) -> tuple[Camera, Pose]:
    """Three photos of the scene from around it, one with its camera on its side."""
    width, height = (torch.full((3,), float(side)) for side in size)
    focals = max(size) * torch.tensor([1.1, 1.3, 0.9])
    poses = Pose.orbit(torch.zeros(3), 4.5, torch.tensor([20.0, 80, 250]), torch.tensor(15.0))
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    rolled = torch.where(torch.arange(3)[:, None, None] == 2, poses.R @ quarter, poses.R)
    return Camera.from_focal(focals, w=width, h=height), Pose(rolled, poses.t)


def open_page(chromium: Any, path: Path, window: tuple[int, int]) -> Any:
    width, height = window
    page = chromium.new_page(
        viewport={"width": width, "height": height}, reduced_motion="no-preference"
    )
    errors: list[str] = []
    page.errors = errors
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: line.type == "error" and errors.append(line.text))
    page.goto(path.as_uri())
    page.evaluate("window.zipsplat.ready")
    return page


def shot(page: Any) -> np.ndarray:
    """The scene alone, (H, W, 3) in [0, 1]."""
    show = f"document.querySelectorAll({PARTS!r}).forEach((e) => {{ e.style.visibility = '%s' }})"
    page.wait_for_timeout(400)  # the poster fades
    page.evaluate("window.zipsplat.rest()")
    page.evaluate(show % "hidden")
    page.evaluate("document.activeElement.blur()")  # or a ring shows that it has the focus
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.evaluate(show % "visible")
    return np.asarray(image) / 255


def arrive(page: Any) -> None:
    """Wait for the end of a flight."""
    page.locator("#photo:not(.left)").wait_for()


def rendered(scene: Gaussians, camera: Camera, pose: Pose, window: tuple[int, int]) -> np.ndarray:
    """What a window shows that has the whole photo in its middle, as large as it can be."""
    zoom = min(window[0] / float(camera.size[0]), window[1] / float(camera.size[1]))
    wide = Camera.from_focal(float(camera.f[0]) * zoom, w=window[0], h=window[1])
    image, _ = scene.render(wide, pose, backgrounds=torch.ones(3))
    return image[0].clamp(0, 1).permute(1, 2, 0).numpy()


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * math.log10(max(np.square(a - b).mean(), 1e-12)))


def has_left(name: Any) -> bool:
    """Whether the page shows that its camera is not where the named photo was taken."""
    return "left" in (name.get_attribute("class") or "")


@pytest.mark.parametrize("window", [(480, 240), (260, 480)])
@pytest.mark.parametrize("size", [(320, 240), (180, 320)])
def test_from_photo_to_photo(
    chromium: Any, scene: Gaussians, tmp_path: Path, size: tuple[int, int], window: tuple[int, int]
) -> None:
    cameras, poses = photos(size)
    path = tmp_path / "page.html"
    write_page(path, scene, cameras=cameras, poses=poses, names=NAMES, autoplay=False)
    wanted = [rendered(scene, cameras[view], poses[view], window) for view in range(3)]
    page = open_page(chromium, path, window)
    name = page.locator("#photo")
    assert name.inner_text() == "one.jpg (1 of 3)"
    assert psnr(shot(page), wanted[0]) >= 35
    assert not has_left(name)

    page.get_by_role("button", name="Next photo").click()
    assert name.inner_text() == "<b>two</b>.jpg (2 of 3)"
    assert name.locator("b").count() == 0
    assert has_left(name)  # it flies, and does not jump
    arrive(page)
    assert psnr(shot(page), wanted[1]) >= 35

    page.keyboard.press(".")
    arrive(page)
    assert psnr(shot(page), wanted[2]) >= 35
    page.keyboard.press("]")  # around the end
    arrive(page)
    assert psnr(shot(page), wanted[0]) >= 35
    page.get_by_role("button", name="Previous photo").click()
    assert name.inner_text() == "three.jpg (3 of 3)"
    page.wait_for_timeout(200)
    page.mouse.move(100, 100)
    page.mouse.down()
    page.mouse.move(140, 110)  # whoever drags takes over
    page.mouse.up()
    page.wait_for_timeout(2500)
    assert has_left(name)
    assert psnr(shot(page), wanted[2]) < 30
    page.keyboard.press("r")
    assert psnr(shot(page), wanted[0]) >= 35
    assert name.inner_text() == "one.jpg (1 of 3)"
    assert not page.errors
    page.close()


def test_the_poster_shows_the_first_photo_as_the_first_frame_does(
    chromium: Any, scene: Gaussians, tmp_path: Path
) -> None:
    set_poster = "document.getElementById('poster').style.cssText = 'transition: none; opacity: %d'"
    for size in ((320, 120), (180, 320)):
        cameras, poses = photos(size)
        write_page(tmp_path / "page.html", scene, cameras=cameras, poses=poses, autoplay=False)
        for window in ((480, 200), (300, 260), (240, 420)):
            page = open_page(chromium, tmp_path / "page.html", window)
            frame = shot(page)
            page.evaluate(set_poster % 1)
            page.evaluate("document.querySelectorAll('nav, h1').forEach((e) => e.remove())")
            poster = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")) / 255
            assert psnr(frame, poster) > 25, (size, window)
            page.close()


def test_a_page_without_cameras_has_no_photo_buttons(
    chromium: Any, scene: Gaussians, tmp_path: Path
) -> None:
    write_page(tmp_path / "page.html", scene, autoplay=False)
    page = open_page(chromium, tmp_path / "page.html", (480, 240))
    before = shot(page)
    assert not page.locator("#photos").is_visible()
    page.keyboard.press(".")
    page.wait_for_timeout(500)
    assert psnr(before, shot(page)) > 45
    assert not page.errors
    page.close()


def along_the_path(views: list[dict[str, Any]], place: tuple[float, ...]) -> float:
    """How far a place is from the nearest view of a path."""
    return min(math.dist(place, view["position"]) for view in views)


@pytest.mark.parametrize("own", [False, True])
def test_autoplay_along_a_path(chromium: Any, scene: Gaussians, tmp_path: Path, own: bool) -> None:
    """Whoever touches it stops it; pressing play goes on along the path, from where it was left."""
    cameras, poses = photos((320, 240))
    path = tmp_path / "page.html"
    if own:
        keys = Pose.orbit(torch.zeros(3), 4.0, torch.arange(0.0, 160.0, 40.0), torch.tensor(10.0))
        write_page(path, scene, autoplay=CameraPath(keys, 50.0))
    else:
        write_page(path, scene, cameras=cameras, poses=poses, names=NAMES, autoplay="photos")
    page = open_page(chromium, path, (480, 270))
    views = page.evaluate("JSON.parse(document.getElementById('config').textContent).path")
    assert page.locator("#play").inner_text() == "Play"
    expected = "view 1 (1 of 4)" if own else "one.jpg (1 of 3)"
    assert page.locator("#photo").inner_text() == expected
    page.locator("#play[aria-pressed=true]").wait_for()

    def place() -> tuple[float, ...]:
        return tuple(page.evaluate("window.zipsplat.position()"))

    def until(has_come: Callable[[tuple[float, ...]], bool]) -> None:
        for _ in range(200):  # software rendering on a busy machine takes its time
            if has_come(place()):
                return
            page.wait_for_timeout(200)
        raise AssertionError(place())

    step = max(math.dist(a["position"], b["position"]) for a, b in itertools.pairwise(views))
    seen = []
    until(lambda spot: seen.append(spot) or math.dist(spot, views[0]["position"]) > 3 * step)
    assert max(along_the_path(views, spot) for spot in seen) < 0.75 * step
    page.screenshot(path=tmp_path / "playing.png")
    page.mouse.move(100, 100)
    page.mouse.down()
    page.mouse.move(180, 120)
    page.mouse.up()
    page.locator("#play[aria-pressed=false]").wait_for()
    rest = place()
    page.wait_for_timeout(500)
    assert math.dist(place(), rest) < 1e-6
    page.locator("#play").click()
    until(lambda spot: math.dist(spot, rest) > step / 10)  # it flies back
    until(lambda spot: along_the_path(views, spot) < 0.75 * step)
    page.get_by_role("button", name="Next photo").click()
    arrive(page)
    assert " (2 of " in page.locator("#photo").inner_text()
    assert not page.errors
    page.close()
