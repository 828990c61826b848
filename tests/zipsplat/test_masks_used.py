"""Masks from the command line and the public functions down to what comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.zipsplat.depth.test_unprojection import wall
from tests.zipsplat.refinement.small_scene import disturbed, photos_of, small_scene
from tests.zipsplat.tiny_network import tiny_network
from zipsplat import ZipSplat, weights
from zipsplat.camera_estimation import estimate_cameras, load_cameras
from zipsplat.camera_estimation.capture import Lens
from zipsplat.camera_estimation.colmap import undistort
from zipsplat.camera_estimation.write import write_cameras_json
from zipsplat.cli import main
from zipsplat.depth.unprojection import points_of
from zipsplat.figures import to_pixels
from zipsplat.images import load_image
from zipsplat.inputs import load_masked_views
from zipsplat.masks import MaskSource
from zipsplat.model.untrained import untrained_network

ASSETS = Path(__file__).parents[2] / "assets" / "examples"
OFFICE = [ASSETS / "office" / f"{number:02d}.png" for number in range(1, 7)]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    """Nine photos of the small scene, half of each white; masks of the other half; cameras."""
    posed = photos_of(small_scene(), 9)
    for name in ("photos", "painted", "masks"):
        (tmp_path / name).mkdir()
    for name, image in zip(posed.names, posed.images, strict=True):
        pixels = to_pixels(image)
        mask = np.full(pixels.shape[:2], 255, np.uint8)
        mask[:, 16:] = 0
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
        Image.fromarray(mask).save(tmp_path / "masks" / name)
        pixels = pixels.copy()
        pixels[:, 16:] = 255
        Image.fromarray(pixels).save(tmp_path / "painted" / name)
    write_cameras_json(tmp_path / "cameras.json", posed)
    disturbed(small_scene()).save(tmp_path / "scene.ply")
    return tmp_path


def refined(folder: Path, capsys, photos: str, *more: object) -> dict:
    options = ("-o", folder / f"{photos}.ply", "--time", "1steps", "--json", "--overwrite")
    assert run("refine", folder / "scene.ply", folder / photos, *options, *more) == 0
    return json.loads(capsys.readouterr().out)["refinement"]


def test_refine_does_not_score_what_is_masked(painted, capsys):
    masks = ("--masks", painted / "masks")
    seen = refined(painted, capsys, "photos", *masks)["psnr_before"]
    assert refined(painted, capsys, "painted", *masks)["psnr_before"] == seen
    assert refined(painted, capsys, "painted")["psnr_before"] < seen - 5
    inverted = refined(painted, capsys, "painted", *masks, "--invert-masks")["psnr_before"]
    assert inverted > 90  # white alone, to which the colours of the drawing are corrected


def test_refine_takes_the_alpha_of_photos(painted, capsys):
    masked = refined(painted, capsys, "photos", "--masks", painted / "masks")["psnr_before"]
    for path in (painted / "photos").iterdir():
        mask = Image.open(painted / "masks" / path.name)
        photo = Image.open(path).convert("RGB")
        photo.putalpha(mask)
        photo.save(path)
    by_alpha = refined(painted, capsys, "photos", "--masks", "alpha")["psnr_before"]
    assert by_alpha == masked


def test_reconstruct_with_refinement_takes_masks(painted, capsys):
    options = ("--cameras", painted / "cameras.json", "--refine", "2steps", "--json")
    out = painted / "out.ply"
    masks = ("--masks", painted / "masks")
    assert run("reconstruct", painted / "painted", "-o", out, *options, *masks) == 0
    assert json.loads(capsys.readouterr().out)["views"] == 9


@pytest.mark.parametrize("refine", [False, True])
def test_mistakes_are_reported_before_any_work(painted, capsys, refine):
    def error_of(*more: object) -> str:
        options = ("refine", painted / "scene.ply") if refine else ("reconstruct",)
        assert run(*options, *more, "-o", painted / "out.ply") == 1
        return capsys.readouterr().err

    photos = painted / "photos"
    assert "--invert-masks needs --masks" in error_of(photos, "--invert-masks")
    assert "a folder or 'alpha'" in error_of(photos, "--masks", painted / "nowhere")
    video = ASSETS / "drone.mp4"
    assert "masks are for photos, not for a video" in error_of(video, "--masks", painted / "masks")


def test_reconstruct_makes_nothing_of_masked_patches(tmp_path, capsys):
    """Two photos of 4 x 4 patches; the masks leave 8 and 4 of them."""
    checkpoint, network = tmp_path / "tiny.safetensors", untrained_network()
    weights.save(checkpoint, network.state_dict(), network.config.to_conf())
    (tmp_path / "masks").mkdir()
    photos = []
    for number, kept in enumerate((28, 14)):
        photo = tmp_path / f"{number}.png"
        Image.effect_noise((56, 56), 80).convert("RGB").save(photo)
        mask = np.zeros((56, 56), np.uint8)
        mask[:, :kept] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        photos.append(photo)
    options = ("--weights", checkpoint, "--image-size", 56, "--device", "cpu", "--json")
    counts = []
    for more in ((), ("--masks", tmp_path / "masks")):
        out = tmp_path / f"{len(more)}.ply"
        assert run("reconstruct", *photos, "-o", out, *options, *more) == 0
        counts.append(json.loads(capsys.readouterr().out)["gaussians"])
    per_token = network.config.gaussians_per_token
    assert counts == [32 * per_token, 12 * per_token]


def test_masks_of_a_forward_pass():
    model = ZipSplat.from_network(tiny_network(), device="cpu", image_size=28)
    images = list(torch.rand(3, 3, 40, 50))
    everything = [torch.ones(40, 50, dtype=torch.bool) for _ in images]
    plain = model(images)
    assert torch.equal(model(images, masks=everything).packed(), plain.packed())
    part = [mask.clone() for mask in everything]
    part[1][:] = False
    fewer = model(images, masks=part)
    assert fewer.num_gaussians == plain.num_gaussians * 2 // 3
    half = model(images, masks=part, compression=0.5)
    assert half.num_gaussians == fewer.num_gaussians // 2
    with pytest.raises(ValueError, match="masks cover all"):
        model(images, masks=[~mask for mask in everything])
    with pytest.raises(ValueError, match="sizes of the images"):
        model(images, masks=everything[:2])
    with pytest.raises(ValueError, match="one scene at a time, got 2"):
        model(torch.rand(2, 3, 3, 28, 28), masks=everything)


def test_depth_of_masked_pixels_is_not_unprojected():
    maps = wall(num_views=1)
    mask = torch.ones(maps.depth.shape[1:], dtype=torch.bool)
    mask[:, :10] = False
    assert len(points_of(maps, 1.0, [mask]).positions) == int(mask.sum())
    left = points_of(maps).positions[:, 0].min()
    assert points_of(maps, 1.0, [mask]).positions[:, 0].min() > left
    # A mask of the image, which is twice the size of the map and cropped to its right part.
    camera = maps.cameras
    given = replace(camera, size=camera.size * 2 + 8, f=camera.f * 2, c=camera.c * 2 + 8)
    wide = torch.ones(56, 72, dtype=torch.bool)
    wide[:, : 8 + 20] = False
    shifted = replace(maps, input_cameras=given)
    again = points_of(shifted, 1.0, [wide])
    assert torch.equal(again.positions, points_of(maps, 1.0, [mask]).positions)


def test_views_keep_their_masks_where_a_photo_is_left_out(tmp_path):
    (tmp_path / "masks").mkdir()
    for number in range(3):
        photo = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 20 + number)).save(photo)
        mask = np.zeros((20 + number, 40), np.uint8)
        mask[: number + 1] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / photo.name)
    (tmp_path / "1.png").write_bytes(b"damaged")
    views = load_masked_views(tmp_path, MaskSource(tmp_path / "masks"), skip_bad=True)
    assert [int(mask.sum()) for mask in views.masks] == [40, 120]
    assert [image.shape[1] for image in views.images] == [20, 22]
    assert load_masked_views(tmp_path, None, skip_bad=True).masks is None


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_masks_follow_photos_that_exif_turns_and_lenses_bend(tmp_path, orientation):
    """Cameras of the stored pixels: the mask of the bright part comes out on the bright part."""
    pytest.importorskip("pycolmap")
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[10:30, 15:50] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "masks").mkdir()
    upright = load_image(tmp_path / "a.png")
    Image.fromarray((upright[0] * 255).byte().numpy()).save(tmp_path / "masks" / "a.png")
    lens = {"fl_x": 60.0, "fl_y": 60.0, "cx": 40.0, "cy": 30.0, "w": 80, "h": 60, "k1": -0.2}
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist(), **lens}
    content = {"camera_model": "OPENCV", "k2": 0.0, "p1": 0.0, "p2": 0.0, "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    posed = load_cameras(tmp_path / "transforms.json", masks=MaskSource(tmp_path / "masks"))
    bright = posed.images[0][0]
    mask = posed.masks[0]
    assert bright[mask].min() > 0.99
    assert 0.85 < int(mask.sum()) / int((bright > 0.5).sum()) <= 1
    bent, _ = undistort(pixels, Lens("SIMPLE_RADIAL", 80, 60, (60.0, 40.0, 30.0, -0.2)))
    assert abs(int((bright > 0.5).sum()) / (bent[..., 0] > 127).sum() - 1) < 0.02


def test_no_features_are_found_where_photos_are_masked(tmp_path):
    pytest.importorskip("pycolmap")
    height, width = load_image(OFFICE[0]).shape[1:]
    mask = np.full((height, width), 255, np.uint8)
    mask[:, : width // 3] = 0
    for path in OFFICE:
        Image.fromarray(mask).save(tmp_path / path.name)
    found = estimate_cameras(OFFICE, num_threads=1, masks=MaskSource(tmp_path)).images
    points = found.points
    assert points is not None
    assert len(points) > 50
    assert points.pixels[:, 0].min() >= width // 3 - 2
    assert all(float(one.float().mean()) == pytest.approx(2 / 3, abs=0.02) for one in found.masks)
    assert found.masks[0].shape == found.images[0].shape[1:]


def test_masks_of_tensors_are_tensors_and_of_files_files(tmp_path):
    images = list(torch.rand(2, 3, 80, 80))
    masks = [torch.ones(80, 80, dtype=torch.bool)] * 2
    with pytest.raises(TypeError, match="need masks as tensors"):
        estimate_cameras(images, masks=MaskSource(tmp_path))
    with pytest.raises(TypeError, match="files need a MaskSource"):
        estimate_cameras(OFFICE[:2], masks=masks)
