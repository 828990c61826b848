"""The page as text; what browsers make of it is in tests/peers."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from zipsplat import Gaussians, Pose
from zipsplat.formats import FORMATS
from zipsplat.webpage import StartView, first_view, page, write_page


def scene(num: int = 50, center: tuple[float, float, float] = (0, 0, 0), degree: int = 1):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians.from_parameters(
        normal(num, 3) + torch.tensor(center),
        (normal(num, 3) - 3).exp(),
        normal(num, 4),
        normal(num).sigmoid(),
        normal(num, (degree + 1) ** 2, 3) * 0.3,
    )


class Elements(HTMLParser):
    """Tags with their attributes, and the text of those that have an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = dict(attrs).get("id")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open] = self.texts.get(self.open, "") + data
        elif self.tags:
            name = self.tags[-1][0]
            self.texts[name] = self.texts.get(name, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.open = None


def test_the_scene_inside_is_the_scene():
    gaussians = scene()
    text = Elements(page(gaussians, title="T")).texts["scene"]
    inside = FORMATS["spz"].read(io.BytesIO(base64.b64decode(text, validate=True)))
    places = (torch.as_tensor(each.means).sort(dim=0).values for each in (inside, gaussians))
    assert torch.allclose(*places, atol=2**-13)  # .spz changes their order
    assert inside.sh_degree == 1


def test_nothing_is_fetched():
    text = page(scene(), title="T")
    for tag, attributes in Elements(text).tags:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    assert not re.search(r"""(https?:)?//[a-z]+\.[a-z]|url\(|@import|\bimport\s""", text)
    assert "default-src 'none'" in text


def test_titles_and_notes_are_text_and_nothing_else():
    hostile = "</title><script>alert(1)</script>@@scene@@ & \"'"
    text = page(scene(), title=hostile, note=hostile)
    elements = Elements(text)
    assert text.count("<script>alert") == 0
    assert elements.texts["title"].strip() == hostile
    assert json.loads(elements.texts["config"])["name"] == "title-script-alert-1-script-scene"
    (canvas,) = [attributes for tag, attributes in elements.tags if tag == "canvas"]
    assert canvas["aria-label"] == hostile


def test_sources_do_not_end_their_script():
    folder = Path(__file__).parents[2] / "zipsplat" / "webpage"
    sources = [*folder.glob("*.js"), *folder.glob("*.glsl"), *folder.glob("*.css")]
    assert len(sources) >= 10
    for source in sources:
        content = source.read_text(encoding="utf-8")
        assert "</" not in content, source
        assert "<!--" not in content, source
        assert "@@" not in content, source


def test_the_viewer_is_small(tmp_path: Path):
    write_page(tmp_path / "page.html", scene(1))
    assert (tmp_path / "page.html").stat().st_size < 60_000


def test_the_start_view_is_in_the_axes_of_the_scene_inside():
    pose = Pose.orbit(torch.tensor([1.0, 2.0, 3.0]), 4.0, torch.tensor(30.0), torch.tensor(20.0))
    start = StartView(pose, 4.0, sweep_deg=90.0, fov_deg=40.0)
    config = json.loads(Elements(page(scene(), title="T", start=start)).texts["config"])
    flip = torch.tensor([1.0, -1.0, -1.0])
    position, axes = (torch.tensor(config["start"][key]) for key in ("position", "axes"))
    assert torch.allclose(position + 4 * axes[2], flip * torch.tensor([1.0, 2.0, 3.0]), atol=1e-5)
    assert torch.allclose(axes @ axes.T, torch.eye(3), atol=1e-5)
    assert torch.linalg.det(axes) == pytest.approx(1.0, abs=1e-5)
    assert axes[1, 1] < 0  # the picture's down is down: y is up in there
    assert config["start"]["fov"] == pytest.approx(math.radians(40))
    assert config["sweep"] == pytest.approx(math.radians(90) / 30)


def test_a_scene_in_front_of_the_first_camera_is_seen_from_there():
    start = first_view(scene(200, center=(0, 0, 4)))
    assert torch.equal(start.pose.Rt, torch.eye(4))
    assert start.distance == pytest.approx(4, abs=0.3)
    assert start.sweep_deg is None


@pytest.mark.parametrize("center", [(0.0, 0.0, 0.0), (0.0, 0.0, -30.0), (100.0, 5.0, 2.0)])
def test_any_other_scene_is_seen_whole_from_outside(center: tuple[float, float, float]):
    gaussians = scene(400, center=center)
    start = first_view(gaussians, fov_deg=50)
    assert start.sweep_deg == 360
    local = start.pose.inv().transform(gaussians.means)
    inside = local[:, :2].abs().amax(dim=-1) <= local[:, 2] * math.tan(math.radians(25))
    assert inside.all()
    assert local[:, 2].min() > 0


@pytest.mark.parametrize("num", [0, 1])
def test_tiny_scenes_have_a_page(num: int):
    assert Elements(page(scene(num), title="T")).texts["scene"]


def test_the_poster_shows_the_start_view_on_the_background():
    text = page(scene(300, center=(0, 0, 8)), title="T", background=(0.0, 0.2, 0.4))
    (poster,) = [
        attributes for _, attributes in Elements(text).tags if attributes.get("id") == "poster"
    ]
    picture = Image.open(io.BytesIO(base64.b64decode(poster["src"].split(",")[1])))
    assert picture.size == (640, 400)
    assert picture.getpixel((2, 2)) == pytest.approx((0, 51, 102), abs=6)
    middle = picture.crop((220, 100, 420, 300)).resize((1, 1)).getpixel((0, 0))
    assert max(abs(a - b) for a, b in zip(middle, (0, 51, 102), strict=True)) > 30
    assert "--background: rgb(0 51 102)" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": (1, 1)}, "three numbers"),
        ({"background": (0, 0, 2)}, "three numbers"),
        ({"start": lambda: StartView(Pose.identity(), 0.0)}, "distance must be positive"),
        ({"start": lambda: StartView(Pose.identity(), 1.0, fov_deg=180)}, "fov_deg"),
        ({"start": lambda: StartView(Pose.identity((2,)), 1.0)}, "one pose"),
    ],
)
def test_options_that_cannot_be(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        page(scene(), title="T", **{k: v() if callable(v) else v for k, v in options.items()})


def test_write_page_takes_its_title_from_the_name(tmp_path: Path):
    path = tmp_path / "new folder" / "my scene.html"
    write_page(path, scene())
    assert Elements(path.read_text(encoding="utf-8")).texts["title"].strip() == "my scene"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_upright_windows_see_as_much_across_as_wide_ones_see_up(tmp_path: Path):
    source = (Path(__file__).parents[2] / "zipsplat/webpage/camera.js").read_text(encoding="utf-8")
    script = source + (
        "const camera = new Camera({ position: [], axes: [[], [], []], distance: 1, fov: 1 });"
        "const angles = [2, 1, 0.5].map((aspect) => camera.fovY(aspect));"
        "camera.fixedFovY = 0.7;"
        "console.log(JSON.stringify([...angles, camera.fovY(0.5)]));"
    )
    file = tmp_path / "test.mjs"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=True)
    wide, square, upright, fixed = json.loads(done.stdout)
    assert (wide, square, fixed) == (1, 1, 0.7)
    assert 2 * math.atan(math.tan(upright / 2) * 0.5) == pytest.approx(1)


@pytest.mark.parametrize(("num", "size"), [(1, "1 KB"), (400, "9 KB"), (60_000, "1.3 MB")])
def test_about_says_how_large_small_scenes_are(num: int, size: str):
    assert f", {size}. Made" in page(scene(num), title="T")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_reads_its_scene_as_python_does(tmp_path: Path):
    gaussians = scene(40, degree=3)
    data = gaussians.to_bytes("spz")
    wanted = FORMATS["spz"].read(io.BytesIO(data))
    source = (Path(__file__).parents[2] / "zipsplat/webpage/scene.js").read_text(encoding="utf-8")
    script = source + (
        f'const spz = bytesOfBase64("{base64.b64encode(data).decode()}");'
        "const scene = parseSpz(await gunzip(spz));"
        "console.log(JSON.stringify({...scene, means: [...scene.means],"
        " geometry: [...scene.geometry], colors: [...scene.colors]}));"
    )
    file = tmp_path / "test.mjs"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=True)
    got = json.loads(done.stdout)
    flip = torch.tensor([1.0, -1.0, -1.0])
    assert (got["num"], got["numHarmonics"]) == (40, 15)
    means = torch.tensor(wanted.means) * flip
    assert torch.allclose(torch.tensor(got["means"]).reshape(40, 3), means, atol=1e-6)
    geometry = torch.tensor(got["geometry"]).reshape(40, 12)
    scaled = Gaussians.from_arrays(wanted)
    from zipsplat.rotations import matrix_from_quat

    root = flip[:, None] * matrix_from_quat(scaled.quats) * scaled.scales.unsqueeze(-2)
    rows, columns = torch.triu_indices(3, 3)
    upper = (root @ root.mT)[:, rows, columns]
    assert torch.allclose(geometry[:, 3:9], upper, rtol=1e-4, atol=1e-7)
    colors = torch.tensor(got["colors"]).reshape(40, 16, 4)
    assert torch.allclose(colors[:, 0, 3] / 255, scaled.opacities, atol=1e-6)
    dc = (colors[:, 0, :3] - 127.5) / 38.25
    assert torch.allclose(dc, scaled.sh_coeffs[:, 0], atol=1e-5)
