from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets import depth_codec, frames, resizing
from splatfactory.datasets.frames import ArrayFrame, EncodedFrame, FrameError
from splatfactory.datasets.store import ShardStore

AS_STORED = {"resize": None, "edge_divisible_by": None}
CONFIGS = ("sq56", "ar150", "ar075", "lanczos", "area", "noresize", "up168")


@pytest.mark.parametrize("name", CONFIGS)
def test_images_depths_and_cameras_are_the_golden_ones(golden, golden_shards, name):
    options = json.loads((golden / "expected" / "preprocess_configs.json").read_text())[name]
    config = PreprocessingConfig(**(AS_STORED | options["preprocessing"]))
    if config.resize_method == "cv2_inter_area":
        pytest.importorskip("cv2")
    with np.load(golden / "expected" / "preprocess.npz") as arrays:
        expected = {key: arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
    stores = [ShardStore(golden_shards / split) for split in ("train-scenes", "test-scenes")]
    places = {info.key: (s, n) for s in stores for n, info in enumerate(s.scenes)}
    for prefix in sorted({key.rsplit("/", 1)[0] for key in expected}):
        _, key, view = prefix.split("/")
        store, scene = places[key]
        frame = store.frames(scene, [int(view)])[0]
        geometry = resizing.plan(frame.size, options["aspect_ratio"], config)
        image = resizing.apply(frame, geometry, config.resize_method)
        error = np.abs(image.transpose(2, 0, 1).astype(int) - expected[f"{prefix}/image_u8"])
        assert error.max() <= 2
        assert error.mean() <= 0.6
        depth = frame.sample_depth(*geometry.nearest)
        if depth is None:
            depth = np.full(image.shape[:2], -1, np.float32)
        np.testing.assert_allclose(depth, expected[f"{prefix}/depth"], rtol=1e-5)
        np.testing.assert_array_equal(depth > 0, expected[f"{prefix}/mask"])
        np.testing.assert_allclose(geometry.transform, expected[f"{prefix}/transform"], rtol=1e-6)
        camera = geometry.camera(store.cameras(scene)[int(view)])
        np.testing.assert_allclose(camera, expected[f"{prefix}/camera"], atol=1e-3)


def test_cropping_first_changes_nothing():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(side) for side in rng.integers(20, 200, 2))
        config = PreprocessingConfig(int(rng.integers(16, 150)), int(rng.integers(1, 8)))
        geometry = resizing.plan((height, width), float(rng.uniform(0.5, 2)), config)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = resizing.apply(ArrayFrame(pixels), geometry, "torch_bilinear_aa")
        whole = pixels
        if geometry.resized != geometry.source:
            tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            whole = functional.interpolate(
                tensor, size=geometry.resized, mode="bilinear", antialias=True
            )
            whole = whole[0].permute(1, 2, 0).numpy()
        box = geometry.box
        expected = whole[box.top : box.top + box.height, box.left : box.left + box.width]
        # The fixed-point weights of the kernel depend, in the last bit, on the length of an axis.
        assert np.abs(image.astype(int) - expected).max() <= 1


def test_sizes_of_the_training_configuration():
    geometry = resizing.plan((360, 640), 1.0, PreprocessingConfig(252, 14))
    assert geometry.resized == (252, 448)
    assert geometry.box == (0, 98, 252, 252)


def test_camera_follows_the_pixels():
    """A point keeps its place in the image: project before and after, compare."""
    config = PreprocessingConfig(50, 14)
    geometry = resizing.plan((90, 131), 1.4, config)
    row = np.array([131, 90, 100, 110, 60, 44], np.float32)
    new = geometry.camera(row)
    point = np.array([0.1, -0.2])
    old_pixel = point * row[2:4] + row[4:6]
    new_pixel = geometry.transform @ [*old_pixel, 1]
    np.testing.assert_allclose(point * new[2:4] + new[4:6], new_pixel[:2], rtol=1e-5)
    assert tuple(new[:2]) == (geometry.box.width, geometry.box.height)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 0}, "resize must be positive"),
        ({"edge_divisible_by": -1}, "edge_divisible_by must be positive"),
        ({"resize_method": "nearest"}, "must be one of torch_bilinear_aa"),
    ],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        PreprocessingConfig(**options)


def test_images_that_vanish_are_refused():
    with pytest.raises(ValueError, match="leaves nothing"):
        resizing.plan((10, 10), 1.0, PreprocessingConfig(None, 14))


@pytest.mark.parametrize("keep", [0, 10, 200])
def test_damaged_images_and_depths_are_named(make_scene, keep):
    scene = make_scene("a")
    with pytest.raises(FrameError, match="the image cannot be decoded"):
        EncodedFrame(scene.images[0][:keep]).crop(0, 0, 24, 32)
    broken = type(scene.depths[0])(scene.depths[0].data[:keep], 1.0, 2.0)
    with pytest.raises(FrameError, match="the depth map cannot be decoded"):
        EncodedFrame(scene.images[0], broken).sample_depth(np.arange(2), np.arange(2))


def test_errors_name_no_python_objects(make_scene):
    scene = make_scene("a")
    with pytest.raises(FrameError, match=r"its format is unknown$"):
        EncodedFrame(b"x" * 500).crop(0, 0, 24, 32)
    broken = type(scene.depths[0])(b"x" * 500, 1.0, 2.0)
    with pytest.raises(FrameError) as caught:
        EncodedFrame(scene.images[0], broken).sample_depth(np.arange(2), np.arange(2))
    assert " object at 0x" not in str(caught.value)


@pytest.mark.parametrize("size", [(12, 32), (24, 30), (12, 64), (48, 16)])
def test_depth_of_another_size_is_refused(make_scene, size):
    other = make_scene("b", height=size[0], width=size[1])
    frame = EncodedFrame(make_scene("a").images[0], other.depths[0])
    with pytest.raises(FrameError, match="the depth map"):
        frame.sample_depth(np.arange(24), np.arange(32))


def test_both_decoders_give_the_same_pixels(golden, golden_shards, monkeypatch):
    pytest.importorskip("cv2")
    for split in ("train-scenes", "test-scenes"):
        store = ShardStore(golden_shards / split)
        for number in range(len(store.scenes)):
            frame = store.frames(number, [0])[0]
            fast = frames.decode_pixels(frame.data)
            codes = frame.depth and depth_codec.decode_codes(frame.depth.data)
            with monkeypatch.context() as patch:
                patch.setattr(depth_codec, "opencv", lambda: None)
                plain = frames.decode_pixels(frame.data)
                plain_codes = frame.depth and depth_codec.decode_codes(frame.depth.data)
            assert fast.shape == plain.shape
            # The two may come with JPEG libraries of different versions.
            assert np.abs(fast.astype(int) - plain).max() <= 2
            np.testing.assert_array_equal(codes, plain_codes)


@pytest.mark.parametrize("with_opencv", [True, False])
def test_orientation_notes_are_ignored_and_cut_off_images_noticed(monkeypatch, with_opencv):
    if with_opencv:
        pytest.importorskip("cv2")
    else:
        monkeypatch.setattr(depth_codec, "opencv", lambda: None)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 64, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "WEBP", "PNG"):
        buffer = io.BytesIO()
        image.save(buffer, kind, exif=exif)
        assert frames.decode_pixels(buffer.getvalue()).shape == (40, 64, 3)
        with pytest.raises((OSError, ValueError, SyntaxError)):
            frames.decode_pixels(buffer.getvalue()[:-200])
    for mode in ("L", "RGBA"):
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, "PNG")
        assert frames.decode_pixels(buffer.getvalue()).shape == (40, 64, 3)
