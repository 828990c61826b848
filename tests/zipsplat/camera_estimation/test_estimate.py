"""Cameras found by structure from motion, on the example photos, and what becomes of bad photos."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from zipsplat.camera_estimation import (
    CameraEstimate,
    CamerasNotFoundError,
    estimate_cameras,
    load_cameras,
)
from zipsplat.camera_estimation.camera_checks import Evidence, disagreement, median_depth, warnings
from zipsplat.camera_estimation.capture import Capture, Lens, Photo
from zipsplat.camera_estimation.estimate import normalized
from zipsplat.camera_estimation.write import write_cameras_json
from zipsplat.cli import main
from zipsplat.images import load_image
from zipsplat.pose import Pose
from zipsplat.posed_images import SparsePoints
from zipsplat.video import load_video

EXAMPLES = Path(__file__).parents[3] / "assets" / "examples"
OFFICE = [EXAMPLES / "office" / f"{number:02d}.png" for number in range(1, 7)]
TRUE_FOCAL = 0.7594  # of the longer side; the example was rendered with it


@pytest.fixture(scope="module")
def office() -> CameraEstimate:
    pytest.importorskip("pycolmap")
    return estimate_cameras(OFFICE, num_threads=1)


def reprojection_errors(estimate: CameraEstimate) -> Tensor:
    """Distances in pixels between points seen and points projected."""
    points = estimate.images.points
    assert points is not None
    rows = np.repeat(np.arange(len(points)), np.diff(points.offsets))
    errors = []
    for view in range(len(estimate.images)):
        seen = points.views == view
        positions = torch.from_numpy(points.positions[rows[seen]])
        local = estimate.images.poses[view].inv().transform(positions)
        assert bool((local[:, 2] > 0).all())
        pixels = estimate.images.cameras[view].project(local)
        errors.append((pixels - torch.from_numpy(points.pixels[seen])).norm(dim=-1))
    return torch.cat(errors)


def test_all_photos_find_their_place(office: CameraEstimate) -> None:
    assert office.images.names == tuple(path.name for path in OFFICE)
    assert office.files == tuple(OFFICE)
    assert (office.left_out, office.warnings, office.method) == ((), (), "sfm")
    for lens in office.lenses:
        assert lens.focal_factor == pytest.approx(TRUE_FOCAL, rel=0.02)
    points = office.images.points
    assert points is not None
    errors, rows = reprojection_errors(office), np.argsort(points.views, kind="stable")
    by_point = np.zeros(len(points))
    np.add.at(by_point, np.repeat(np.arange(len(points)), np.diff(points.offsets))[rows], errors)
    by_point /= np.diff(points.offsets)
    np.testing.assert_allclose(by_point, points.errors, atol=0.05)
    assert by_point.mean() == pytest.approx(office.reprojection_error, rel=0.03)
    assert office.reprojection_error < 0.5


def test_the_first_camera_and_the_median_depth_set_the_frame(office: CameraEstimate) -> None:
    poses, points = office.images.poses, office.images.points
    assert torch.equal(poses.R[0], torch.eye(3))
    assert torch.equal(poses.t[0], torch.zeros(3))
    assert points is not None
    assert 0 <= points.colors.min() < points.colors.max() <= 1
    rows = np.repeat(np.arange(len(points)), np.diff(points.offsets))
    centers, axes = poses.t[points.views], poses.R[points.views][:, :, 2]
    depths = ((torch.from_numpy(points.positions[rows]) - centers) * axes).sum(-1)
    assert float(depths.median()) == pytest.approx(1, abs=0.01)


def test_results_repeat_whatever_the_threads(office: CameraEstimate) -> None:
    again = estimate_cameras([load_image(path) for path in OFFICE], num_threads=2)
    assert again.images.names[1] == "000001.png"
    assert again.files == (None,) * 6
    assert torch.equal(again.images.poses.packed(), office.images.poses.packed())
    assert torch.equal(again.images.cameras.packed(), office.images.cameras.packed())
    for one, two in zip(office.images.images, again.images.images, strict=True):
        assert torch.equal(one, two)
    assert office.images.points is not None
    assert again.images.points is not None
    np.testing.assert_array_equal(again.images.points.positions, office.images.points.positions)
    np.testing.assert_array_equal(again.images.points.pixels, office.images.points.pixels)


def test_a_photo_of_another_place_is_left_out_and_named(
    office: CameraEstimate, tmp_path: Path
) -> None:
    """Also: another size and a noted focal length make a camera of their own."""
    village = load_video(EXAMPLES / "drone.mp4", 1)[0]
    pixels = (village * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "village.png")
    with Image.open(OFFICE[2]) as photo:
        photo.resize((photo.width * 3 // 4, photo.height * 3 // 4)).save(tmp_path / "c.png")
    photos = [OFFICE[0], OFFICE[1], tmp_path / "village.png", tmp_path / "c.png", *OFFICE[3:5]]
    estimate = estimate_cameras(photos, num_threads=1)
    assert [photo.name for photo in estimate.left_out] == ["village.png"]
    assert "no matches" in estimate.left_out[0].reason
    assert estimate.images.names == ("01.png", "02.png", "c.png", "04.png", "05.png")
    assert estimate.lenses[2].width == estimate.lenses[0].width * 3 // 4
    kept = office.images.select([0, 1, 2, 3, 4])
    turns = estimate.images.poses.R.mT @ kept.poses.R
    cosines = (turns.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    assert float(cosines.min()) > math.cos(math.radians(0.5))


def test_a_given_focal_length_is_kept(office: CameraEstimate) -> None:
    millimetres = 36 * TRUE_FOCAL * 1.05
    estimate = estimate_cameras(OFFICE, focal_35mm=millimetres, num_threads=1)
    assert estimate.lenses[0].focal_factor == pytest.approx(TRUE_FOCAL * 1.05, rel=1e-6)
    with pytest.raises(ValueError, match="between 5 and 2000 mm, got 1"):
        estimate_cameras(OFFICE, focal_35mm=1)


def test_images_follow_max_side(office: CameraEstimate) -> None:
    estimate = estimate_cameras(OFFICE[:2], max_side=240, num_threads=1)
    width, height = estimate.images.cameras.size[0].tolist()
    assert max(width, height) <= 240
    assert estimate.images.images[0].shape == (3, height, width)
    assert any("two photos" in warning for warning in estimate.warnings)
    assert float(reprojection_errors(estimate).mean()) < 0.5


def with_traffic(share: float) -> list[Tensor]:
    """The office, `share` of each photo covered by a texture that drives through the images."""
    texture = load_video(EXAMPLES / "drone.mp4", 1)[0]
    views = []
    for number, path in enumerate(OFFICE):
        view = load_image(path).clone()
        height, width = (round(side * share**0.5) for side in view.shape[1:])
        left = min(view.shape[2] - width, 20 * number)
        view[:, -height:, left : left + width] = texture[:, :height, :width]
        views.append(view)
    return views


@pytest.mark.slow  # two searches
def test_traffic_is_left_out_of_account_or_said(office: CameraEstimate) -> None:
    estimate = estimate_cameras(with_traffic(0.1), num_threads=1)
    assert len(estimate.images) == len(OFFICE)
    turns = estimate.images.poses.R.mT @ office.images.poses.R
    cosines = (turns.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    assert float(cosines.min()) > math.cos(math.radians(0.5))
    try:
        estimate = estimate_cameras(with_traffic(0.3), num_threads=1)
    except CamerasNotFoundError:
        return
    assert estimate.warnings


def blank() -> list[Tensor]:
    return [torch.full((3, 120, 160), level) for level in (0.2, 0.5, 0.8)]


def same_photo() -> list[Tensor]:
    return [load_image(OFFICE[0])] * 3


def two_places() -> list[Tensor]:
    return [load_image(OFFICE[0]), load_video(EXAMPLES / "drone.mp4", 1)[0]]


def turned_only() -> list[Tensor]:
    """Views of a camera that turns about its centre: homographies of one photo."""
    photo = load_image(OFFICE[0])
    height, width = photo.shape[1:]
    focal, views = TRUE_FOCAL * max(height, width), []
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(u - width / 2) / focal, (v - height / 2) / focal, torch.ones_like(u)], -1)
    for degrees in (-6.0, -2.0, 2.0, 6.0):
        a = math.radians(degrees)
        turn = torch.tensor(
            [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]]
        )
        x = rays @ turn.T
        grid = x[..., :2] / x[..., 2:] * focal / torch.tensor([width / 2, height / 2])
        views.append(
            torch.nn.functional.grid_sample(photo[None], grid[None], align_corners=False)[0]
        )
    return views


def same_photo_with_noise() -> list[Tensor]:
    """Three photos from one tripod."""
    photo, random = load_image(OFFICE[0]), torch.Generator().manual_seed(0)
    noise = [0.02 * torch.randn(photo.shape, generator=random) for _ in range(3)]
    return [(photo + one).clamp(0, 1) for one in noise]


@pytest.mark.parametrize("photos", [same_photo, same_photo_with_noise])
def test_equal_photos_are_reported(photos: Callable[[], list[Tensor]]) -> None:
    pytest.importorskip("pycolmap")
    with pytest.raises(CamerasNotFoundError, match="show the same image; the camera must move"):
        estimate_cameras(photos(), num_threads=1)


@pytest.mark.parametrize("photos", [blank, two_places, turned_only])
def test_what_shows_no_cameras_is_said_in_one_line(photos: Callable[[], list[Tensor]]) -> None:
    pytest.importorskip("pycolmap")
    with pytest.raises(
        CamerasNotFoundError, match=r"need texture, .*rather than only turns"
    ) as caught:
        estimate_cameras(photos(), num_threads=1)
    assert "\n" not in str(caught.value)
    assert caught.value.num_photos == len(photos())


def test_wrong_arguments_are_explained() -> None:
    with pytest.raises(
        CamerasNotFoundError, match=r"only 0 of 1 photos could be registered: .*2 photos"
    ):
        estimate_cameras(OFFICE[:1])
    with pytest.raises(ValueError, match="method must be one of auto, sfm, network, got 'magic'"):
        estimate_cameras(OFFICE, method="magic")
    with pytest.raises(ValueError, match="order must be one of any, sequence"):
        estimate_cameras(OFFICE, order="reverse")
    with pytest.raises(ValueError, match=r"must be \(3, H, W\)"):
        estimate_cameras([torch.zeros(4, 4)])
    with pytest.raises(FileNotFoundError):
        estimate_cameras("gone.png")
    with pytest.raises(ValueError, match="max_side must be at least 64 pixels, got 1"):
        estimate_cameras("gone.png", max_side=1)  # before anything is read


def test_tensors_out_of_range_are_refused() -> None:
    good = load_image(OFFICE[0])
    torn = good.clone()
    torn[0, 3, 4] = math.nan
    with pytest.raises(ValueError, match=r"image 1 must have values in .*divide by 255"):
        estimate_cameras([good, good * 255])
    with pytest.raises(ValueError, match=r"image 1 must have values in .*nan"):
        estimate_cameras([good, torn])
    with pytest.raises(TypeError, match="uint8; divide 8-bit values by 255"):
        estimate_cameras([good, (good * 255).to(torch.uint8)])


def capture(
    num_points: int = 100, focal: float = 70.0, step: float = 0.2, num_views_each: int = 3
) -> Capture:
    photos = []
    for view in range(3):
        pose = np.eye(4)
        pose[0, 3] = step * view
        lens = Lens("SIMPLE_PINHOLE", 100, 80, (focal, 50.0, 40.0))
        photos.append(Photo(Path(f"{view}.png"), lens, pose))
    rng = np.random.default_rng(0)
    positions = np.column_stack([rng.normal(size=(num_points, 2)), np.full(num_points, 4.0)])
    points = SparsePoints(
        positions.astype(np.float32),
        np.zeros((num_points, 3), np.float32),
        np.zeros(num_points, np.float32),
        np.arange(num_points + 1) * num_views_each,
        np.arange(num_views_each * num_points) % 3,
        np.zeros((num_views_each * num_points, 2), np.float32),
    )
    return Capture(tuple(photos), points)


@pytest.mark.parametrize(
    ("found", "error", "support", "words"),
    [
        (capture(), 0.3, 0.9, []),
        (capture(focal=30.0), 0.3, 0.9, ["118 degrees", "--focal-35mm"]),
        (capture(focal=300.0), 0.3, 0.9, ["19 degrees"]),
        (capture(num_points=20), 0.3, 0.9, ["only 20 points"]),
        (capture(), 1.2, 0.9, ["1.20 pixels"]),
        (capture(), 0.3, 0.6, ["only 60 %"]),
        (capture(step=0.001), 0.3, 0.9, ["hardly moved"]),
        (capture(num_views_each=2), 0.3, 0.9, ["distance of 3 of 3 photos is uncertain"]),
    ],
)
def test_signs_of_a_wrong_result(
    found: Capture, error: float, support: float, words: list[str]
) -> None:
    said = warnings(Evidence(found, error, support, has_fixed_focal=False))
    assert len(said) == (len(words) > 0)
    assert all(word in " ".join(said) for word in words)
    if "--focal-35mm" in words:
        assert warnings(Evidence(found, error, support, has_fixed_focal=True)) == ()


def test_solutions_are_compared_up_to_a_turn() -> None:
    first = capture()
    angle = math.radians(30)
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    poses = [turn @ photo.world_from_camera for photo in first.photos]
    turned = [Photo(p.path, p.lens, x) for p, x in zip(first.photos, poses, strict=True)]
    assert disagreement(first, Capture(tuple(turned))) is None
    bent = [*turned[:2], Photo(turned[2].path, turned[2].lens, poses[2] @ turn)]
    gap = disagreement(first, Capture(tuple(bent)))
    assert gap is not None
    assert "differ by 20.1 degrees" in gap  # about a third of the turn is common to all
    far = turned[2].world_from_camera.copy()
    far[:3, 3] *= 1.5
    moved = [*turned[:2], Photo(turned[2].path, turned[2].lens, far)]
    gap = disagreement(first, Capture(tuple(moved)))
    assert gap is not None
    assert "differ by 0.0 degrees" in gap


def test_the_frame_of_a_capture_is_normalized() -> None:
    found = capture()
    assert median_depth(found) == pytest.approx(4)
    result = normalized(found)
    np.testing.assert_array_equal(result.photos[0].world_from_camera, np.eye(4))
    np.testing.assert_allclose(result.photos[2].world_from_camera[0, 3], 0.1)
    assert median_depth(result) == pytest.approx(1)


def test_the_command_writes_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycolmap")
    out = tmp_path / "house"
    command = ["cameras", *map(str, OFFICE[:3]), "-o", str(out), "--threads", "1"]
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["placed"] == ["01.png", "02.png", "03.png"]
    assert data["focal_35mm"][0] == pytest.approx(36 * TRUE_FOCAL, rel=0.05)
    read = load_cameras(out)
    assert isinstance(read.poses, Pose)
    assert len(read) == 3
    assert main(command) == 1
    assert "is not empty; --overwrite" in capsys.readouterr().err
    assert main([*command[:-4], str(out / "more"), "-o", str(out)]) == 1
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("transforms.json", "which video frames are not"),
        ("taken.json", "already exists"),
        ("file", "neither a folder nor named .json"),
    ],
)
def test_outputs_are_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, words: str
) -> None:
    (tmp_path / "taken.json").write_text("[]")
    (tmp_path / "file").write_text("")
    source = str(EXAMPLES / "drone.mp4")
    assert main(["cameras", source, "-o", str(tmp_path / output)]) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert "extracting features" not in captured.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.json"]


def test_the_folder_of_the_photos_is_not_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "a.png")
    command = ["cameras", str(tmp_path / "images"), "-o", str(tmp_path), "--overwrite"]
    assert main(command) == 1
    assert "contains the input photos" in capsys.readouterr().err


def test_written_cameras_fit_the_photos_as_taken(office: CameraEstimate, tmp_path: Path) -> None:
    assert office.lenses[0].is_distorted
    path = tmp_path / "scene.cameras.json"
    write_cameras_json(path, office.images, office.lenses)
    again = load_cameras(path, [str(path) for path in OFFICE])
    for image, known in zip(again.images, office.images.images, strict=True):
        assert torch.equal(image, known)
    torch.testing.assert_close(again.cameras.packed(), office.images.cameras.packed())
    torch.testing.assert_close(again.poses.Rt, office.images.poses.Rt)
