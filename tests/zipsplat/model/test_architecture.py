"""Architectures: named, free, stored, and read back from tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat.model.architecture import VARIANTS, BackboneConfig, ZipSplatConfig
from zipsplat.model.checkpoint_layout import network_from_tensors, read_architecture
from zipsplat.model.network import ZipSplatNetwork

PARAMETERS = {"vits": 42386656, "vitb": 165386464, "vitl": 443541728, "vitg": 1447701472}
TENSORS = {"vits": 439, "vitb": 439, "vitl": 639, "vitg": 907}


def shapes_of(config: ZipSplatConfig) -> dict[str, Tensor]:
    """A state dict without memory."""
    with torch.device("meta"):
        return dict(ZipSplatNetwork(config).state_dict())


@pytest.mark.parametrize("name", VARIANTS)
def test_released_sizes(name: str) -> None:
    state = shapes_of(ZipSplatConfig.variant(name))
    assert sum(value.numel() for value in state.values()) == PARAMETERS[name]
    assert len(state) == TENSORS[name]


def test_names_and_shapes_of_the_giant() -> None:
    shapes = {n: tuple(v.shape) for n, v in shapes_of(ZipSplatConfig.variant("vitg")).items()}
    expected = {
        "backbone.backbone.camera_token": (1, 2, 1536),
        "backbone.backbone.pos_embed": (1, 1370, 1536),
        "backbone.backbone.patch_embed.proj.weight": (1536, 3, 14, 14),
        "backbone.backbone.blocks.13.attn.q_norm.weight": (64,),
        "backbone.backbone.blocks.39.mlp.w12.weight": (8192, 1536),
        "backbone.backbone.blocks.0.mlp.w3.weight": (1536, 4096),
        "backbone.cam_enc.pose_branch.fc1.weight": (768, 9),
        "backbone.cam_enc.trunk.3.mlp.fc1.weight": (6144, 1536),
        "pre_norm_local.2.bias": (1536,),
        "downscale.0.weight": (1536, 3072),
        "cross_attention.1.attn.kv_proj.weight": (3072, 1536),
        "self_attention.2.attn.k_norm.bias": (64,),
        "color_embed.proj.weight": (128, 3, 14, 14),
        "color_cross_attention.mlp.fc1.weight": (128, 128),
        "gaussian_head.gaussian_head.0.fc1.weight": (3328, 1664),
        "gaussian_head.gaussian_head.1.weight": (736, 1664),
    }
    assert expected.items() <= shapes.items()
    assert "backbone.backbone.blocks.12.attn.q_norm.weight" not in shapes


@pytest.mark.parametrize("name", VARIANTS)
def test_released_sizes_are_read_from_their_tensors(name: str) -> None:
    config = ZipSplatConfig.variant(name)
    assert read_architecture(shapes_of(config), {}) == config


def test_starts_follow_the_normalised_queries() -> None:
    """The small backbone of the training configuration starts at block 5, not 4."""
    late = ZipSplatConfig.variant("vits", alt_start=5, qknorm_start=5, rope_start=5)
    assert read_architecture(shapes_of(late), {}) == late
    mixed = ZipSplatConfig.variant("vits", alt_start=6, qknorm_start=5, rope_start=2)
    assert read_architecture(shapes_of(mixed), mixed.to_conf()) == mixed


FREE = [
    TINY,
    ZipSplatConfig(
        BackboneConfig(48, 3, 3, (0, 2), 1, 3, 3, "swiglu", 40, 7, 4, 4),
        gaussians_per_token=1,
        sh_degree=0,
        color_dim=24,
        mlp_ratio=2.0,
        num_heads=6,
        color_heads=2,
    ),
    ZipSplatConfig(BackboneConfig(64, 2, 1, (1,), 0, 0, 0), gaussians_per_token=32, sh_degree=3),
]


@pytest.mark.parametrize("config", FREE)
def test_free_sizes_come_back(config: ZipSplatConfig) -> None:
    assert ZipSplatConfig.from_conf(config.to_conf()) == config
    assert read_architecture(shapes_of(config), config.to_conf()) == config


@pytest.mark.parametrize("config", FREE)
def test_free_sizes_run(config: ZipSplatConfig) -> None:
    size = 2 * config.backbone.patch_size
    network = ZipSplatNetwork(config).eval()
    with torch.no_grad():
        gaussians = network(torch.rand(2, 3, 3, size, size), compression=0.5)
    assert gaussians.shape == (2, 6 * config.gaussians_per_token)
    assert gaussians.max_sh_degree == config.sh_degree


def training_conf(**backbone: Any) -> dict[str, Any]:
    """What a training stores, with keys that do not concern the network."""
    return {
        "data": {"name": "composed"},
        "train": {"lr": 3e-4},
        "model": {
            "name": "networks.zipsplat",
            "gaussians_per_prototype": 32,
            "color_skip_dim": 128,
            "mlp_ratio": 4,
            "gaussian_head": {"sh_degree": 1, "max_scale": 0.1},
            "backbone": {"name": "encoders.dav3_encoder", "weights": "x.pth", **backbone},
        },
    }


def test_training_configurations() -> None:
    conf = training_conf(vit_name="vits", embed_dim=384, out_layers=[5, 7, 11], alt_start=5,
                         qknorm_start=5, rope_start=5)  # fmt: skip
    config = ZipSplatConfig.from_conf(conf)
    assert config == ZipSplatConfig.variant("vits", alt_start=5, qknorm_start=5, rope_start=5)
    assert read_architecture(shapes_of(config), conf) == config


def test_incomplete_configurations() -> None:
    with pytest.raises(ValueError, match=r"lacks alt_start, depth, num_heads"):
        ZipSplatConfig.from_conf(training_conf(embed_dim=96, out_layers=[1], qknorm_start=1,
                                               rope_start=1))  # fmt: skip
    with pytest.raises(ValueError, match="known: vits, vitb, vitl, vitg"):
        ZipSplatConfig.variant("vith")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_layers": ()}, "out_layers"),
        ({"out_layers": (7, 5, 11)}, "out_layers"),
        ({"out_layers": (5, 7, 12)}, "out_layers"),
        ({"out_layers": (-1, 7, 11)}, "out_layers"),
        ({"num_heads": 5}, "multiple of num_heads"),
        ({"prior_heads": 5}, "multiple of prior_heads"),
        ({"ffn": "gelu"}, "ffn"),
        ({"dim": 0}, "dim"),
        ({"num_heads": 64}, "heads of a multiple of 4"),
        ({"sh_degree": 4}, "sh_degree"),
        ({"gaussians_per_token": 0}, "gaussians_per_token"),
        ({"color_dim": 100, "color_heads": 3}, "color_heads"),
    ],
)
def test_impossible_sizes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZipSplatConfig.variant("vits", **changes)


def test_missing_unexpected_and_wrong_tensors_are_named() -> None:
    state = dict(tiny_network().state_dict())
    conf = TINY.to_conf()
    gone = {name: value for name, value in state.items() if not name.startswith("pre_norm_local.")}
    with pytest.raises(ValueError, match=r"6 missing: pre_norm_local\.0\.weight, .* and 2 more"):
        network_from_tensors(gone, conf)
    with pytest.raises(ValueError, match=r"1 unexpected: head\.weight"):
        network_from_tensors({**state, "head.weight": torch.zeros(1)}, conf)
    wrong = {**state, "downscale.1.bias": torch.zeros(5)}
    with pytest.raises(ValueError, match=r"downscale\.1\.bias wanted \(32,\), got \(5,\)"):
        network_from_tensors(wrong, conf)
    both = {**gone, "head.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"6 missing: .*; 1 unexpected"):
        network_from_tensors(both, conf)


def test_configurations_that_contradict_the_tensors() -> None:
    state = shapes_of(TINY)
    for key, value in (("embed_dim", 64), ("depth", 7), ("qknorm_start", 3), ("ffn", "swiglu")):
        conf = TINY.to_conf()
        conf["model"]["backbone"][key] = value
        with pytest.raises(ValueError, match="but the tensors have"):
            read_architecture(state, conf)
    conf = TINY.to_conf()
    conf["model"]["gaussian_head"]["sh_degree"] = 3
    with pytest.raises(ValueError, match="92 outputs per token"):
        read_architecture(state, conf)


def test_unknown_sizes_need_their_output_layers() -> None:
    with pytest.raises(ValueError, match=r"6 blocks of width 32.*out_layers"):
        read_architecture(shapes_of(TINY), {})


@pytest.mark.parametrize("model", ["text", {"backbone": "text"}, {"backbone": {"out_layers": 5}},
                                   {"backbone": {"out_layers": ["a"]}}])  # fmt: skip
def test_senseless_configurations(model: Any) -> None:
    with pytest.raises(ValueError, match=r"do not describe|out_layers|invalid literal"):
        network_from_tensors(tiny_network().state_dict(), {"model": model})


SENSELESS = r"tensors have|do not describe|wanted|not a released size|missing|must be|multiple"


def test_senseless_shapes() -> None:
    state = dict(tiny_network().state_dict())
    for name in ("backbone.backbone.cls_token", "backbone.backbone.pos_embed",
                 "backbone.backbone.blocks.0.mlp.fc2.weight",
                 "cross_attention.0.attn.q_norm.weight"):  # fmt: skip
        with pytest.raises(ValueError, match=SENSELESS):
            network_from_tensors({**state, name: torch.zeros(())}, TINY.to_conf())
        with pytest.raises(ValueError, match=SENSELESS):
            network_from_tensors({**state, name: torch.zeros(0, 0, 0)}, TINY.to_conf())


def test_other_models_are_recognised() -> None:
    da3 = {"model.backbone.pretrained.cls_token": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"weights of Depth Anything 3.*dav3_encoder"):
        network_from_tensors(da3, {})
    with pytest.raises(ValueError, match="these are not weights of ZipSplat"):
        network_from_tensors({"fc.weight": torch.zeros(1)}, {})


def test_half_precision_weights_become_float32() -> None:
    state = {name: value.bfloat16() for name, value in tiny_network().state_dict().items()}
    network = network_from_tensors(state, TINY.to_conf())
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_nothing_is_initialised_on_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tensor, *args: object, **kwargs: object) -> Tensor:
        assert self.is_meta, "random numbers were sampled"
        return self

    monkeypatch.setattr(Tensor, "uniform_", refuse)
    monkeypatch.setattr(Tensor, "normal_", refuse)
    state = dict(tiny_state())
    network_from_tensors(state, TINY.to_conf())


def tiny_state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(v.shape, generator=generator) for n, v in shapes_of(TINY).items()}
