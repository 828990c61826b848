"""The architecture of a state dict, and the network built from it.

Letters: D width, F hidden width, G Gaussians per token, P numbers per Gaussian, S harmonics.

Widths, depth, and where normalised queries start are read from the names and shapes of the
tensors. What cannot be read there (`out_layers`, `alt_start`, `rope_start`) comes from
the configuration stored with the weights, or else from the released variant of this size, with the
three starts equal.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from zipsplat.images import InputSize
from zipsplat.model.architecture import (
    GEOMETRY_PARAMETERS,
    HEAD_DIM,
    VARIANTS,
    BackboneConfig,
    ZipSplatConfig,
    backbone_fields,
    network_fields,
)
from zipsplat.model.backbones import BACKBONES
from zipsplat.model.network import ZipSplatNetwork

_VIT = "backbone.backbone."
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_DA3_PREFIX = "model.backbone.pretrained."
_USUAL_GAUSSIANS_PER_TOKEN = 32
MAX_DEPTH = 200  # blocks; the largest released network has 40
_NAMED_AT_MOST = 4
_CAMERA_DECODER = re.compile(r"(?:.+\.)?(cam_dec\..+)")

logger = logging.getLogger(__name__)


def network_from_tensors(tensors: Mapping[str, Tensor], conf: Mapping[str, Any]) -> ZipSplatNetwork:
    """Build the network of some weights, sharing their tensors.

    Nothing is initialised and, for float32 weights, nothing is copied.

    Args:
        tensors: a state dict, complete.
        conf: the configuration stored with it; may be empty.

    Returns:
        The network in float32 and evaluation mode.

    Raises:
        ValueError: if tensors are missing, unexpected or of a wrong shape, or the architecture
            cannot be read.
    """
    tensors = {_plain_name(name): value for name, value in tensors.items()}
    config = read_architecture(tensors, conf)
    with as_no_network(), torch.device("meta"):
        network = ZipSplatNetwork(config)
    check_state(network.state_dict(), tensors)
    state = {name: value.to(torch.float32) for name, value in tensors.items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


def read_architecture(tensors: Mapping[str, Tensor], conf: Mapping[str, Any]) -> ZipSplatConfig:
    """Read the architecture of a state dict; see the module.

    Raises:
        ValueError: if tensors are missing, or they or the configuration are inconsistent.
    """
    with as_no_network():
        return _read_architecture(tensors, conf)


@contextmanager
def as_no_network() -> Iterator[None]:
    """Turn all errors of inconsistent sizes and settings into one kind.

    Raises:
        ValueError: instead of whatever the block raises.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"the weights or their stored configuration do not describe a valid network ({error})"
        ) from error


def _read_architecture(tensors: Mapping[str, Tensor], conf: Mapping[str, Any]) -> ZipSplatConfig:
    model: Mapping[str, Any] = conf.get("model") or {}
    given = backbone_fields(model.get("backbone") or {})
    name = given.get("name", BackboneConfig.name)
    if name != BackboneConfig.name:  # only its author knows another backbone's tensors
        BACKBONES.check_trusted(name, "the checkpoint")
        return ZipSplatConfig.from_conf(conf)
    seen = vit_sizes(tensors, _VIT)
    backbone = BackboneConfig(**_with_starts(seen, given))
    D = backbone.dim
    color_dim = shape_of(tensors, "color_embed.proj.weight")[0]
    per_token = shape_of(tensors, "gaussian_head.gaussian_head.1.weight")[0]
    gaussians, degree = _split_head(per_token, network_fields(model))
    return ZipSplatConfig(
        backbone=backbone,
        gaussians_per_token=gaussians,
        sh_degree=degree,
        color_dim=color_dim,
        mlp_ratio=shape_of(tensors, "cross_attention.0.mlp.fc1.weight")[0] / D,
        num_heads=D // shape_of(tensors, "cross_attention.0.attn.q_norm.weight")[0],
        color_heads=color_dim // shape_of(tensors, "color_cross_attention.attn.q_norm.weight")[0],
        has_camera_decoder=any(_CAMERA_DECODER.fullmatch(name) for name in tensors),
    )


def _plain_name(name: str) -> str:
    """The name in our network; the camera decoder may be stored below any part."""
    match = _CAMERA_DECODER.fullmatch(name)
    return match[1] if match else name


def trained_size(conf: Mapping[str, Any], usual: InputSize) -> InputSize:
    """The input size that a network was trained at.

    Args:
        conf: the configuration stored with its weights: `model.img_size` is the side, or the
            longer side if `data.aspect_ratio_range` is a range.
        usual: the default.
    """
    model, data = (conf.get(key) for key in ("model", "data"))
    side = model.get("img_size") if isinstance(model, Mapping) else None
    ratios = data.get("aspect_ratio_range") if isinstance(data, Mapping) else None
    if not (isinstance(side, int) and side > 0):
        shape = "the longer side of images" if usual.keeps_shape else "square images"
        logger.warning(
            "the weights do not say what size they were trained at; using %d px, %s",
            usual.side,
            shape,
        )
        side = usual.side
    is_pair = isinstance(ratios, Sequence) and len(ratios) == 2
    keeps_shape = ratios[0] != ratios[1] if is_pair and ratios else usual.keeps_shape
    return InputSize(side, keeps_shape)


def check_state(wanted: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Compare a state dict with the names and shapes of a network.

    Raises:
        ValueError: names what is missing, unexpected or of another shape.
    """
    problems = []
    missing = [name for name in wanted if name not in got]
    if missing:
        problems.append(f"{len(missing)} missing: {_some(missing)}")
    unexpected = [name for name in got if name not in wanted]
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected: {_some(unexpected)}")
    wrong = [
        f"{name} wanted {tuple(wanted[name].shape)}, got {tuple(got[name].shape)}"
        for name in wanted
        if name in got and wanted[name].shape != got[name].shape
    ]
    if wrong:
        problems.append(f"{len(wrong)} of another shape: {_some(wrong)}")
    if problems:
        raise ValueError("the weights do not fit the network; tensors " + "; ".join(problems))


def vit_sizes(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Fields of `BackboneConfig` that follow from the tensors of a transformer.

    Args:
        tensors: a state dict.
        prefix: of the names of the transformer's tensors.

    Raises:
        ValueError: if it contains no such transformer.
    """
    blocks: dict[str, set[int]] = {}
    for name in tensors:
        match = _BLOCK.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if match:
            blocks.setdefault(match[2], set()).add(int(match[1]))
    D = shape_of(tensors, prefix + "cls_token")[-1]
    depth = 1 + max((max(found) for found in blocks.values()), default=-1)
    if not depth:
        raise ValueError(f"the weights have no tensors named {prefix}blocks.…")
    numbers = {number for found in blocks.values() for number in found}
    if depth > MAX_DEPTH or len(numbers) != depth:
        raise ValueError(
            f"wanted blocks 0, 1, 2, … of the transformer, at most {MAX_DEPTH}; the weights have"
            f" {len(numbers)} blocks with numbers up to {depth - 1}"
        )
    is_gated = "mlp.w12.weight" in blocks
    net = shape_of(tensors, f"{prefix}blocks.0.mlp." + ("w3.weight" if is_gated else "fc2.weight"))
    normed = blocks.get("attn.q_norm.weight", set())
    sizes = {
        "dim": D,
        "depth": depth,
        "ffn": "swiglu" if is_gated else "mlp",
        "ffn_hidden": net[1],
        "qknorm_start": min(normed, default=depth),
        "patch_size": shape_of(tensors, prefix + "patch_embed.proj.weight")[-1],
        "pos_grid": round((shape_of(tensors, prefix + "pos_embed")[1] - 1) ** 0.5),
        "stem_dim": len(tensors.get(prefix + "stem.levels.0.0.bias", ())),
        "has_matcher": prefix + "matcher.nowhere" in tensors,
    }
    if normed:
        head_dim = shape_of(tensors, f"{prefix}blocks.{min(normed)}.attn.q_norm.weight")[0]
        sizes["num_heads"] = D // head_dim
    return sizes


def _with_starts(seen: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Complete the sizes read from tensors by stored or default ones; they must not conflict."""
    start = seen["qknorm_start"]
    for key in ("dim", "depth", "ffn", "qknorm_start", "num_heads"):
        if key in given and key in seen and given[key] != seen[key]:
            raise ValueError(
                f"the stored configuration says {key} = {given[key]}, but the tensors have "
                f"{seen[key]}"
            )
    variant = next(
        (v for v in VARIANTS.values() if all(getattr(v, k) == seen[k] for k in ("dim", "depth"))),
        None,
    )
    usual: dict[str, Any] = {"alt_start": start, "rope_start": start}
    usual["num_heads"] = max(1, seen["dim"] // HEAD_DIM)
    if variant is not None:
        usual["out_layers"] = variant.out_layers
    fields = usual | given | seen
    if "out_layers" not in fields:
        raise ValueError(
            f"the weights have {seen['depth']} blocks of width {seen['dim']}, not a released size,"
            " and no stored configuration names the out_layers"
        )
    return fields


def _split_head(per_token: int, given: Mapping[str, Any]) -> tuple[int, int]:
    """Gaussians per token and SH degree that give the width G·P of the last layer."""
    possible = []
    for degree in (1, 0, 2, 3):  # most likely first
        size = GEOMETRY_PARAMETERS + 3 * (degree + 1) ** 2
        if per_token % size == 0:
            possible.append((per_token // size, degree))
    fitting = [
        (count, degree)
        for count, degree in possible
        if given.get("gaussians_per_token", count) == count
        and given.get("sh_degree", degree) == degree
    ]
    if not fitting:
        raise ValueError(
            f"the head's last layer has {per_token} outputs per token, which fits no "
            f"gaussians_per_prototype and sh_degree{' as stored' if possible else ''}; possible: "
            f"{possible or 'none'}"
        )
    usual = [pair for pair in fitting if pair[0] == _USUAL_GAUSSIANS_PER_TOKEN]
    return (usual or fitting)[0]


def shape_of(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """The shape of a tensor; if it is missing, the error says what the weights may be instead."""
    if name not in tensors:
        raise ValueError(_no_such_tensor(tensors, name))
    return tuple(tensors[name].shape)


def _no_such_tensor(tensors: Mapping[str, Tensor], name: str) -> str:
    if any(other.startswith(_DA3_PREFIX) for other in tensors):
        return (
            "these are the weights of Depth Anything 3: use `zipsplat.DepthAnything`; to train "
            "from them, convert them with `python -m splatfactory.models.encoders.dav3_encoder`"
        )
    if any(other.startswith("backbone.pretrained.") for other in tensors):
        return "these are backbone-only weights, meant to initialise training"
    return (
        f"these are not weights of ZipSplat: they lack {name}, but have {len(tensors)} others "
        f"({_some(list(tensors))})"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_AT_MOST])
    more = len(names) - _NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown
