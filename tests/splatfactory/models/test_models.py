"""Trainable models: initialisation, sampling of tokens and priors, weights of DA3."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from splatfactory.config import Config, Request, load
from splatfactory.datasets.samples import Views
from splatfactory.models import architecture, build_model
from splatfactory.models.encoders import dav3_encoder
from splatfactory.models.initialisation import initialise_head, load_strictly
from splatfactory.models.zipsplat import ZipSplatModel
from splatfactory.schema import HeadConfig
from tests.splatfactory.golden import load as load_golden
from zipsplat.camera import Camera
from zipsplat.harmonics import rgb_from_dc
from zipsplat.model.head import decode
from zipsplat.pose import Pose

SMALL = (
    "model.backbone.embed_dim=32", "model.backbone.depth=2", "model.backbone.out_layers=[0,1]",
    "model.backbone.num_heads=2", "model.num_heads=2", "model.gaussians_per_prototype=3",
    "model.backbone.patch_size=14", "model.relief_init=false",
)  # fmt: skip


def config_of(*overrides: str) -> Config:
    return load(Request("quickstart", (*SMALL, *overrides)))


def model_of(*overrides: str) -> ZipSplatModel:
    torch.manual_seed(0)
    return build_model(config_of(*overrides).model, with_initial_weights=True)


def context_of(num_views: int = 2, size: int = 28) -> Views:
    shape = (1, num_views)
    camera = Camera.from_fov(1.0, w=size, h=size)
    return Views(
        images=torch.rand(*shape, 3, size, size),
        cameras=camera.map(lambda value: value.expand(*shape, 2)),
        poses=Pose.identity(shape),
        depths=torch.ones(*shape, size, size),
        near=torch.ones(shape),
        far=torch.ones(shape),
        indices=torch.zeros(shape, dtype=torch.int64),
    )


@pytest.mark.parametrize("case", [0, 1, 2])
def test_coupled_initialisation_equals_the_reference(case: int):
    data = load_golden(f"decode_{case}")
    num = int(data["gaussians_per_token"])
    last = nn.Linear(16, 23 * num)
    initialise_head(last, 23, HeadConfig())
    torch.testing.assert_close(last.bias, data["init_bias"])
    rows = last.weight.view(num, 23, 16)
    assert [torch.equal(row, rows[0]) for row in rows] == data["init_weight_rows_equal"].tolist()
    assert 0.015 < float(last.weight.detach().std()) < 0.025


@pytest.mark.parametrize("case", [0, 1, 2])
def test_decoding_equals_the_reference(case: int):
    data = load_golden(f"decode_{case}")
    gaussians = decode(data["raw"].unflatten(-1, (-1, 23)).flatten(1, 2))
    for name, key in (("means", "means"), ("scales", "scales"), ("quats", "quats"),
                      ("opacities", "opacities"), ("sh_coeffs", "sh")):  # fmt: skip
        torch.testing.assert_close(getattr(gaussians, name), data[key], rtol=1e-6, atol=1e-6)


def test_uncoupled_initialisation_sets_the_biases_alone():
    last = nn.Linear(16, 46)
    before = last.weight.clone()
    initialise_head(last, 23, HeadConfig(coupled_init=False, init_opacity_bias=-2.0))
    assert torch.equal(last.weight, before)
    assert last.bias.view(2, 23)[:, 10].tolist() == [-2.0, -2.0]


def test_token_share_is_rendered_within_the_scheduled_bounds():
    model = model_of("model.query_sample_ratio=[0.25,1]", "model.query_ratio_schedule=1.0")
    model.train()
    model.schedule(10, 10)
    shares = [float(model(context_of(8)).metrics["query_ratio"]) for _ in range(50)]
    assert min(shares) >= 0.25 * (2 / 8) ** 0.5
    assert max(shares) <= 1.0
    assert min(shares) < 0.25  # many views allow fewer tokens
    model.schedule(0, 10)
    shares = [float(model(context_of(2)).metrics["query_ratio"]) for _ in range(10)]
    assert shares == [1.0] * 10
    model.eval()
    assert float(model(context_of()).metrics["query_ratio"]) == 1.0
    prediction = model(context_of(), compression=0.5)
    assert prediction.gaussians.shape == (1, 4 * 3)
    assert prediction.token_group == 3


def test_priors_are_shown_as_often_as_asked(monkeypatch):
    model = model_of("model.prior_probability=0.2").train()
    seen = []
    encode = model.network.encode
    monkeypatch.setattr(
        model.network,
        "encode",
        lambda images, priors: seen.append(priors) or encode(images, priors),
    )
    for _ in range(100):
        model(context_of())
    shown = sum(priors is not None for priors in seen)
    assert 10 <= shown <= 32
    seen.clear()
    model.eval()(context_of())
    assert seen == [None]
    model = model_of("model.eval_use_priors=true").eval()
    assert model._priors(context_of()) is not None


def test_freezing_and_checkpointing_follow_the_configuration():
    model = model_of("model.backbone.freeze_camera_enc=true", "model.use_checkpoint=true",
                     "model.backbone.use_checkpoint=true")  # fmt: skip
    frozen = {name for name, p in model.network.named_parameters() if not p.requires_grad}
    assert "backbone.backbone.camera_token" in frozen
    assert all(
        name.startswith(("backbone.cam_enc.", "backbone.backbone.camera")) for name in frozen
    )
    assert model.network.activation_checkpointing
    assert model.network.backbone.backbone.activation_checkpointing
    plain = model_of("model.backbone.freeze_camera_enc=true")
    gradients = []
    for net in (model, plain):
        net.train()
        torch.manual_seed(3)
        made = net(context_of())
        made.gaussians.means.square().sum().backward()
        gradients.append(net.network.backbone.backbone.blocks[0].mlp.fc1.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_baseline_has_one_gaussian_per_pixel_in_its_colour():
    model = model_of("model.name=networks.pixel_aligned").eval()
    context = context_of()
    gaussians = model(context).gaussians
    assert gaussians.shape == (1, 2 * 28 * 28)
    # At the start the raw colours are small, so each Gaussian shows its pixel.
    first = gaussians.rgb[0, : 14 * 14].view(14, 14, 3).permute(2, 0, 1)
    error = (first - context.images[0, 0, :, :14, :14]).abs().mean()
    assert error < 0.5 * context.images.std()


def test_unknown_models_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"networks\.zipsplat"):
        build_model(config_of("model.name=networks.zipsplatt").model, with_initial_weights=False)
    with pytest.raises(ValueError, match="vits"):
        architecture(config_of("model.backbone.vit_name=vitx").model)
    with pytest.raises(ValueError, match="embed_dim of vits is 384"):
        architecture(config_of("model.backbone.vit_name=vits").model)


@pytest.mark.parametrize("suffix", [".safetensors", ".safetensor"])
def test_published_backbone_weights_are_converted_and_loaded(
    tmp_path, monkeypatch, capsys, suffix: str
):
    monkeypatch.setenv("SPLATFACTORY_WEIGHTS", str(tmp_path))
    backbone = model_of().network.backbone
    published = {"model.head.norm.weight": torch.zeros(3), "model.cam_dec.fc.bias": torch.zeros(1)}
    for name, value in backbone.state_dict().items():
        part, _, rest = name.partition(".")
        prefix = "model.cam_enc." if part == "cam_enc" else "model.backbone.pretrained."
        published[prefix + rest] = torch.randn_like(value)
    save_file(published, tmp_path / f"da3-small{suffix}")
    direct = dav3_encoder.read_backbone(tmp_path / f"da3-small{suffix}")
    assert dav3_encoder.main(["--size", "small"]) == 0
    assert f"{len(direct)} tensors" in capsys.readouterr().out
    converted = dav3_encoder.read_backbone(tmp_path / "da3-small.pth")
    for state in (direct, converted):
        load_strictly(backbone, state, "file")
        for name, value in backbone.state_dict().items():
            part, _, rest = name.partition(".")
            prefix = "model.cam_enc." if part == "cam_enc" else "model.backbone.pretrained."
            assert torch.equal(value, published[prefix + rest])
    (tmp_path / "da3-small.pth").unlink()
    model = build_model(
        config_of("model.backbone.weights=weights/da3-small.pth").model, with_initial_weights=True
    )
    assert torch.equal(
        model.network.backbone.backbone.cls_token, published["model.backbone.pretrained.cls_token"]
    )


def test_missing_backbone_weights_name_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPLATFACTORY_WEIGHTS", str(tmp_path))
    assert dav3_encoder.main(["--size", "giant"]) == 1
    assert "depth-anything/DA3-GIANT" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"weights=null"):
        dav3_encoder.read_backbone(tmp_path / "da3-giant.pth")


def test_weights_that_do_not_fit_are_named():
    module = nn.Linear(2, 3)
    with pytest.raises(
        ValueError, match=r"file: .*1 missing: bias; 1 unexpected: b; 1 of another shape: weight"
    ):
        load_strictly(module, {"weight": torch.zeros(1), "b": torch.zeros(1)}, "file")


def test_a_relief_start_shows_the_patches_in_their_places_and_colours():
    torch.manual_seed(0)
    model = build_model(load(Request("quickstart", ())).model, with_initial_weights=True).eval()
    context = context_of(1, size=56)
    cells = torch.rand(3, 8, 8)
    blocks = cells.repeat_interleave(7, 1).repeat_interleave(7, 2)
    views = dataclasses.replace(context, images=blocks[None, None])
    gaussians = model(views).gaussians[0]
    tokens = gaussians.means.unflatten(0, (8, 8, 8)).mean(dim=2)
    x, y = tokens[..., 0], tokens[..., 1]
    assert (x.diff(dim=1) > 0).all()
    assert (y.diff(dim=0) > 0).all()
    assert x.std(dim=0).max() < 0.05 < x.std(dim=1).min()
    assert gaussians.means[:, 2].min() > 0.5
    colors = rgb_from_dc(gaussians.sh_coeffs[:, 0]).unflatten(0, (8, 8, 8)).mean(dim=2)
    assert (colors - cells.permute(1, 2, 0)).abs().mean() < 0.05


def test_a_relief_start_needs_random_weights_of_zipsplat():
    with pytest.raises(ValueError, match=r"networks\.zipsplat.*relief_init=false"):
        model_of("model.relief_init=true", "model.name=networks.pixel_aligned")
    assert isinstance(model_of("model.relief_init=true"), ZipSplatModel)


@pytest.mark.parametrize("name", ["networks.zipsplat", "networks.pixel_aligned"])
def test_priors_in_mixed_precision(name: str):
    """Poses are inverted in float32, whatever is cast around the model."""
    model = model_of(f"model.name={name}", "model.prior_probability=1.0")
    with torch.autocast("cpu", torch.bfloat16):
        prediction = model(context_of())
    assert bool(torch.isfinite(prediction.gaussians.means).all())
