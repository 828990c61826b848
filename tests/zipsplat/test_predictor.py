"""The user's class: what it accepts, what it refuses, and how its knobs behave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat import Camera, Gaussians, Pose, ZipSplat, weights
from zipsplat.images import InputSize
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.priors import Priors

SIZE = 28
TOKENS = 4


@pytest.fixture
def model() -> ZipSplat:
    return ZipSplat.from_network(tiny_network(), device="cpu", image_size=SIZE)


def random_images(num: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 30 + 5 * i, 41, generator=generator) for i in range(num)]


def cameras_of(images: list[Tensor]) -> Camera:
    return torch.stack([Camera.from_focal(40.0, w=i.shape[2], h=i.shape[1]) for i in images])


def some_poses(num: int) -> Pose:
    return Pose.orbit(torch.zeros(3), 2.0, [20.0 * i + 5 for i in range(num)], 10.0)


def same(got: Gaussians, wanted: Gaussians, atol: float = 2e-5) -> None:
    torch.testing.assert_close(got.packed(), wanted.packed(), atol=atol, rtol=1e-4)


def test_readme_call(model: ZipSplat) -> None:
    gaussians = model(random_images())[0]
    assert gaussians.num_gaussians == 3 * TOKENS * 4
    gaussians.check()
    assert not gaussians.means.requires_grad
    # Gradients can be taken with respect to poses and copies of the scene afterwards.
    means = gaussians.means.clone().requires_grad_()
    (means * gaussians.scales).sum().backward()


def test_single_image(model: ZipSplat) -> None:
    assert model(random_images(1)).shape == (1, TOKENS * 4)


def test_all_kinds_of_input_agree(model: ZipSplat) -> None:
    images = [image[:, :30] for image in random_images(2)]
    from_list = model(images)
    same(model(torch.stack(images)), from_list)
    batch = torch.stack((torch.stack(images), torch.stack(images[::-1])))
    both = model(batch)
    assert both.shape == (2, 2 * TOKENS * 4)
    same(both[:1], from_list)
    same(both[1:], model(images[::-1]))


def test_compression(model: ZipSplat) -> None:
    images = random_images()
    counts = [model(images, compression=c)[0].num_gaussians for c in (1.0, 0.5, 0.26, 0.01)]
    assert counts == [48, 24, 12, 4]


@pytest.mark.parametrize("compression", [0, -1, 1.5, float("nan")])
def test_bad_compression_fails_before_the_backbone(model: ZipSplat, compression: float) -> None:
    calls = count_calls(model)
    with pytest.raises(ValueError, match=r"compression must be in \(0, 1\]"):
        model(random_images(), compression=compression)
    assert calls == []


def count_calls(model: ZipSplat) -> list[str]:
    calls: list[str] = []
    model.model.backbone.register_forward_hook(lambda *_: calls.append("backbone"))
    model.model.color_embed.register_forward_hook(lambda *_: calls.append("colors"))
    return calls


def test_moving_the_knob_does_not_run_the_backbone(model: ZipSplat) -> None:
    images = random_images()
    calls = count_calls(model)
    features = model.encode(images)
    assert calls == ["backbone", "colors"]
    decoded = {c: model.decode(features, c) for c in (1.0, 0.5, 0.25)}
    assert calls == ["backbone", "colors"]
    for compression, gaussians in decoded.items():
        same(gaussians, model(images, compression=compression), atol=0)


def test_priors_change_the_scene(model: ZipSplat) -> None:
    images = random_images()
    cameras, poses = cameras_of(images), some_poses(3)
    free = model(images)
    known = model(images, cameras=cameras, poses=poses, use_priors=True)
    assert (known.means - free.means).abs().max() > 1e-3
    as_lists = model(images, list(cameras), list(poses), use_priors=True)
    same(as_lists, known, atol=0)


def encoded_priors(model: ZipSplat, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    seen: list[Tensor] = []
    original = ZipSplatNetwork.encode

    def spy(self: ZipSplatNetwork, images: Tensor, priors: Priors | None = None) -> object:
        seen.append(priors.encoding)
        return original(self, images, priors)

    monkeypatch.setattr(ZipSplatNetwork, "encode", spy)
    return seen


def test_prior_poses_are_relative_to_the_first_view(
    model: ZipSplat, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images()
    cameras, poses = cameras_of(images), some_poses(3)
    seen = encoded_priors(model, monkeypatch)
    world = some_poses(5)[4]
    model(images, cameras, poses, use_priors=True)
    model(images, cameras, world.compose(poses), use_priors=True)
    torch.testing.assert_close(seen[0], seen[1], atol=1e-5, rtol=1e-5)
    first = torch.tensor([0, 0, 0, 0, 0, 0, 1.0])  # no motion: translation 0, quaternion xyzw
    torch.testing.assert_close(seen[0][0, 0, :7], first, atol=1e-6, rtol=0)
    model(images, cameras, poses, use_priors=True, relative_priors=False)
    untouched = poses.inv()
    torch.testing.assert_close(seen[2][0, :, :3], untouched.t)
    torch.testing.assert_close(seen[2][0, :, 3:7], untouched.quat.roll(-1, -1))
    model(images, cameras, poses, use_priors=True, prior_scale=0.25)
    torch.testing.assert_close(seen[3][..., :3], 0.25 * seen[0][..., :3])
    torch.testing.assert_close(seen[3][..., 3:], seen[0][..., 3:])


def test_prior_fields_of_view_are_those_of_the_cropped_image(
    model: ZipSplat, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = encoded_priors(model, monkeypatch)
    image = random_images(1)  # 41 wide, 30 high: cropped to 30 × 30
    model(image, cameras_of(image), some_poses(1), use_priors=True)
    wanted = 2 * torch.atan(torch.tensor(30 / (2 * 40.0)))
    torch.testing.assert_close(seen[0][0, 0, 7:], wanted.expand(2))


def test_priors_that_cannot_be_used_are_errors(model: ZipSplat) -> None:
    images = random_images()
    cameras, poses = cameras_of(images), some_poses(3)
    for given in ({"cameras": cameras}, {"poses": poses}, {"cameras": cameras, "poses": poses}):
        with pytest.raises(ValueError, match="use_priors=True; pass that"):
            model(images, **given)
    for given, got in (
        ({}, "neither"),
        ({"cameras": cameras}, "cameras"),
        ({"poses": poses}, "poses"),
    ):
        with pytest.raises(ValueError, match=f"needs both cameras and poses, got {got}"):
            model(images, **given, use_priors=True)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="prior_scale"):
            model(images, cameras, poses, use_priors=True, prior_scale=scale)


def test_other_image_sizes() -> None:
    model = ZipSplat.from_network(tiny_network(), device="cpu", image_size=(28, 42))
    assert model(random_images(2)).shape == (1, 2 * 6 * 4)


def test_loads_what_was_saved(tmp_path: Path, model: ZipSplat) -> None:
    path = tmp_path / "tiny.safetensors"
    weights.save(path, model.model.state_dict(), model.model.config.to_conf())
    for given in (path, str(path)):
        loaded = ZipSplat(weights=given, device="cpu", image_size=SIZE)
        assert not loaded.training
        same(loaded(random_images()), model(random_images()), atol=0)


def test_images_get_the_size_that_the_weights_were_trained_at(
    tmp_path: Path, model: ZipSplat
) -> None:
    conf = model.model.config.to_conf()
    for stored, wanted in ((56, 56), (None, 252), ("large", 252)):
        path = tmp_path / f"{stored}.safetensors"
        conf["model"]["img_size"] = stored
        weights.save(path, model.model.state_dict(), conf)
        loaded = ZipSplat(path, device="cpu").preprocessor
        assert (loaded.height, loaded.width) == (wanted, wanted)
    assert ZipSplat(path, device="cpu", image_size=28).preprocessor.height == 28


def test_long_sides_keep_the_shape_of_the_first_image(
    tmp_path: Path,
    model: ZipSplat,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    conf = model.model.config.to_conf()
    path = tmp_path / "x.safetensors"
    usual = InputSize(56, keeps_shape=True)
    monkeypatch.setattr(weights, "usual_size", lambda _: usual)
    weights.save(path, model.model.state_dict(), conf)
    loaded = ZipSplat(path, device="cpu")
    assert "do not say what size they were trained at; using 56 px, the longer" in caplog.text
    wide = torch.rand(3, 40, 80)
    same(loaded([wide]), ZipSplat(path, device="cpu", image_size=(28, 56))([wide]), atol=0)
    assert loaded.encode([wide, wide.mT]).grid == (2, 4)
    conf["model"]["img_size"], conf["data"] = 28, {"aspect_ratio_range": [1.0, 1.0]}
    weights.save(path, model.model.state_dict(), conf)
    assert ZipSplat(path, device="cpu").encode([wide]).grid == (2, 2)
    conf["data"] = {"aspect_ratio_range": [0.5, 2.0]}
    weights.save(path, model.model.state_dict(), conf)
    assert ZipSplat(path, device="cpu").encode([wide]).grid == (1, 2)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_cameras_of_weights_with_a_camera_decoder(tmp_path: Path, prefix: str) -> None:
    network = tiny_network(config=replace(TINY, has_camera_decoder=True))
    state = {
        (prefix + name if name.startswith("cam_dec.") else prefix[:-9] + name): value
        for name, value in network.state_dict().items()
    }
    torch.save({"model": state}, tmp_path / "x.tar")
    weights.save(tmp_path / "x.safetensors", network.state_dict(), network.config.to_conf())
    torch.save({"model": state, "conf": TINY.to_conf()}, tmp_path / "x.tar")
    pair = random_images()
    for path in (tmp_path / "x.tar", tmp_path / "x.safetensors"):
        loaded = ZipSplat(path, device="cpu", image_size=(28, 56))
        features = loaded.encode(pair)
        cameras, poses = loaded.cameras(features)
        assert cameras.shape == poses.shape == (1, len(pair))
        assert cameras.size[0].tolist() == [[56, 28]] * len(pair)
        torch.testing.assert_close(poses[0, 0].Rt, torch.eye(4), atol=1e-6, rtol=0)
        poses.check()
        expected = network.cameras(network.encode(loaded.preprocessor(pair).images))[0]
        torch.testing.assert_close(cameras.f, expected.f)
        assert loaded.decode(features).shape[1] > 0


def test_weights_without_a_camera_decoder_say_so(model: ZipSplat) -> None:
    with pytest.raises(ValueError, match="have no camera decoder, so they cannot predict cameras"):
        model.cameras(model.encode(random_images()))


def test_module_methods(model: ZipSplat) -> None:
    assert model.cpu().eval() is model
    assert model.to("cpu").device == torch.device("cpu")
    assert "model.backbone.backbone.cls_token" in model.state_dict()


def test_bfloat16_is_close_and_its_head_stays_float32() -> None:
    exact = ZipSplat.from_network(tiny_network(), device="cpu", image_size=SIZE)(random_images())
    half = ZipSplat.from_network(tiny_network(), device="cpu", dtype="bfloat16", image_size=SIZE)
    got = half(random_images())
    assert got.dtype == torch.float32
    assert {p.dtype for p in half.model.backbone.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in half.model.gaussian_head.parameters()} == {torch.float32}
    error = (got.means - exact.means).norm() / exact.means.norm()
    assert 1e-5 < error < 0.05
    images = random_images()
    half(images, cameras_of(images), some_poses(3), use_priors=True)


def test_precision_by_name() -> None:
    for dtype in ("float32", torch.float32, "auto"):
        model = ZipSplat.from_network(tiny_network(), device="cpu", dtype=dtype)
        assert next(model.parameters()).dtype == torch.float32
    with pytest.raises(ValueError, match="dtype must be"):
        ZipSplat.from_network(tiny_network(), device="cpu", dtype="float16")


def test_weights_of_something_else_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"layer.weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"other\.pth: these are not weights of ZipSplat"):
        ZipSplat(path)


@pytest.mark.cuda
def test_cuda_agrees_with_cpu() -> None:
    images = random_images()
    on_cpu = ZipSplat.from_network(tiny_network(), device="cpu", image_size=SIZE)(images)
    model = ZipSplat.from_network(tiny_network(), "cpu", "float32", SIZE).cuda().eval()
    same(model(images).cpu(), on_cpu, atol=1e-3)
