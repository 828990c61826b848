"""Initial weights of a network: random, or from a published backbone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from splatfactory.models.encoders.dav3_encoder import read_backbone
from splatfactory.schema import BackboneConfig, HeadConfig, ModelConfig
from splatfactory.tiny.relief_start import initialise_relief
from zipsplat.model.checkpoint_layout import check_state
from zipsplat.model.head import GaussianHead
from zipsplat.model.layers import LayerScale
from zipsplat.model.network import ZipSplatNetwork

logger = logging.getLogger(__name__)

TOKEN_STD = 0.02
HEAD_STD = 0.02
Z, SCALES, OPACITY = 2, slice(3, 6), 10
"""Indices of these parameters among the raw outputs of one Gaussian."""


def initialise(network: nn.Module, config: ModelConfig) -> None:
    """Initialise a freshly built network for training.

    Args:
        network: network with `backbone` and `gaussian_head`; other parts keep PyTorch's
            initialisation except for layer scales.
        config: weights of the backbone, and biases of the head.

    Raises:
        ValueError: if the backbone's weights are missing or do not match.
    """
    for name, part in network.named_children():
        if name not in ("backbone", "gaussian_head"):
            set_layer_scale(part, config.fuse_layer_scale)
    backbone, head = network.get_submodule("backbone"), network.get_submodule("gaussian_head")
    if config.backbone.weights is None:
        initialise_backbone(backbone, config.backbone)
    else:
        load_backbone(backbone, Path(config.backbone.weights))
    if isinstance(head, GaussianHead):
        last = head.gaussian_head[-1]
        assert isinstance(last, nn.Linear)
        initialise_head(last, head.parameters_per_gaussian, config.gaussian_head)
    if config.relief_init:
        if not isinstance(network, ZipSplatNetwork):
            raise ValueError(
                "model.relief_init needs model.name=networks.zipsplat; set model.relief_init=false"
            )
        initialise_relief(network, config)


def initialise_backbone(backbone: nn.Module, config: BackboneConfig) -> None:
    """Initialise tokens and position embeddings randomly, and set trainable layer scales."""
    set_layer_scale(backbone, config.init_layer_scale)
    for name, parameter in backbone.named_parameters():
        if name.rpartition(".")[2] in ("cls_token", "camera_token", "pos_embed"):
            nn.init.trunc_normal_(parameter, std=TOKEN_STD)


@torch.no_grad()
def initialise_head(last: nn.Linear, num_parameters: int, config: HeadConfig) -> None:
    """Initialise the Gaussians of a token with equal (coupled) or separate weights, and set biases.

    Args:
        last: final layer, G·P outputs.
        num_parameters: P, number of outputs per Gaussian.
        config: biases, and whether Gaussians are coupled.
    """
    num_gaussians = last.out_features // num_parameters
    if config.coupled_init:
        template = torch.randn(num_parameters, last.in_features) * HEAD_STD
        last.weight.copy_(template.repeat(num_gaussians, 1))
        last.bias.zero_()
    bias = last.bias.view(num_gaussians, num_parameters)
    bias[:, Z] = config.init_position_z_bias
    bias[:, SCALES] = config.init_scale_bias
    bias[:, OPACITY] = config.init_opacity_bias


@torch.no_grad()
def set_layer_scale(module: nn.Module, value: float) -> None:
    """Set every layer scale inside a module."""
    for part in module.modules():
        if isinstance(part, LayerScale):
            part.gamma.fill_(value)


def load_backbone(backbone: nn.Module, path: Path) -> None:
    """Copy Depth-Anything-3 weights into a backbone.

    Raises:
        ValueError: if the file or tensors are missing, or shapes differ.
    """
    load_strictly(backbone, read_backbone(path), str(path))
    logger.info("initialised the backbone from %s", path)


def load_strictly(
    module: nn.Module, state: Mapping[str, Tensor], source: str, *, assign: bool = False
) -> None:
    """Load a state dict; names and shapes must match exactly.

    Args:
        module: module to load into.
        state: tensors by name.
        source: their source, for the error message.
        assign: use the tensors themselves, as float32, instead of copying values.

    Raises:
        ValueError: if they do not match; names the first tensors that differ.
    """
    wanted = module.state_dict()
    try:
        check_state(wanted, state)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if assign:
        state = {name: value.to(wanted[name].dtype) for name, value in state.items()}
    module.load_state_dict(dict(state), assign=assign)
