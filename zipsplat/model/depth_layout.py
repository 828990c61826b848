"""The Depth Anything 3 network of a state dict.

Sizes are read from names and shapes of the tensors, which are those of the released
`model.safetensors` files; everything else is as in the released networks, unless a configuration
stored with the weights says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from zipsplat.model.architecture import HEAD_DIM, BackboneConfig, backbone_fields
from zipsplat.model.checkpoint_layout import as_no_network, check_state, shape_of, vit_sizes
from zipsplat.model.depth_head import NUM_LAYERS, HeadConfig
from zipsplat.model.depth_network import DepthConfig, DepthNetwork, NestedDepthNetwork

_ROOT = "model."
_VIT = "backbone."
_PARTS = ("da3.", "da3_metric.")
FINAL_NORM_EPS = 1e-5
OUT_LAYERS = {12: (5, 7, 9, 11), 24: (11, 15, 19, 23), 40: (19, 27, 33, 39)}
"""By the number of blocks, of any-view networks."""
MONO_OUT_LAYERS = {12: (2, 5, 8, 11), 24: (4, 11, 17, 23), 40: (9, 19, 29, 39)}
"""The same of monocular networks."""
_UNUSED = re.compile(
    r"(gs_head|gs_adapter)\."  # Gaussians of the giant
    r"|head\.scratch\.output_conv[12]_aux\.[0-2]\."  # rays at coarser levels
)


def holds_depth_network(names: Iterable[str]) -> bool:
    """Whether these are the tensor names of a Depth Anything 3 network."""
    return any(re.match(r"(model\.)?(da3\.)?head\.scratch\.", name) for name in names)


def depth_network_from_tensors(
    tensors: Mapping[str, Tensor], conf: Mapping[str, Any]
) -> DepthNetwork | NestedDepthNetwork:
    """Build the network of some weights, sharing their tensors.

    Nothing is initialised and, for float32 weights, nothing is copied.

    Args:
        tensors: a state dict, complete.
        conf: the configuration stored with it; may be empty.

    Returns:
        The network in float32 and evaluation mode.

    Raises:
        ValueError: if these are other weights, or tensors are missing, unexpected or of wrong
            shape.
    """
    if not holds_depth_network(tensors):
        raise ValueError("these are not weights of Depth Anything 3: there is no depth head")
    state = {_plain_name(name): value for name, value in tensors.items()}
    state = {name: value for name, value in state.items() if not _is_unused(name)}
    with as_no_network(), torch.device("meta"):
        network = _build(state, conf)
    check_state(network.state_dict(), state)
    floats = {name: value.to(torch.float32) for name, value in state.items()}
    network.load_state_dict(floats, assign=True)
    return network.eval()


def _build(
    state: Mapping[str, Tensor], conf: Mapping[str, Any]
) -> DepthNetwork | NestedDepthNetwork:
    if not any(name.startswith(_PARTS[0]) for name in state):
        return DepthNetwork(read_depth_architecture(state, conf))
    inner = [
        {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)}
        for part in _PARTS
    ]
    return NestedDepthNetwork(*(read_depth_architecture(part, conf) for part in inner))


def read_depth_architecture(state: Mapping[str, Tensor], conf: Mapping[str, Any]) -> DepthConfig:
    """The architecture of an any-view or monocular network; see the module."""
    model: Mapping[str, Any] = conf.get("model") or {}
    seen = vit_sizes(state, _VIT)
    is_multiview = _VIT + "camera_token" in state
    layers = (OUT_LAYERS if is_multiview else MONO_OUT_LAYERS).get(seen["depth"])
    start = seen["qknorm_start"]
    usual = {
        "num_heads": max(1, seen["dim"] // HEAD_DIM),
        "out_layers": layers,
        "alt_start": start,
        "rope_start": start,
        "is_multiview": is_multiview,
        "picks_reference": is_multiview,
        "final_norm_eps": FINAL_NORM_EPS,
    }
    fields = usual | backbone_fields(model.get("backbone") or {}) | seen
    if fields["out_layers"] is None:
        raise ValueError(
            f"the weights have {seen['depth']} blocks, which is not a released size, and no stored "
            "configuration says which out_layers the head reads"
        )
    channels = [shape_of(state, f"head.projects.{k}.weight") for k in range(NUM_LAYERS)]
    head = HeadConfig(
        dim=channels[0][1],
        features=shape_of(state, "head.scratch.layer1_rn.weight")[0],
        channels=(channels[0][0], channels[1][0], channels[2][0], channels[3][0]),
        is_dual="head.norm.weight" in state,
    )
    has_cameras = any(name.startswith("cam_dec.") for name in state)
    return DepthConfig(BackboneConfig(**fields), head, has_cameras)


def _plain_name(name: str) -> str:
    """The name in our network: without the outer prefix and that of the pretrained transformer."""
    return name.removeprefix(_ROOT).replace("backbone.pretrained.", _VIT, 1)


def _is_unused(name: str) -> bool:
    return _UNUSED.match(name.removeprefix(_PARTS[0])) is not None
