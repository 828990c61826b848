"""Own captures: formats, axes, lenses, and the command as a whole."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from splatfactory.datasets import samplers
from splatfactory.datasets.multiview import MultiviewDataset, SampleConfig
from splatfactory.datasets.scripts.custom import convert
from splatfactory.datasets.scripts.custom.convert import scene_key
from splatfactory.datasets.scripts.custom.photos import encode_photo
from splatfactory.datasets.shards import StoredScene
from splatfactory.datasets.store import ShardStore
from splatscenes.interiors import playroom
from splatscenes.scene import GeneratedScene, generate_scene
from zipsplat.camera_estimation import colmap, colmap_model, nerfstudio
from zipsplat.camera_estimation.capture import Capture, Lens, Photo, files_in
from zipsplat.camera_estimation.focal import Focal, noted_focal

SIZE = (60, 80)
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
WriteCapture = Callable[..., Path]


@pytest.fixture(scope="module")
def scene() -> GeneratedScene:
    return generate_scene("example", 0, 0, 4, SIZE, (playroom,))


@pytest.fixture
def write_capture(tmp_path: Path, scene: GeneratedScene) -> WriteCapture:
    """Writes a nerfstudio folder of the generated scene; keywords change transforms.json."""

    def write(name: str = "my capture.1", **changes: Any) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        K, frames = scene.shot.K, []
        for view, pose in enumerate(scene.shot.world_from_camera):
            Image.fromarray(scene.render(view)[0]).save(folder / "images" / f"{view}.png")
            matrix = (pose @ FLIP).tolist()
            frames.append({"file_path": f"images/{view}.png", "transform_matrix": matrix})
        content: dict[str, Any] = {"w": SIZE[1], "h": SIZE[0], "fl_x": K[0, 0], "fl_y": K[1, 1]}
        content |= {"cx": K[0, 2], "cy": K[1, 2], "frames": frames} | changes
        removed = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model")
        content = {k: v for k, v in content.items() if v is not None or k not in removed}
        (folder / "transforms.json").write_text(json.dumps(content))
        return folder

    return write


def _check_poses(stored: StoredScene, scene: GeneratedScene) -> None:
    poses = scene.shot.world_from_camera
    np.testing.assert_allclose(stored.poses[:, :9], poses[:, :3, :3].reshape(-1, 9), atol=1e-6)
    np.testing.assert_allclose(stored.poses[:, 9:], poses[:, :3, 3], atol=1e-5)


def test_a_nerfstudio_folder_becomes_shards(
    write_capture: WriteCapture, scene: GeneratedScene, tmp_path: Path
) -> None:
    folder = write_capture()
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    convert.main([str(folder), "--output-dir", str(tmp_path / "two"), "--num-workers", "2"])
    one, two = (tmp_path / out / "test-scenes/shard-000000.tar" for out in ("out", "two"))
    assert one.read_bytes() == two.read_bytes()
    store = ShardStore(tmp_path / "out" / "test-scenes")
    assert [info.key for info in store.scenes] == ["my-capture-1"]
    stored = store.read(0)
    _check_poses(stored, scene)
    K = scene.shot.K
    expected = [80, 60, K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    np.testing.assert_allclose(stored.cameras, np.tile(expected, (4, 1)), rtol=1e-6)
    assert stored.images[2] == (folder / "images" / "2.png").read_bytes()  # nothing to change
    config = SampleConfig(num_target_views=1, normalize_baseline="max_pairwise_d")
    data = MultiviewDataset("custom", store, samplers.build({"name": "random"}), config)
    assert data.load(0, 2, 1.0, 0).context.images.shape == (2, 3, 60, 60)
    with pytest.raises(ValueError, match="normalize_baseline=max_pairwise_d"):
        MultiviewDataset(
            "custom", store, samplers.build({"name": "random"}), SampleConfig(num_target_views=1)
        )


def test_applied_transform_and_scale_are_undone(
    write_capture: WriteCapture, scene: GeneratedScene
) -> None:
    moved = np.array([[0, 1, 0, 2.0], [0, 0, 1, -1], [1, 0, 0, 3], [0, 0, 0, 1]])
    frames = []
    for view, pose in enumerate(scene.shot.world_from_camera):
        matrix = moved @ pose @ FLIP
        matrix[:3, 3] *= 0.25
        frames.append({"file_path": f"images/{view}.png", "transform_matrix": matrix.tolist()})
    folder = write_capture(frames=frames, applied_transform=moved[:3].tolist(), applied_scale=0.25)
    capture = nerfstudio.read(folder / "transforms.json")
    for photo, pose in zip(capture.photos, scene.shot.world_from_camera, strict=True):
        np.testing.assert_allclose(photo.world_from_camera, pose, atol=1e-9)


def test_intrinsics_of_frames_blender_and_ngp(write_capture: WriteCapture) -> None:
    frames = json.loads((write_capture("a") / "transforms.json").read_text())["frames"]
    frames[1] |= {"fl_x": 77.0, "k1": 0.1, "cx": 41.0}
    frames[2]["file_path"] = "images/2"
    folder = write_capture(
        "b", frames=frames, fl_x=None, fl_y=None, cx=None, cy=None, w=None, h=None,
        camera_angle_x=1.0,
    )  # fmt: skip
    first, second, third, _ = nerfstudio.read(folder / "transforms.json").photos
    focal = 40 / np.tan(0.5)
    assert first.lens == Lens("PINHOLE", 80, 60, (focal, focal, 40, 30))
    assert second.lens.packed == (77, 77, 41, 30)
    assert not first.lens.is_distorted
    assert second.lens.is_distorted
    assert third.path.name == "2.png"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": []}, "has no frames"),
        ({"frames": {"a": 1}}, "has no list `frames`"),
        ({"frames": [{"file_path": "images/0.png"}]}, "has no `transform_matrix`"),
        ({"frames": [{"file_path": "gone.png", "transform_matrix": 0}]}, "none of the 1 images"),
        ({"frames": [{"file_path": "images/0.png", "transform_matrix": [[1]]}]}, "4 x 4 matrix"),
        (
            {
                "frames": [
                    {"file_path": "images/0.png", "transform_matrix": (np.eye(4) * 2).tolist()}
                ]
            },
            "not a rotation and translation",
        ),
        ({"fl_x": None, "fl_y": None}, "no focal length"),
        ({"fl_x": -3.0}, "positive size and focal length"),
        ({"fl_x": "wide"}, "frame 0: could not convert"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR is not supported"),
        ({"applied_scale": 0.0}, "applied_scale must be positive"),
        ({"applied_scale": None}, "applied_scale must be positive"),
        ({"k4": 0.1}, "cannot have k4=0.1"),
        ({"camera_model": "OPENCV_FISHEYE", "p1": 0.1}, "cannot have p1=0.1"),
        ({"latlong": True}, "latlong is not supported"),
    ],
)
def test_faulty_transforms_are_explained(
    write_capture: WriteCapture, changes: dict[str, Any], message: str
) -> None:
    folder = write_capture(**changes)
    with pytest.raises(ValueError, match=message):
        nerfstudio.read(folder / "transforms.json")


@pytest.mark.parametrize(
    "model", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE", None]
)
def test_each_perspective_name_of_nerfstudio_means_opencv(
    write_capture: WriteCapture, model: str | None
) -> None:
    given = {"camera_model": model, "fl_x": 66.0, "fl_y": 67.0, "cx": 41.0, "cy": 29.0}
    bent = write_capture("bent", **given, k1=-0.1, k2=0.02, p1=0.003, p2=0.004)
    focal_and_center = (66.0, 67.0, 41.0, 29.0)
    lens = nerfstudio.read(bent / "transforms.json").photos[0].lens
    assert lens == Lens("OPENCV", 80, 60, (*focal_and_center, -0.1, 0.02, 0.003, 0.004))
    more = write_capture("more", **given, k1=-0.1, k3=0.05)
    lens = nerfstudio.read(more / "transforms.json").photos[0].lens
    full = (-0.1, 0.0, 0.0, 0.0, 0.05, 0.0, 0.0, 0.0)
    assert lens == Lens("FULL_OPENCV", 80, 60, (*focal_and_center, *full))
    straight = write_capture("straight", **given, k1=0.0)
    lens = nerfstudio.read(straight / "transforms.json").photos[0].lens
    assert lens == Lens("PINHOLE", 80, 60, focal_and_center)


@pytest.mark.parametrize("changes", [{"is_fisheye": True}, {"camera_model": "OPENCV_FISHEYE"}])
def test_fisheye_lenses_of_instant_ngp_and_nerfstudio(
    write_capture: WriteCapture, changes: dict[str, Any]
) -> None:
    folder = write_capture(**changes, fl_x=66.0, fl_y=67.0, cx=41.0, cy=29.0, k1=0.1, k4=0.04)
    lens = nerfstudio.read(folder / "transforms.json").photos[0].lens
    params = (66.0, 67.0, 41.0, 29.0, 0.1, 0.0, 0.0, 0.04)
    assert lens == Lens("OPENCV_FISHEYE", 80, 60, params)


def test_both_angles_of_view_give_focal_lengths(write_capture: WriteCapture) -> None:
    fx, fy = 40 / np.tan(0.5), 30 / np.tan(0.3)
    unknown = {"fl_x": None, "fl_y": None}
    for name, angles, expected in (
        ("both", {"camera_angle_x": 1.0, "camera_angle_y": 0.6}, (fx, fy)),
        ("y", {"camera_angle_y": 0.6}, (fy, fy)),
        ("mixed", {"fl_x": 50.0, "camera_angle_y": 0.6}, (50.0, fy)),
    ):
        folder = write_capture(name, **(unknown | angles))
        lens = nerfstudio.read(folder / "transforms.json").photos[0].lens
        assert lens.packed[:2] == pytest.approx(expected)


def test_frames_are_sorted_by_file_name(write_capture: WriteCapture, scene: GeneratedScene) -> None:
    folder = write_capture()
    content = json.loads((folder / "transforms.json").read_text())
    content["frames"] = [content["frames"][view] for view in (3, 0, 2, 1)]
    (folder / "images" / "3.png").rename(folder / "images" / "10.png")
    content["frames"][0]["file_path"] = "images/10.png"
    (folder / "transforms.json").write_text(json.dumps(content))
    photos = nerfstudio.read(folder / "transforms.json").photos
    assert [photo.path.name for photo in photos] == ["0.png", "1.png", "2.png", "10.png"]
    for photo, pose in zip(photos, scene.shot.world_from_camera, strict=True):
        np.testing.assert_allclose(photo.world_from_camera, pose, atol=1e-9)


UTM = np.array([483211.3, 5456789.7, 212.4])


def test_geo_referenced_poses_keep_their_distances(
    write_capture: WriteCapture,
    scene: GeneratedScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Half a metre is a step of float32 at northings of UTM; distances must be exact anyway."""
    frames = []
    for view, pose in enumerate(scene.shot.world_from_camera):
        matrix = pose @ FLIP
        matrix[:3, 3] += UTM
        frames.append({"file_path": f"images/{view}.png", "transform_matrix": matrix.tolist()})
    folder = write_capture("utm", frames=frames)
    capture = nerfstudio.read(folder / "transforms.json")
    centers = scene.shot.world_from_camera[:, :3, 3]
    np.testing.assert_allclose(capture.origin, UTM + centers[0], atol=1e-6)
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    assert "became the origin" in capsys.readouterr().err
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    np.testing.assert_allclose(stored.poses[:, 9:], centers - centers[0], atol=1e-6)
    near = nerfstudio.read(write_capture("near") / "transforms.json")
    assert not near.origin.any()


def test_one_name_of_two_captures_is_an_error(
    write_capture: WriteCapture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output-dir", str(tmp_path / "out")]
    one, two = (write_capture(f"site{letter}/images_undistorted") for letter in "AB")
    assert convert.main([str(one), *out]) == 0
    assert convert.main([str(two), *out]) == 1
    assert "images_undistorted exists already, made from ../../siteA/" in capsys.readouterr().err
    assert convert.main([str(one), str(one), *out]) == 0  # the same capture twice is one scene
    assert convert.main([str(one), str(two), "--output-dir", str(tmp_path / "both")]) == 1
    assert len(ShardStore(tmp_path / "both" / "test-scenes").scenes) == 1


def test_blender_scenes_have_the_names_of_their_folders(
    write_capture: WriteCapture, tmp_path: Path
) -> None:
    inputs = []
    for name in ("lego", "chair"):
        file = write_capture(name) / "transforms.json"
        inputs.append(str(file.rename(file.with_name("transforms_train.json"))))
    assert convert.main([*inputs, "--output-dir", str(tmp_path / "out")]) == 0
    store = ShardStore(tmp_path / "out" / "test-scenes")
    assert [info.key for info in store.scenes] == ["lego", "chair"]


def test_whatever_an_input_raises_the_others_are_converted(
    write_capture: WriteCapture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, bad, last = (write_capture(name) for name in ("first", "bad", "last"))
    read = nerfstudio.read

    def failing(path: Path) -> Any:
        if path.parent == bad:
            raise IndexError("Rig with ID 1 does not exist")
        return read(path)

    monkeypatch.setattr(nerfstudio, "read", failing)
    out = tmp_path / "out"
    assert convert.main([str(first), str(bad), str(last), "--output-dir", str(out)]) == 1
    store = ShardStore(out / "test-scenes")
    assert [info.key for info in store.scenes] == ["first", "last"]
    failures = json.loads((out / "test-scenes" / "manifest.json").read_text())["failures"]
    assert failures == {"Rig with ID 1 does not exist": [str(bad)]}


def test_a_damaged_photo_is_left_out_with_a_note(
    write_capture: WriteCapture,
    scene: GeneratedScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_capture("house")
    photo = folder / "images" / "1.png"
    photo.write_bytes(photo.read_bytes()[:200])
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    assert "skipped 1.png" in capsys.readouterr().err
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    kept = scene.shot.world_from_camera[[0, 2, 3]]
    np.testing.assert_allclose(stored.poses[:, 9:], kept[:, :3, 3], atol=1e-5)
    for view in (0, 2, 3):
        (folder / "images" / f"{view}.png").write_bytes(b"no image")
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "none")]) == 1
    assert "no photo is usable; skipped 0.png" in capsys.readouterr().err


def test_the_larger_of_separate_models_is_read(
    write_capture: WriteCapture,
    scene: GeneratedScene,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_capture("house")
    (folder / "transforms.json").unlink()
    _write_colmap_text(folder, scene)
    sparse = folder / "sparse"
    (sparse / "0").rename(sparse / "1")
    assert colmap_model.find_model(folder) == sparse / "1"  # alone, too
    whole = colmap_model.read_model(sparse / "1")
    part = dict(list(whole.images.items())[:2])
    colmap_model.write_model(sparse / "0", replace(whole, images=part))
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    note = "model 1 (4 images) is used, not the separate 0 (2 images)"
    assert note in capsys.readouterr().err
    assert ShardStore(tmp_path / "out" / "test-scenes").scenes[0].num_views == 4


def test_one_bad_input_spares_the_others(
    write_capture: WriteCapture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_capture("good")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{")
    out = tmp_path / "out"
    inputs = [str(tmp_path / name) for name in ("empty", "broken.json", "missing")]
    assert convert.main([*inputs, str(good), "--output-dir", str(out), "--split", "train"]) == 1
    said = capsys.readouterr().err
    for part in ("holds no images", "not valid JSON", "does not exist", "max_pairwise_d"):
        assert part in said
    manifest = json.loads((out / "train-scenes" / "manifest.json").read_text())
    assert sum(map(len, manifest["failures"].values())) == 3
    assert [info.key for info in ShardStore(out / "train-scenes").scenes] == ["good"]
    assert not list((out / "train-scenes").glob(".work*"))
    # A second run keeps what is there and adds what is new.
    other = write_capture("other")
    again = ["--output-dir", str(out), "--split", "train"]
    assert convert.main([str(good), str(other), *again]) == 0
    assert len(ShardStore(out / "train-scenes").scenes) == 2


def test_nothing_is_advised_about_shards_that_do_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.main([str(tmp_path / "missing"), "--output-dir", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "does not exist" in said
    assert "max_pairwise_d" not in said


def _decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _photo(path: Path, lens: Lens, pixels: np.ndarray, **options: Any) -> Photo:
    Image.fromarray(pixels).save(path, **options)
    return Photo(path, lens, np.eye(4))


def test_principal_points_move_to_the_middle(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    photo = _photo(tmp_path / "a.png", Lens("PINHOLE", 80, 60, (70, 71, 37, 33)), pixels)
    data, row = encode_photo(photo, None)
    np.testing.assert_allclose(row, [74, 54, 70, 71, 37, 27])
    np.testing.assert_array_equal(_decoded(data), pixels[6:60, 0:74])
    far = _photo(tmp_path / "b.png", Lens("PINHOLE", 80, 60, (70, 70, 5, 30)), pixels)
    with pytest.raises(ValueError, match="far from the centre"):
        encode_photo(far, None)


def test_large_photos_shrink_with_their_lens(tmp_path: Path) -> None:
    pixels = np.full((60, 80, 3), 90, dtype=np.uint8)
    photo = _photo(tmp_path / "a.png", Lens("PINHOLE", 160, 120, (140, 140, 80, 60)), pixels)
    data, row = encode_photo(photo, 40)
    np.testing.assert_allclose(row, [40, 30, 35, 35, 20, 15])
    assert _decoded(data).shape == (30, 40, 3)
    wrong = Photo(photo.path, Lens("PINHOLE", 100, 100, (90, 90, 50, 50)), np.eye(4))
    with pytest.raises(ValueError, match="has 80 x 60 pixels, its camera 100 x 100"):
        encode_photo(wrong, None)


def test_turned_photos_follow_the_shape_of_their_lens(tmp_path: Path) -> None:
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[:, :40] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    path = tmp_path / "a.png"
    stored = _photo(path, Lens("PINHOLE", 80, 60, (70, 70, 40, 30)), pixels, exif=exif)
    np.testing.assert_array_equal(_decoded(encode_photo(stored, None)[0]), pixels)
    shown = Photo(path, Lens("PINHOLE", 60, 80, (70, 70, 30, 40)), np.eye(4))
    data, row = encode_photo(shown, None)
    np.testing.assert_array_equal(_decoded(data), np.rot90(pixels, -1))
    np.testing.assert_allclose(row[:2], [60, 80])


def test_focal_length_is_read_from_the_notes_of_photos(tmp_path: Path) -> None:
    for focal, expected in ((27, Focal(0.75)), (50, Focal(50 / 36)), (0, Focal()), (1, Focal())):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = focal
        Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
        assert noted_focal(tmp_path / "a.jpg") == expected
    (tmp_path / "text.jpg").write_text("no image")
    assert noted_focal(tmp_path / "text.jpg") == Focal()
    assert Focal.from_35mm(24) == Focal(2 / 3, is_certain=True)
    with pytest.raises(ValueError, match="between 5 and 2000 mm, got 0"):
        Focal.from_35mm(0)


def test_names() -> None:
    assert scene_key(Path("/photos/My trip (2).v1")) == "My-trip-2"
    assert scene_key(Path("/photos/house/transforms.json")) == "house"


def test_a_missing_package_is_named(
    write_capture: WriteCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycolmap", None)
    with pytest.raises(ImportError, match="pip install 'pycolmap"):
        colmap.require()


def test_too_few_photos_for_poses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{number}.png")
    assert convert.main([str(tmp_path), "--output-dir", str(tmp_path / "out")]) == 1
    assert "at least 3 photos, got 2" in capsys.readouterr().err


def _write_colmap_text(folder: Path, scene: GeneratedScene) -> None:
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    K, lines = scene.shot.K, []
    for view, pose in enumerate(scene.shot.world_from_camera):
        inverse = np.linalg.inv(pose)
        r, t = inverse[:3, :3], inverse[:3, 3]
        w = 0.5 * np.sqrt(max(1 + np.trace(r), 1e-12))
        q = [w, *(np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / (4 * w))]
        # Registered in another order than the names.
        values = " ".join(repr(float(value)) for value in (*q, *t))
        lines.append(f"{9 - view} {values} 1 {view}.png\n\n")
    (model / "images.txt").write_text("".join(lines))
    camera = f"1 PINHOLE 80 60 {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}\n"
    (model / "cameras.txt").write_text(camera)
    (model / "points3D.txt").write_text("")


def test_a_colmap_folder_becomes_shards(
    write_capture: WriteCapture, scene: GeneratedScene, tmp_path: Path
) -> None:
    folder = write_capture("house")
    (folder / "transforms.json").unlink()
    _write_colmap_text(folder, scene)
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    _check_poses(stored, scene)
    assert stored.images[1] == (folder / "images" / "1.png").read_bytes()


def test_a_damaged_colmap_model_is_named(
    write_capture: WriteCapture, scene: GeneratedScene
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    folder = write_capture("house")
    _write_colmap_text(folder, scene)
    model = folder / "sparse" / "0"
    pycolmap.Reconstruction(str(model)).write_binary(str(model))
    for file in model.glob("*.txt"):
        file.unlink()
    assert colmap_model.find_model(folder) == model
    assert len(colmap_model.read(model, files_in([folder / "images"])).photos) == 4
    images = model / "images.bin"
    images.write_bytes(images.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"images\.bin is cut off"):
        colmap_model.read(model, files_in([folder / "images"]))


def test_distortion_is_taken_out(tmp_path: Path) -> None:
    """An image is bent by the lens model and must come back straight."""
    pycolmap = pytest.importorskip("pycolmap")
    scene = generate_scene("example", 0, 1, 2, (120, 160), (playroom,))
    straight = np.asarray(Image.fromarray(scene.render(0)[0]).filter(ImageFilter.GaussianBlur(2)))
    focal = 100.0  # of the bent lens; where the image comes from does not matter
    lens = Lens("OPENCV", 160, 120, (focal, focal, 80, 60, -0.2, 0.02, 0.0, 0.0))
    camera = pycolmap.Camera(model="OPENCV", width=160, height=120, params=list(lens.params))
    v, u = np.mgrid[:120, :160] + 0.5
    rays = camera.cam_from_img(np.stack([u, v], -1).reshape(-1, 2))
    x = (rays[:, 0] * focal + 80 - 0.5).reshape(120, 160)
    y = (rays[:, 1] * focal + 60 - 0.5).reshape(120, 160)
    bent = straight[y.round().astype(int).clip(0, 119), x.round().astype(int).clip(0, 159)]
    photo = _photo(tmp_path / "bent.png", lens, bent)
    data, row = encode_photo(photo, None)
    result = _decoded(data).astype(int)
    width, height, fx, fy, cx, cy = row
    assert abs(cx - width / 2) < 1
    assert abs(cy - height / 2) < 1
    v, u = np.mgrid[: int(height), : int(width)] + 0.5
    x = ((u - cx) / fx * focal + 80 - 0.5).round().astype(int)
    y = ((v - cy) / fy * focal + 60 - 0.5).round().astype(int)
    inside = (x > 12) & (x < 147) & (y > 9) & (y < 110)  # nothing was lost there by bending
    gap = np.abs(result[inside] - straight[y[inside], x[inside]]).mean()
    unbent = np.abs(bent.astype(int) - straight)[10:110, 12:147].mean()
    assert gap < 0.4 * unbent


@pytest.mark.slow
def test_photos_alone_get_poses(tmp_path: Path) -> None:
    """Structure from motion finds the cameras of a generated scene, up to a similarity."""
    pytest.importorskip("pycolmap")
    scene = generate_scene("example", 0, 5, 12, (240, 320), (playroom,))
    folder = tmp_path / "photos"
    folder.mkdir()
    for view in range(12):
        Image.fromarray(scene.render(view)[0]).save(folder / f"{view}.jpg", quality=95)
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    assert stored.num_views >= 10
    rotations = stored.poses[:, :9].reshape(-1, 3, 3)
    true = scene.shot.world_from_camera[: len(rotations), :3, :3]
    if len(rotations) == 12:
        relative = rotations[0].T @ rotations[-1]
        expected = true[0].T @ true[-1]
        cosine = (np.trace(relative.T @ expected) - 1) / 2
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))) < 1.5
    np.testing.assert_allclose(stored.cameras[0, 2], scene.shot.K[0, 0], rtol=0.1)


def test_damaged_photos_without_poses_are_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (60 * number, 0, 0)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"\x89PNG nonsense")

    def solved(files: list[Path], focals: list[Focal], **_: Any) -> Capture:
        """As if structure from motion had placed them all."""
        lens = Lens("PINHOLE", 16, 16, (16, 16, 8, 8))
        assert len(files) == len(focals) == 3
        return Capture(tuple(Photo(file, lens, np.eye(4)) for file in files))

    monkeypatch.setattr(convert, "_estimated", lambda files, focals, *_: solved(files, focals))
    assert convert.main([str(folder), "--output-dir", str(tmp_path / "out")]) == 0
    assert "skipped 2.png" in capsys.readouterr().err
    stored = ShardStore(tmp_path / "out" / "test-scenes").read(0)
    assert [int(_decoded(data)[0, 0, 0]) for data in stored.images] == [0, 60, 180]
