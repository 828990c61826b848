"""The page as text; what browsers make of it is in tests/peers."""

from __future__ import annotations

import base64
import io
import itertools
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

from zipsplat import Camera, Gaussians, Pose
from zipsplat.formats import FORMATS
from zipsplat.trajectories import CameraPath
from zipsplat.webpage import MAX_CAMERAS, StartView, first_view, page, write_page
from zipsplat.webpage.photo_cameras import PhotoCamera
from zipsplat.webpage.tour import tour, waypoints


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
    assert axes[1, 1] < 0  # the image's down is down: y is up in there
    assert config["start"]["extent"] == pytest.approx([math.tan(math.radians(20))] * 2)
    assert config["photos"] == []
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
    image = Image.open(io.BytesIO(base64.b64decode(poster["src"].split(",")[1])))
    assert image.size == (640, 400)
    assert image.getpixel((2, 2)) == pytest.approx((0, 51, 102), abs=6)
    middle = image.crop((220, 100, 420, 300)).resize((1, 1)).getpixel((0, 0))
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
        "const half = Math.tan(0.5);"
        "const start = { position: [], axes: [[], [], []], distance: 1, extent: [half, half] };"
        "const camera = new Camera(start);"
        "const angles = [2, 1, 0.5].map((aspect) => camera.fovY(aspect));"
        "camera.fixedFovY = 0.7;"
        "console.log(JSON.stringify([...angles, camera.fovY(0.5)]));"
    )
    file = tmp_path / "test.mjs"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=True)
    wide, square, upright, fixed = json.loads(done.stdout)
    assert (wide, square, fixed) == (pytest.approx(1), pytest.approx(1), 0.7)
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


def photo_cameras(num: int = 3) -> tuple[Camera, Pose]:
    """Upright photos on an orbit around (0, 0, 4), each with its own focal length."""
    focals = 300 + 10.0 * torch.arange(num)
    cameras = Camera.from_focal(focals, w=torch.full((num,), 240.0), h=torch.full((num,), 320.0))
    azimuths = torch.linspace(0, 60, num)
    return cameras, Pose.orbit(torch.tensor([0.0, 0, 4]), 4.0, azimuths, torch.tensor(10.0))


def config_of(text: str) -> dict:
    return json.loads(Elements(text).texts["config"])


def test_a_page_with_cameras_starts_at_the_first_photo():
    cameras, poses = photo_cameras()
    gaussians = scene(200, center=(0, 0, 4))
    names = ["a.jpg", "b.jpg", "c.jpg"]
    text = page(gaussians, title="T", cameras=cameras, poses=poses, names=names)
    config = config_of(text)
    assert [photo["name"] for photo in config["photos"]] == names
    flip = torch.tensor([1.0, -1.0, -1.0])
    for photo, camera, pose in zip(config["photos"], cameras, poses, strict=True):
        focal = float(camera.f[0])
        assert photo["extent"] == pytest.approx([120 / focal, 160 / focal])
        assert torch.allclose(torch.tensor(photo["position"]), pose.t * flip, atol=1e-5)
        assert torch.allclose(torch.tensor(photo["axes"]), pose.R.T * flip, atol=1e-5)
        assert photo["distance"] == pytest.approx(4, abs=0.6)  # where the scene is
    first = {key: value for key, value in config["photos"][0].items() if key != "name"}
    assert config["start"] == first
    assert config["sweep"] is None
    assert "--shape: 0.75;" in text
    given = StartView(Pose.identity(), 2.0)
    text = page(gaussians, title="T", start=given, cameras=cameras, poses=poses)
    assert config_of(text)["start"]["distance"] == 2
    assert config_of(text)["photos"][1]["name"] == "photo 2"


def test_photos_off_their_axis_are_whole_in_the_image():
    camera = Camera.from_focal(100.0, 200.0, w=300, h=200, cx=100, cy=150)
    text = page(scene(), title="T", cameras=camera[None], poses=Pose.identity((1,)))
    assert config_of(text)["photos"][0]["extent"] == pytest.approx([2, 0.75])


def test_many_cameras_and_long_names_are_bounded():
    cameras, poses = photo_cameras(1000)
    names = [f"{view:04d} " + "x" * 500 for view in range(1000)]
    plain = page(scene(200, center=(0, 0, 4)), title="T")
    text = page(scene(200, center=(0, 0, 4)), title="T", cameras=cameras, poses=poses, names=names)
    photos = config_of(text)["photos"]
    kept = [int(photo["name"][:4]) for photo in photos]
    assert (len(kept), kept[0], kept[-1]) == (MAX_CAMERAS, 0, 999)
    assert {b - a for a, b in itertools.pairwise(kept)} <= {5, 6}
    assert max(len(photo["name"]) for photo in photos) == 80
    assert len(text) - len(plain) < 90_000


def test_names_of_photos_are_text_and_nothing_else():
    hostile = "</script><script>alert(1)</script><b>@@scene@@"
    cameras, poses = photo_cameras(1)
    text = page(scene(), title="T", cameras=cameras, poses=poses, names=[hostile])
    assert config_of(text)["photos"][0]["name"] == hostile
    assert "alert(1)</script>" not in text
    assert Elements(text).texts["scene"] == Elements(page(scene(), title="T")).texts["scene"]
    source = (Path(__file__).parents[2] / "zipsplat/webpage/viewer.js").read_text(encoding="utf-8")
    assert "innerHTML" not in source


def test_cameras_that_cannot_be():
    cameras, poses = photo_cameras(3)
    wrong = [
        ({"cameras": cameras}, "there are no poses"),
        ({"poses": poses}, "there are no cameras"),
        (
            {"cameras": cameras[:2], "poses": poses},
            r"equal numbers of cameras.*\(2,\), \(3,\) and 3",
        ),
        ({"cameras": cameras, "poses": poses, "names": ["a"]}, "and 1"),
        ({"cameras": cameras[:0], "poses": poses[:0]}, "at least one"),
        ({"cameras": cameras, "poses": Pose(poses.R, poses.t * math.nan)}, "finite"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            page(scene(), title="T", **options)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_flights_are_smooth_and_end_where_they_should(tmp_path: Path):
    folder = Path(__file__).parents[2] / "zipsplat/webpage"
    source = "".join((folder / name).read_text("utf-8") for name in ("camera.js", "flight.js"))
    around = Pose.orbit(torch.zeros(3), 2.0, torch.tensor([0.0, 90, 180]), torch.tensor(0.0))
    views = [
        {"position": pose.t.tolist(), "axes": pose.R.T.tolist(), "distance": 2, "extent": [1, 1]}
        for pose in around
    ]
    script = source + (
        f"const [a, b, c] = {json.dumps(views)};"
        "const ways = [[a, b], [a, c], [a, a]].map(([from, to]) => {"
        "const flight = new Flight(from, to, 1);"
        "return Array.from({ length: 11 }, () => flight.step(0.1)); });"
        "console.log(JSON.stringify(ways));"
    )
    file = tmp_path / "test.mjs"
    file.write_text(script, encoding="utf-8")
    done = subprocess.run(["node", str(file)], capture_output=True, text=True, check=True)
    for steps, end in zip(json.loads(done.stdout), (views[1], views[2], views[0]), strict=True):
        assert steps[-1] == end
        axes = torch.tensor([step["axes"] for step in steps], dtype=torch.float32)
        assert torch.allclose(axes @ axes.mT, torch.eye(3).expand(11, 3, 3), atol=1e-5)
        position = torch.tensor([step["position"] for step in steps], dtype=torch.float32)
        assert torch.allclose(position.norm(dim=-1), torch.tensor(2.0), atol=1e-4)  # around
        assert float(position.diff(dim=0).norm(dim=-1).max()) < 1.2


def test_the_tour_passes_every_key_and_comes_back() -> None:
    """There and back along an open path, around a closed one; sizes and distances follow."""
    for spread, turns_back in ((120.0, True), (330.0, False)):
        poses = Pose.orbit(torch.zeros(3), 3.0, torch.linspace(0, spread, 6), torch.tensor(5.0))
        keys = [
            PhotoCamera(f"{view}", poses[view], (0.5 + view / 10, 0.4), 3.0 + view)
            for view in range(6)
        ]
        found = tour(keys)
        order = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1] if turns_back else [0, 1, 2, 3, 4, 5]
        assert len(found.views) == 6 * len(order)
        assert found.seconds == 2 * len(order)
        for place, key in enumerate(order):
            view = found.views[6 * place]
            torch.testing.assert_close(view.pose.t, keys[key].pose.t, atol=1e-5, rtol=0)
            torch.testing.assert_close(view.pose.R, keys[key].pose.R, atol=1e-5, rtol=0)
            assert view.extent == pytest.approx(keys[key].extent)
            assert view.distance == pytest.approx(keys[key].distance)
        steps = torch.stack([view.pose.t for view in found.views]).diff(dim=0).norm(dim=-1)
        assert steps.max() < 0.6 * 3.0 * math.radians(spread) / 5


def test_tours_of_one_camera_and_of_many() -> None:
    one = tour([PhotoCamera("", Pose.identity(), (0.5, 0.4), 2.0)])
    assert len(one.views) == 1
    assert one.seconds == 8
    poses = Pose.orbit(torch.zeros(3), 3.0, torch.linspace(0, 90, 500), torch.tensor(5.0))
    path = CameraPath(poses, 40.0)
    keys = waypoints(scene(), path)
    assert len(keys) == 200
    assert keys[-1].name == "view 500"
    assert keys[0].extent[0] == pytest.approx(math.tan(math.radians(20)))
    many = tour(keys)
    assert len(many.views) == 600
    assert many.seconds == 90


def test_autoplay_says_what_it_wants() -> None:
    with pytest.raises(ValueError, match="needs their cameras"):
        page(scene(), title="x", autoplay="photos")
    with pytest.raises(ValueError, match="true, false, 'photos' or a camera path"):
        page(scene(), title="x", autoplay="forever")
    text = page(scene(), title="x", autoplay=False)
    assert '"path": null' in text
    assert '"autoplay": false' in text
