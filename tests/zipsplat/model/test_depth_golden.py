"""Depth Anything 3 against numbers of the published network (tests/golden/da3/README.md)."""

from __future__ import annotations

import pytest
import torch

from tests.zipsplat.model.depth_cases import FOLDER, DepthCase, formula_network
from zipsplat.model.depth_network import DepthNetwork, NestedDepthNetwork
from zipsplat.model.reference_view import reference_view

NAMES = sorted(path.stem for path in FOLDER.glob("*_v*.npz"))
CASES = [pytest.param(name, marks=pytest.mark.slow) if "large" in name else name for name in NAMES]


def test_every_case_is_tested() -> None:
    kinds = [DepthCase(name).kind for name in NAMES]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "da3-small": 6, "da3-base": 1, "da3-large": 1, "metric-small": 1, "nested": 2,
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_stage_by_stage_and_whole(name: str) -> None:
    case = DepthCase(name)
    network = formula_network(case.kind)
    inner = network.da3 if isinstance(network, NestedDepthNetwork) else network
    images, priors = case.images(), case.priors()
    if priors is not None:
        assert inner.cam_enc is not None
        case.check("given_camera_token", inner.cam_enc(priors))
    _check_reference(case, inner, images)
    layers = inner.tokens(images, priors)
    for index, layer in enumerate(reversed(layers)):
        case.check(f"feature_{index}", layer.patches)
        case.check(f"camera_feature_{index}", layer.special)
    _, _, _, H, W = images.shape
    maps = inner.dense(layers, (H, W), with_rays=True)
    case.check("head_depth", maps.depth)
    case.check("head_depth_conf", maps.confidence)
    case.check("head_ray", maps.rays)
    case.check("head_ray_conf", maps.ray_confidence)
    case.check("head_sky", maps.sky)
    if inner.cam_dec is not None:
        case.check("pose_encoding", inner.cam_dec(layers[0].special))
    out = network(images, priors)
    case.check("out_depth", out.depth)
    case.check("out_depth_conf", out.confidence)
    case.check("out_scale_factor", None if out.scale is None else out.scale[0])
    if case.kind != "nested":  # where the published network keeps it to itself
        case.check("out_sky", out.sky)
    if out.cameras is not None and out.poses is not None:
        case.check("out_intrinsics", out.cameras.K)
        case.check("out_extrinsics", out.poses.inv().Rt[..., :3, :])


def _check_reference(case: DepthCase, network: DepthNetwork, images: torch.Tensor) -> None:
    """The chosen view, where one is chosen, is the published one."""
    if "reference_view" not in case.arrays:
        return
    seen: list[torch.Tensor] = []
    block = network.backbone.blocks[network.config.backbone.alt_start - 2]
    hook = block.register_forward_hook(lambda _module, _args, output: seen.append(output[:, 0]))
    network.tokens(images)
    hook.remove()
    chosen = reference_view(seen[0].unflatten(0, images.shape[:2]))
    assert chosen.tolist() == case.arrays["reference_view"].tolist()
