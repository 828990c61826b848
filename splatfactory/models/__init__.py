"""Trainable models, by the names configurations use."""

from __future__ import annotations

import dataclasses
from typing import Any

from splatfactory.models.initialisation import initialise
from splatfactory.models.pixel_aligned import PixelAlignedModel, PixelAlignedNetwork
from splatfactory.models.zipsplat import ZipSplatModel, freeze_camera_encoder
from splatfactory.schema import ModelConfig
from zipsplat.model.architecture import VARIANTS, ZipSplatConfig
from zipsplat.model.network import ZipSplatNetwork

Model = ZipSplatModel | PixelAlignedModel
NAMES = ("networks.zipsplat", "networks.pixel_aligned")


def build_model(config: ModelConfig, *, with_initial_weights: bool) -> Model:
    """Build a model on the CPU.

    Args:
        config: configuration of the model.
        with_initial_weights: whether to load or sample initial weights; False if others are loaded
            afterwards.

    Raises:
        ValueError: if the name is unknown or sizes are inconsistent.
    """
    sizes = architecture(config)
    network: ZipSplatNetwork | PixelAlignedNetwork
    if config.name == NAMES[0]:
        network = ZipSplatNetwork(sizes)
    elif config.name == NAMES[1]:
        network = PixelAlignedNetwork(sizes)
    else:
        raise ValueError(f"model.name must be one of {', '.join(NAMES)}, got {config.name!r}")
    if with_initial_weights:
        initialise(network, config)
    if config.backbone.freeze_camera_enc:
        freeze_camera_encoder(network)
    for part in network.backbone.modules() if config.backbone.use_checkpoint else ():  # type: ignore[attr-defined]
        if hasattr(part, "activation_checkpointing"):
            part.activation_checkpointing = True
    if isinstance(network, ZipSplatNetwork):
        return ZipSplatModel(config, network)
    return PixelAlignedModel(config, network)


def architecture(config: ModelConfig) -> ZipSplatConfig:
    """Architecture of the network in a configuration.

    Raises:
        ValueError: if the backbone is neither a known variant nor fully specified.
    """
    backbone = config.backbone
    if backbone.vit_name not in VARIANTS:
        if backbone.vit_name != "custom":
            known = ", ".join([*VARIANTS, "custom"])
            raise ValueError(
                f"model.backbone.vit_name must be one of {known}, got {backbone.vit_name!r}"
            )
        heads = backbone.num_heads or max(1, backbone.embed_dim // 64)
        backbone = dataclasses.replace(backbone, num_heads=heads)
    elif backbone.embed_dim != VARIANTS[backbone.vit_name].dim:
        raise ValueError(
            f"model.backbone.embed_dim of {backbone.vit_name} is "
            f"{VARIANTS[backbone.vit_name].dim}, got {backbone.embed_dim}; "
            "choose the backbone with model/backbone=da3s, or set vit_name=custom"
        )
    conf: dict[str, Any] = dataclasses.asdict(dataclasses.replace(config, backbone=backbone))
    return ZipSplatConfig.from_conf({"model": conf})


__all__ = ["NAMES", "Model", "architecture", "build_model"]
