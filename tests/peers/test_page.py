"""Our page, opened from disk in headless Chromium with software WebGL."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.peers.axes_scene import axes_scene
from tests.peers.conftest import Browser
from zipsplat import Camera, Gaussians, Pose
from zipsplat.webpage import StartView, write_page

READY = {"waitFor": "window.zipsplat && window.zipsplat.ready"}
PLAIN = {
    "evaluate": "document.querySelectorAll('nav, h1, #status, #poster')"
    ".forEach((part) => { part.style.display = 'none'; })"
}
FOV_DEG = 50.0
SIZE = (320, 240)


def look(pose: Pose) -> dict[str, str]:
    """The step that sets the page's camera to this pose."""
    view = (pose.t.tolist(), pose.R.T.tolist(), math.radians(FOV_DEG))
    return {"evaluate": f"window.zipsplat.look({', '.join(map(json.dumps, view))})"}


def rendered(scene: Gaussians, pose: Pose) -> np.ndarray:
    width, height = SIZE
    focal = height / 2 / math.tan(math.radians(FOV_DEG) / 2)
    camera = Camera.from_focal(focal, w=width, h=height)
    image, _ = scene.render(camera, pose, backgrounds=torch.ones(3))
    return image[0].clamp(0, 1).permute(1, 2, 0).numpy()


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(max(np.square(a - b).mean(), 1e-12)))


def views() -> Pose:
    azimuths = torch.tensor([20.0, 130.0, 250.0])
    return Pose.orbit(torch.zeros(3), 4.5, azimuths, torch.tensor([15.0, -10.0, 60.0]))


def shots_of(browser: Browser, scene: Gaussians, folder: Path) -> list[np.ndarray]:
    """The page's images of `views()`."""
    write_page(folder / "page.html", scene)
    steps, paths = [READY, PLAIN], [folder / f"view{i}.png" for i in range(len(views()))]
    for pose, path in zip(views(), paths, strict=True):
        steps += [look(pose), {"wait": 200}, {"shot": str(path)}]
    seen = browser.visit((folder / "page.html").as_uri(), steps)
    assert not seen.errors
    return [pixels(path) for path in paths]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_image_is_that_of_our_renderer(browser: Browser, tmp_path: Path, degree: int):
    scene = axes_scene(10_000, degree)
    for shot, pose in zip(shots_of(browser, scene, tmp_path), views(), strict=True):
        assert psnr(shot, rendered(scene, pose)) >= 35


def test_antialiased_scenes_are_rendered_as_by_our_renderer(browser: Browser, tmp_path: Path):
    """Gaussians of a fifth of a pixel, which are far too bright without the correction."""
    scene = axes_scene(10_000)
    fine = replace(scene, scales=scene.scales * 0.05, antialiased=True)
    for shot, pose in zip(shots_of(browser, fine, tmp_path), views(), strict=True):
        assert psnr(shot, rendered(fine, pose)) >= 35
        assert psnr(shot, rendered(replace(fine, antialiased=False), pose)) < 30


def test_a_thousand_faint_layers_do_not_band(browser: Browser, tmp_path: Path):
    scene = axes_scene(10_000)
    faint = Gaussians(
        scene.means, scene.scales * 6, scene.quats, scene.opacities * 0.01 + 0.004, scene.sh_coeffs
    )
    for shot, pose in zip(shots_of(browser, faint, tmp_path), views(), strict=True):
        assert psnr(shot, rendered(faint, pose)) >= 40  # 29 with 8 bits per blend


def test_opened_from_disk_it_sorts_and_asks_for_nothing(browser: Browser, tmp_path: Path):
    # Two large plates: from each side, the near one hides the other. Unsorted, one side is wrong.
    center = [[0, 0, -1], [0, 0, 1]]
    plates = Gaussians.from_parameters(
        torch.tensor(center, dtype=torch.float32),
        torch.tensor([[2.0, 2.0, 0.01]] * 2),
        torch.tensor([[1.0, 0, 0, 0]] * 2),
        torch.tensor([1.0, 1.0]),
        torch.tensor([[[1.7, -1.7, -1.7]], [[-1.7, -1.7, 1.7]]]),
    )
    write_page(tmp_path / "page.html", plates)
    steps = [READY, PLAIN]
    for side in ("front", "back"):
        azimuth = torch.tensor(0.0 if side == "front" else 180.0)
        pose = Pose.orbit(torch.zeros(3), 5.0, azimuth, torch.tensor(0.0))
        steps += [look(pose), {"wait": 200}, {"shot": str(tmp_path / f"{side}.png")}]
    url = (tmp_path / "page.html").as_uri()
    seen = browser.visit(url, steps)
    assert not seen.errors
    front, back = (pixels(tmp_path / f"{side}.png")[120, 160] for side in ("front", "back"))
    assert front[0] > 0.9 > 0.1 > front[2]
    assert back[2] > 0.9 > 0.1 > back[0]
    assert all(
        request == url or request.startswith(("blob:", "data:")) for request in seen.requests
    )


def test_buttons_mouse_and_download(browser: Browser, tmp_path: Path):
    scene = axes_scene(2000)
    start = StartView(views()[0], 4.5, fov_deg=FOV_DEG)
    write_page(tmp_path / "page.html", scene, title="A scene", note="CC BY-NC 4.0", start=start)
    shots = {name: tmp_path / f"{name}.png" for name in ("start", "dragged", "reset", "played")}
    hide = {"evaluate": "document.querySelector('nav').style.opacity = 0"}
    seen = browser.visit(
        (tmp_path / "page.html").as_uri(),
        [
            READY,
            hide,
            {"wait": 500},
            {"shot": str(shots["start"])},
            {"drag": [[160, 120], [220, 130]]},
            {"wait": 500},
            {"shot": str(shots["dragged"])},
            {"click": "Start view"},
            {"wait": 500},
            {"shot": str(shots["reset"])},
            {"click": "Turntable"},
            {"wait": 1500},
            {"shot": str(shots["played"])},
            {"evaluate": "document.getElementById('play').getAttribute('aria-pressed')"},
            {"download": ["Save .spz", str(tmp_path / "saved.spz")]},
            {"click": "About"},
            {"evaluate": "document.querySelector('dialog[open]').innerText"},
        ],
        size=(640, 400),
    )
    assert not seen.errors
    images = {name: pixels(path) for name, path in shots.items() if path.exists()}
    assert psnr(images["start"], images["reset"]) > 45
    assert psnr(images["start"], images["dragged"]) < 25
    assert psnr(images["reset"], images["played"]) < 35
    assert seen.values[-4] == "true"
    assert "2,000 Gaussians" in seen.values[-1]
    assert "CC BY-NC 4.0" in seen.values[-1]
    saved = Gaussians.load(tmp_path / "saved.spz")
    places = (each.means.sort(dim=0).values for each in (saved, scene))  # .spz sorts them
    assert torch.allclose(*places, atol=2**-13)


@pytest.mark.parametrize("size", [(240, 480), (480, 240)])
def test_the_whole_scene_is_in_windows_of_any_shape(
    browser: Browser, tmp_path: Path, size: tuple[int, int]
):
    count = 300
    points = torch.linspace(-3, 3, count).unsqueeze(-1) * torch.tensor([0.8, 0.3, 0.5])
    bar = Gaussians.from_parameters(
        points, torch.full((count, 3), 0.05), torch.tensor([[1.0, 0, 0, 0]] * count),
        torch.full((count,), 0.99), torch.full((count, 1, 3), -1.7),
    )  # fmt: skip
    write_page(tmp_path / "page.html", bar)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    turn = {"evaluate": "document.getElementById('play').click()"}
    steps = [READY, PLAIN, turn]
    for path in paths:
        steps += [{"wait": 1500}, {"shot": str(path)}]
    seen = browser.visit((tmp_path / "page.html").as_uri(), steps, size=size)
    assert not seen.errors
    images = [pixels(path) for path in paths]
    for image in images:
        edges = (image[0], image[-1], image[:, 0], image[:, -1])
        assert min(edge.min() for edge in edges) > 0.97
        assert (image < 0.3).all(-1).any()
    widest = max(np.ptp(np.argwhere((p < 0.5).all(-1))[:, 1]) for p in images)
    assert widest > 0.4 * min(size), "it fills the image"
    assert not np.array_equal(images[0], images[-1]), "it turns"


@pytest.mark.parametrize("size", [(240, 420), (300, 260), (480, 200)])
def test_the_poster_and_the_first_frame_show_the_same(
    browser: Browser, tmp_path: Path, size: tuple[int, int]
):
    write_page(tmp_path / "page.html", axes_scene(2000))
    set_poster = "document.getElementById('poster').style.cssText = 'transition: none; opacity: %d'"
    steps = [READY, {"evaluate": "document.querySelectorAll('nav, h1').forEach((e) => e.remove())"}]
    paths = [tmp_path / "frame.png", tmp_path / "poster.png"]
    for opacity, path in enumerate(paths):
        steps += [{"evaluate": set_poster % opacity}, {"wait": 500}, {"shot": str(path)}]
    assert not browser.visit((tmp_path / "page.html").as_uri(), steps, size=size).errors
    assert psnr(*map(pixels, paths)) > 25


def test_a_page_without_webgl_keeps_its_image_and_says_so(browser: Browser, tmp_path: Path):
    write_page(tmp_path / "page.html", axes_scene(500))
    seen = browser.visit(
        (tmp_path / "page.html").as_uri(),
        [
            {"wait": 1500},
            {"evaluate": "document.getElementById('status').textContent"},
            {"evaluate": "getComputedStyle(document.getElementById('poster')).opacity"},
        ],
        init="HTMLCanvasElement.prototype.getContext = () => null",
    )
    assert "no WebGL 2" in seen.values[1]
    assert seen.values[2] == "1"
