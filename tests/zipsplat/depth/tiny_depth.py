"""Small depth networks, and their weights as files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.zipsplat.model.depth_cases import formula_weight
from zipsplat import weights
from zipsplat.model.architecture import BackboneConfig
from zipsplat.model.depth_head import HeadConfig
from zipsplat.model.depth_network import DepthConfig, DepthNetwork, NestedDepthNetwork

OUT_LAYERS = (0, 1, 2, 3)
CONF = {"model": {"backbone": {"out_layers": list(OUT_LAYERS)}}}


def tiny_config(*, is_multiview: bool = True) -> DepthConfig:
    """Four blocks of width 64."""
    start = 1 if is_multiview else 4
    backbone = BackboneConfig(
        dim=64, depth=4, num_heads=1, out_layers=OUT_LAYERS, pos_grid=5,
        alt_start=start, qknorm_start=start, rope_start=start,
        is_multiview=is_multiview, picks_reference=is_multiview, final_norm_eps=1e-5,
    )  # fmt: skip
    dim = 64 * (1 + is_multiview)
    return DepthConfig(backbone, HeadConfig(dim, 16, (8, 8, 16, 16), is_multiview), is_multiview)


def tiny_tensors(kind: str = "any-view") -> dict[str, Tensor]:
    """Weights of the golden rule by the names of the released files."""
    with torch.device("meta"):
        network = {
            "any-view": lambda: DepthNetwork(tiny_config()),
            "mono": lambda: DepthNetwork(tiny_config(is_multiview=False)),
            "nested": lambda: NestedDepthNetwork(tiny_config(), tiny_config(is_multiview=False)),
        }[kind]()
    names = {name: _released(name) for name in network.state_dict()}
    return {
        names[name]: torch.from_numpy(formula_weight(names[name], tuple(value.shape)))
        for name, value in network.state_dict().items()
    }


def _released(name: str) -> str:
    parts = name.split(".")
    place = 1 if parts[0] in ("da3", "da3_metric") else 0
    if parts[place] == "backbone":
        parts[place] = "backbone.pretrained"
    return ".".join(("model", *parts))


def write_tiny(path: Path, kind: str = "any-view") -> Path:
    """A `.safetensors` file as released, with the configuration that its odd size needs."""
    weights.save(path, tiny_tensors(kind), CONF)
    return path
