"""The promised lines of Python run as they are written, here on a small untrained network."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zipsplat.weights
from zipsplat import Camera, Gaussians, Pose, ZipSplat, load_image, load_video, viz
from zipsplat.model.untrained import untrained_network
from zipsplat.video import video_info

ROOT = Path(__file__).parents[2]
TOKENS = 18 * 18  # of one image at 252 px
GROUP = 32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network = untrained_network()
    zipsplat.weights.save(path, network.state_dict(), network.config.to_conf())
    return path


@pytest.fixture
def model(checkpoint, monkeypatch) -> ZipSplat:
    """`ZipSplat(weights="zipsplat").cuda().eval()`, with the download and the GPU stood in for."""
    monkeypatch.setattr(zipsplat.weights, "locate", lambda _: checkpoint)
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.nn.Module, "cuda", lambda self: self)
    return ZipSplat(weights="zipsplat").cuda().eval()


@pytest.fixture
def paths() -> list[Path]:
    return sorted((ROOT / "assets" / "examples" / "office").glob("*.png"))[:2]


def test_minimal_example(model, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(viz.turntable.__kwdefaults__, "render_size", 32)
    monkeypatch.setitem(viz.turntable.__kwdefaults__, "num_frames", 4)
    images = [load_image(p) for p in paths]
    gaussians = model(images)[0]
    assert isinstance(gaussians, Gaussians)
    assert gaussians.num_gaussians == 2 * TOKENS * GROUP

    camera = Camera.from_fov(math.radians(60), w=512, h=512)
    pose = Pose.from_Rt(torch.eye(3), torch.zeros(3))
    rgb, info = gaussians.render(camera, pose)
    assert rgb.shape == (1, 3, 512, 512)
    assert info["alphas"].shape == (1, 1, 512, 512)

    gaussians.save_ply("scene.ply")
    assert Gaussians.load("scene.ply").num_gaussians == gaussians.num_gaussians
    viz.turntable(gaussians, "turntable.mp4", sweep_deg=None)
    viz.turntable(gaussians, "orbit.mp4")
    for name in ("turntable.mp4", "orbit.mp4"):
        assert video_info(name).num_frames == 4


def test_a_single_image(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    gaussians = model([load_image("photo.jpg")])[0]
    assert gaussians.num_gaussians == TOKENS * GROUP


def test_a_video_clip(model, monkeypatch):
    monkeypatch.chdir(ROOT)
    frames = load_video("assets/examples/drone.mp4", num_frames=24)
    assert len(frames) == 24
    gaussians = model(frames[:3])[0]
    assert gaussians.num_gaussians == 3 * TOKENS * GROUP


def test_compression(model, paths):
    images = [load_image(p) for p in paths]
    full = model(images, compression=1.0)
    quarter = model(images, compression=0.25)
    assert quarter.num_gaussians * 4 == full.num_gaussians
    assert quarter.shape == (1, TOKENS * GROUP // 2)


def test_rendering_one_view_or_many(model, paths):
    gaussians = model([load_image(p) for p in paths], compression=0.1)[0]
    camera = Camera.from_fov(math.radians(60), w=64, h=48)
    pose = Pose.identity()
    rgbd, _ = gaussians.render(camera, pose, mode="RGB+ED")
    assert rgbd.shape == (1, 4, 48, 64)
    cameras, poses = torch.stack([camera] * 3), torch.stack([pose] * 3)
    many, info = gaussians.render(cameras, poses)
    assert many.shape == (3, 3, 48, 64)
    assert info["alphas"].shape == (3, 1, 48, 64)
    torch.testing.assert_close(many[1], gaussians.render(camera, pose)[0][0])


def test_camera_priors(model, paths):
    images = torch.stack([load_image(p) for p in paths])
    cameras = torch.stack([Camera.from_fov(math.radians(60), w=480, h=360)] * 2)
    poses = Pose.orbit(torch.tensor([0.0, 0, 1]), 1.0, [0.0, 20.0])
    gaussians = model(images, cameras=cameras, poses=poses, use_priors=True)
    assert gaussians.shape == (1, 2 * TOKENS * GROUP)
    assert not torch.equal(gaussians.means, model(images).means)


@pytest.mark.parametrize("name", ["scale", "rgb", "sh0", "shN", "max_sh_degree", "color_by_group"])
def test_promised_members_of_a_scene(name):
    assert hasattr(Gaussians, name)
