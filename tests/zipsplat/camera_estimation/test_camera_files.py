"""Cameras written to files and read back: COLMAP models, transforms.json, cameras.json."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zipsplat.camera import Camera
from zipsplat.camera_estimation import CameraEstimate, cameras_json, load_cameras, nerfstudio
from zipsplat.camera_estimation.capture import Lens, rigid
from zipsplat.camera_estimation.colmap_model import model_of, read_model, write_model
from zipsplat.camera_estimation.load import read_capture
from zipsplat.camera_estimation.point_cloud import (
    read_point_cloud,
    untracked_points,
    write_point_cloud,
)
from zipsplat.camera_estimation.scene_cameras import read_scene_cameras
from zipsplat.camera_estimation.undistortion import to_image
from zipsplat.camera_estimation.write import (
    matrices,
    pinholes,
    write_cameras_json,
    write_dataset,
    write_transforms,
)
from zipsplat.cli import main
from zipsplat.gaussians import Gaussians
from zipsplat.masks import MaskSource
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages, SparsePoints
from zipsplat.rotations import matrix_from_quat
from zipsplat.video import write_video

NUM_VIEWS = 3


@pytest.fixture
def posed() -> PosedImages:
    """Three noise images of two sizes, five points with tracks of 3, 2, 2, 1 and 0 views."""
    rng = np.random.default_rng(0)
    sizes = [(30, 40), (30, 40), (20, 50)]
    images = tuple(to_image(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes)
    quats = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(3, 4))), dim=-1)
    poses = Pose(matrix_from_quat(quats).float(), torch.from_numpy(rng.normal(size=(3, 3))).float())
    packed = [[w, h, 45.5, 46.25, w / 2 + 1.5, h / 2 - 1] for h, w in sizes]
    offsets = np.array([0, 3, 5, 7, 8, 8])
    points = SparsePoints(
        rng.normal(size=(5, 3)).astype(np.float32),
        (rng.integers(0, 256, (5, 3)) / 255).astype(np.float32),
        rng.uniform(0, 1, 5).astype(np.float32),
        offsets,
        np.array([0, 1, 2, 0, 1, 1, 2, 0]),
        rng.uniform(0, 20, (8, 2)).astype(np.float32),
    )
    names = ("b.jpg", "a.jpg", "c.png")
    return PosedImages(images, Camera.from_packed(torch.tensor(packed)), poses, names, points)


def same_cameras(read: PosedImages, posed: PosedImages) -> None:
    order = [[Path(name).stem for name in read.names].index(Path(n).stem) for n in posed.names]
    assert len(read) == len(posed)
    torch.testing.assert_close(read.poses.R[order], posed.poses.R, atol=1e-6, rtol=0)
    torch.testing.assert_close(read.poses.t[order], posed.poses.t, atol=1e-6, rtol=0)
    torch.testing.assert_close(read.cameras.packed()[order], posed.cameras.packed())
    for place, image in zip(order, posed.images, strict=True):
        assert torch.equal(read.images[place], image)


def same_points(read: SparsePoints | None, points: SparsePoints | None) -> None:
    assert read is not None
    assert points is not None
    np.testing.assert_allclose(read.positions, points.positions, atol=1e-6)
    np.testing.assert_allclose(read.colors, points.colors, atol=1e-6)


@pytest.mark.parametrize("what", ["", "sparse/0", "transforms.json", "cameras.json"])
def test_every_file_of_a_dataset_gives_the_same_cameras(
    posed: PosedImages, tmp_path: Path, what: str
) -> None:
    write_dataset(tmp_path / "out", posed)
    photos = tmp_path / "out" / "images" if what == "sparse/0" else None
    read = load_cameras(tmp_path / "out" / what, photos)
    same_cameras(read, posed)
    same_points(read.points, posed.points)


def test_tracks_survive_a_colmap_model(posed: PosedImages, tmp_path: Path) -> None:
    write_dataset(tmp_path, posed)
    (tmp_path / "transforms.json").unlink()
    read = load_cameras(tmp_path)
    assert read.names == ("a.png", "b.png", "c.png")
    assert read.points is not None
    assert posed.points is not None
    np.testing.assert_array_equal(read.points.offsets, posed.points.offsets)
    swapped = np.array([1, 0, 2])[posed.points.views]
    np.testing.assert_array_equal(read.points.views, swapped)
    np.testing.assert_array_equal(read.points.pixels, posed.points.pixels)
    np.testing.assert_allclose(read.points.errors, posed.points.errors)


def test_text_and_binary_models_say_the_same(posed: PosedImages, tmp_path: Path) -> None:
    write_dataset(tmp_path, posed)
    binary = read_model(tmp_path / "sparse" / "0")
    write_model(tmp_path / "text", binary, as_text=True)
    text = read_model(tmp_path / "text")
    assert text.cameras == binary.cameras
    for number, image in binary.images.items():
        np.testing.assert_allclose(
            text.images[number].world_from_camera, image.world_from_camera, atol=1e-12
        )
        np.testing.assert_array_equal(text.images[number].pixels, image.pixels)
        np.testing.assert_array_equal(text.images[number].point_ids, image.point_ids)
    for number, point in binary.points.items():
        assert text.points[number].position == point.position
        np.testing.assert_array_equal(text.points[number].track, point.track)


@pytest.mark.parametrize("as_text", [False, True])
def test_colmap_reads_what_is_written(posed: PosedImages, tmp_path: Path, as_text: bool) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    write_dataset(tmp_path, posed)
    folder = tmp_path / "model"
    write_model(folder, read_model(tmp_path / "sparse" / "0"), as_text=as_text)
    model = pycolmap.Reconstruction(str(folder))
    by_name = {image.name: image for image in model.images.values()}
    for view, name in enumerate(("b.png", "a.png", "c.png")):
        expected = posed.poses[view].inv().Rt[:3]
        got = torch.from_numpy(by_name[name].cam_from_world().matrix()).float()
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
        camera = model.cameras[by_name[name].camera_id]
        assert camera.model_name == "PINHOLE"
        expected = posed.cameras[view].packed()[2:]
        np.testing.assert_allclose(camera.params, expected, rtol=1e-6)
    assert [len(model.points3D[n].track.elements) for n in range(1, 6)] == [3, 2, 2, 1, 0]
    first = model.points3D[1].track.elements[0]
    assert posed.points is not None
    pixel = model.images[first.image_id].points2D[first.point2D_idx]
    assert pixel.point3D_id == 1
    np.testing.assert_allclose(pixel.xy, posed.points.pixels[0])


def test_points_without_tracks_are_seen_where_they_project(
    posed: PosedImages, tmp_path: Path
) -> None:
    """`points.ply` says nothing of tracks; without observations nothing could be made of it."""
    in_front = posed.poses[0].transform(torch.tensor([[0.1, -0.1, 2.0], [0.0, 0.0, -2.0]]))
    points = untracked_points(in_front.numpy(), np.full((2, 3), 0.5, np.float32))
    write_dataset(tmp_path, replace(posed, points=points))
    read = load_cameras(tmp_path / "transforms.json")
    assert read.points is not None
    view = read.names.index("b.png")
    assert read.points.seen_by(view).tolist() == [0]
    row = (read.points.views == view).nonzero()[0]
    expected = posed.cameras[0].project(torch.tensor([[0.1, -0.1, 2.0]]))
    np.testing.assert_allclose(read.points.pixels[row], expected, atol=1e-4)
    for other in range(3):
        pixels = read.points.pixels[read.points.views == other]
        assert (pixels >= 0).all()
        assert (pixels <= read.cameras.size[other].numpy()).all()


def test_axes_of_transforms_are_those_of_opengl(posed: PosedImages, tmp_path: Path) -> None:
    write_dataset(tmp_path, posed)
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert content["camera_model"] == "PINHOLE"
    assert content["ply_file_path"] == "points.ply"
    assert "applied_transform" not in content
    matrix = np.array(content["frames"][0]["transform_matrix"])
    np.testing.assert_allclose(matrix[:3, 1], -posed.poses.R[0, :, 1], atol=1e-7)
    np.testing.assert_allclose(matrix[:3, 2], -posed.poses.R[0, :, 2], atol=1e-7)


def test_photos_are_found_by_name_wherever_they_are(posed: PosedImages, tmp_path: Path) -> None:
    write_cameras_json(tmp_path / "cameras.json", posed)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, image in zip(posed.names[:2], posed.images, strict=False):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(elsewhere / f"{Path(name).stem}.png")
    with pytest.raises(ValueError, match="none of its 3 images exist"):
        load_cameras(tmp_path / "cameras.json")
    read = load_cameras(tmp_path / "cameras.json", elsewhere)
    same_cameras(read, posed.select([0, 1]))
    assert read.points is None


def test_sizes_follow_max_side(posed: PosedImages, tmp_path: Path) -> None:
    write_dataset(tmp_path, posed)
    read = load_cameras(tmp_path, max_side=20)
    assert [tuple(image.shape[1:]) for image in read.images] == [(15, 20), (15, 20), (8, 20)]
    torch.testing.assert_close(read.cameras.f[0], posed.cameras.f[0] / 2)
    (tmp_path / "transforms.json").unlink()
    points = load_cameras(tmp_path, max_side=20).points
    assert points is not None
    assert posed.points is not None
    is_first = posed.points.views == 0
    np.testing.assert_allclose(
        points.pixels[points.views == 1], posed.points.pixels[is_first] / 2, rtol=1e-6
    )


def estimate_of(posed: PosedImages, folder: Path, k1: float) -> CameraEstimate:
    """As if the images were found with a bent lens of twice their size."""
    files, lenses = [], []
    for name, image in zip(posed.names, posed.images, strict=True):
        files.append(folder / Path(name).with_suffix(".png"))
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(files[-1])
        height, width = image.shape[1:]
        params = (91.0, float(width), float(height), k1)
        lenses.append(Lens("SIMPLE_RADIAL", 2 * width, 2 * height, params))
    return CameraEstimate(posed, tuple(lenses), tuple(files), (), (), "sfm", "global", 0.3)


def test_transforms_refer_to_photos_with_their_distortion(
    posed: PosedImages, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    estimate = estimate_of(posed, tmp_path / "photos", k1=-0.1)
    path = tmp_path / "out" / "transforms.json"
    write_transforms(path, estimate)
    capture = read_capture(path)
    by_file = {photo.path.resolve(): photo for photo in capture.photos}
    assert list(by_file) == sorted(estimate.files)
    assert capture.photos[0].lens == Lens(
        "OPENCV", 40, 30, (45.5, 45.5, 20.0, 15.0, -0.1, 0.0, 0.0, 0.0)
    )
    for file, pose in zip(estimate.files, posed.poses.Rt, strict=True):
        np.testing.assert_allclose(by_file[file].world_from_camera, pose, atol=1e-6)
    same_points(read_point_cloud(tmp_path / "out" / "points.ply"), posed.points)


def test_frames_and_turned_photos_are_in_no_transforms(posed: PosedImages, tmp_path: Path) -> None:
    estimate = estimate_of(posed, tmp_path, k1=0.0)
    with pytest.raises(ValueError, match=r"video frames are not; write to a folder"):
        write_transforms(tmp_path / "transforms.json", replace(estimate, files=(None,) * 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "a.png") as photo:
        photo.save(tmp_path / "a.png", exif=exif)
    with pytest.raises(ValueError, match=r"a\.png is rotated by EXIF"):
        write_transforms(tmp_path / "transforms.json", estimate)
    assert not (tmp_path / "transforms.json").exists()
    assert not (tmp_path / "points.ply").exists()


def test_a_dataset_replaces_its_own_pieces_only(posed: PosedImages, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_dataset(out, posed)
    (out / "notes.txt").write_text("mine")
    write_dataset(out, posed.select([0, 1]))
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in (out / "images").iterdir()) == ["a.png", "b.png"]
    assert len(read_model(out / "sparse" / "0").images) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_failed_dataset_leaves_what_was(
    posed: PosedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    write_dataset(out, posed)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("zipsplat.camera_estimation.write.cameras_json.write", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_dataset(out, posed.select([0]))
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_cut_off_models_are_named(posed: PosedImages, tmp_path: Path, part: str) -> None:
    write_dataset(tmp_path, posed)
    file = tmp_path / "sparse" / "0" / f"{part}.bin"
    whole = file.read_bytes()
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        with pytest.raises(ValueError, match="is not a readable COLMAP model"):
            read_model(file.parent)


@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_no_value_in_a_model_is_trusted(posed: PosedImages, tmp_path: Path, part: str) -> None:
    """Each byte is replaced by 255, which makes enormous counts; memory must not follow them."""
    write_dataset(tmp_path, posed)
    file = tmp_path / "sparse" / "0" / f"{part}.bin"
    whole = file.read_bytes()
    refused = 0
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        try:
            read_capture(tmp_path / "sparse" / "0", tmp_path / "images")
        except ValueError:
            refused += 1
    assert refused > 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a transforms.json"),
        ('[{"img_name": "a"}]', "entry 0: has no 'width'"),
        ('[{"img_name": "a", "width": 1e400}]', "entry 0: "),
        (
            '[{"img_name": "a", "width": 8, "height": 8, "fx": -1, "fy": 1,'
            ' "rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "position": [0, 0, 0]}]',
            "positive size and focal length",
        ),
        (
            '[{"img_name": "a", "width": 8, "height": 8, "fx": 1, "fy": 1,'
            ' "rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]], "position": [0, 0, 0]}]',
            "not a rotation and translation",
        ),
    ],
)
def test_damaged_lists_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "cameras.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_cameras(path)


def test_what_holds_no_cameras_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_cameras(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"contains no COLMAP model and no transforms\.json"):
        load_cameras(tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match="cameras are read from"):
        load_cameras(tmp_path / "a.txt")


def test_point_clouds_of_other_tools(tmp_path: Path) -> None:
    header = "ply\nformat ascii 1.0\nelement vertex 2\n" + "".join(
        f"property {kind}\n"
        for kind in ("float x", "float y", "float z", "uint8 red", "uint8 green", "uint8 blue")
    )
    path = tmp_path / "sparse_pc.ply"
    path.write_text(f"{header}end_header\n1 2 3 255 0 51\n4 5 6 0 0 0\n")
    points = read_point_cloud(path)
    np.testing.assert_array_equal(points.positions, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_allclose(points.colors[0], [1, 0, 0.2])
    path.write_text(f"{header}end_header\n1 2 3 255 0 51\n")
    with pytest.raises(ValueError, match=r"sparse_pc\.ply: .*ends too early"):
        read_point_cloud(path)
    path.write_text(header.replace("float x", "float u") + "end_header\n1 2 3 0 0 0\n4 5 6 0 0 0\n")
    with pytest.raises(ValueError, match="has no x"):
        read_point_cloud(path)


def test_points_follow_an_applied_transform(posed: PosedImages, tmp_path: Path) -> None:
    write_dataset(tmp_path, posed)
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    moved = np.array([[0, 1, 0, 2.0], [0, 0, 1, -1], [1, 0, 0, 3], [0, 0, 0, 1]])
    for frame in content["frames"]:
        matrix = moved @ np.array(frame["transform_matrix"])
        frame["transform_matrix"] = matrix.tolist()
    path.write_text(json.dumps(content | {"applied_transform": moved[:3].tolist()}))
    assert posed.points is not None
    shutil.copy(tmp_path / "points.ply", tmp_path / "kept.ply")
    positions = posed.points.positions @ moved[:3, :3].T + moved[:3, 3]
    write_point_cloud(
        tmp_path / "points.ply", replace(posed.points, positions=positions.astype(np.float32))
    )
    read = load_cameras(path)
    same_cameras(read, posed)
    same_points(read.points, posed.points)


@pytest.mark.parametrize("what", [".", "sparse/0", "transforms.json", "cameras.json", "a.ply"])
def test_info_lists_cameras(
    posed: PosedImages, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Also those beside a scene, and without the photos."""
    write_dataset(tmp_path, posed)
    shutil.rmtree(tmp_path / "images")
    ball = (torch.zeros(1, 3), torch.ones(1, 3), torch.eye(4)[:1], torch.ones(1))
    Gaussians(*ball, torch.zeros(1, 1, 3)).save(tmp_path / "a.ply")
    assert main(["info", str(tmp_path / what), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["views"] == 3
    x, y, z = (f"{float(f'{value:.6g}'):g}" for value in posed.poses.t[0].tolist())
    assert any(f"({x}, {y}, {z})" in line for line in data["cameras"])
    assert data["kind"] == ("scene" if what == "a.ply" else data["kind"])
    assert main(["info", str(tmp_path / what)]) == 0
    assert f"({x}, {y}, {z})" in capsys.readouterr().out
    (tmp_path / "cameras.json").write_text("[")
    assert main(["info", str(tmp_path / what)]) == (1 if what == "cameras.json" else 0)


@pytest.mark.parametrize("what", ["sparse/0", "transforms.json", "cameras.json"])
def test_geo_referenced_cameras_keep_their_distances(
    posed: PosedImages, tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Near northings of UTM, float32 has steps of half a metre."""
    write_dataset(tmp_path, posed)
    utm = np.array([483211.3, 5456789.7, 212.4])
    lenses, poses = pinholes(posed), [rigid(pose, "a pose") for pose in matrices(posed)]
    for pose in poses:
        pose[:3, 3] += utm
    names = ["b.png", "a.png", "c.png"]
    far = (names, lenses, poses)
    assert posed.points is not None
    model = model_of(*far, posed.points)
    points = {
        number: replace(point, position=tuple(np.array(point.position) + utm))
        for number, point in model.points.items()
    }
    write_model(tmp_path / "sparse" / "0", replace(model, points=points))
    files = [f"images/{name}" for name in names]
    nerfstudio.write(tmp_path / "transforms.json", files, lenses, poses, None)
    cameras_json.write(tmp_path / "cameras.json", *far)
    (tmp_path / "points.ply").unlink()
    read = load_cameras(tmp_path / what, tmp_path / "images" if what == "sparse/0" else None)
    assert "became the origin" in caplog.text
    order = [read.names.index(name) for name in names]
    origin = posed.poses.t[names.index(read.names[0])]
    torch.testing.assert_close(read.poses.t[order], posed.poses.t - origin, atol=1e-5, rtol=0)
    if what == "sparse/0":
        assert read.points is not None
        expected = posed.points.positions - origin.numpy()
        np.testing.assert_allclose(read.points.positions, expected, atol=1e-5)


def test_cameras_beside_a_scene_stay_where_its_file_says(
    posed: PosedImages, tmp_path: Path
) -> None:
    utm = torch.tensor([483211.25, 5456789.5, 212.5], dtype=torch.float64)
    poses = matrices(posed)
    for pose in poses:
        pose[:3, 3] += utm.numpy()
    cameras_json.write(tmp_path / "cameras.json", posed.names, pinholes(posed), poses)
    found = read_scene_cameras(tmp_path / "cameras.json")
    expected = (posed.poses.t.double() + utm).float()
    torch.testing.assert_close(found.poses.t, expected, atol=0.5, rtol=0)


def test_frames_are_read_again_from_their_video(tmp_path: Path) -> None:
    levels = np.linspace(20, 220, 12)
    video = tmp_path / "clip.mp4"
    write_video(video, (np.full((48, 64, 3), level, np.uint8) for level in levels))
    lens, poses = Lens("PINHOLE", 64, 48, (60.0, 60.0, 32.0, 24.0)), [np.eye(4), np.eye(4)]
    path = tmp_path / "clip.cameras.json"
    cameras_json.write(path, ["frame_000003.png", "frame_000009.png"], [lens, lens], poses)
    read = load_cameras(path, video, max_side=32)
    assert read.names == ("frame_000003.png", "frame_000009.png")
    assert read.cameras.packed()[0].tolist() == [32, 24, 30, 30, 16, 12]
    for image, level in zip(read.images, levels[[3, 9]], strict=True):
        assert image.shape == (3, 24, 32)
        assert float(image.mean()) * 255 == pytest.approx(level, abs=6)
    with pytest.raises(ValueError, match=r"clip\.mp4: masks are for photos"):
        load_cameras(path, video, masks=MaskSource(tmp_path))
    cameras_json.write(path, ["frame_000012.png"], [lens], poses[:1])
    with pytest.raises(ValueError, match=r"clip\.mp4 has no frame_000012\.png.*another video"):
        load_cameras(path, video)
    cameras_json.write(path, ["house.png"], [lens], poses[:1])
    with pytest.raises(ValueError, match="none of its 1 images exist"):
        load_cameras(path, video)
