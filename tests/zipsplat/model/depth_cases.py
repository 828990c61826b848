"""The golden cases of Depth Anything 3: weights and images by rule, arrays to compare with.

Rules and keys are described in tests/golden/da3/README.md.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.model.architecture import VARIANTS
from zipsplat.model.depth_head import HeadConfig
from zipsplat.model.depth_layout import FINAL_NORM_EPS, depth_network_from_tensors
from zipsplat.model.depth_network import DepthConfig, DepthNetwork, NestedDepthNetwork
from zipsplat.model.priors import Priors
from zipsplat.pose import Pose

FOLDER = Path(__file__).parents[2] / "golden" / "da3"
TOLERANCE = 5e-6
HEADS = {
    "da3-base": ("vitb", (5, 7, 9, 11), 128, (96, 192, 384, 768)),
    "da3-large": ("vitl", (11, 15, 19, 23), 256, (256, 512, 1024, 1024)),
    "da3-giant": ("vitg", (19, 27, 33, 39), 256, (256, 512, 1024, 1024)),
}


def formula_weight(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The weight of the golden rule for a name of the released files."""
    generator = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    noise = generator.standard_normal(shape, dtype=np.float32)
    last = name.rsplit(".", 1)[-1]
    if name.endswith("cam_dec.fc_fov.0.bias"):
        return np.float32(0.9) + np.float32(0.02) * noise
    if last == "gamma":
        return np.float32(0.1) * (1 + np.float32(0.5) * noise)
    if last == "bias":
        return np.float32(0.02) * noise
    if last in ("cls_token", "camera_token", "pos_embed"):
        return np.float32(0.2) * noise
    if len(shape) == 1:
        return 1 + np.float32(0.1) * noise
    is_transposed = re.search(r"resize_layers\.[01]\.", name)
    fan = shape[0] if is_transposed else int(np.prod(shape[1:]))
    return noise * np.float32(1 / np.sqrt(fan))


def released_config(kind: str) -> DepthConfig:
    """The architecture of an any-view network."""
    variant, out_layers, features, channels = HEADS[kind]
    backbone = replace(
        VARIANTS[variant],
        out_layers=out_layers,
        picks_reference=True,
        final_norm_eps=FINAL_NORM_EPS,
    )
    return DepthConfig(backbone, HeadConfig(2 * backbone.dim, features, channels, True), True)


def released_shapes(kind: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released file, or of the reduced metric and nested networks."""
    if kind == "nested":
        parts = {"da3-small": "model.da3.", "metric-small": "model.da3_metric."}
        return {
            name.replace("model.", prefix, 1): shape
            for part, prefix in parts.items()
            for name, shape in released_shapes(part).items()
        }
    stored = json.loads((FOLDER / "shapes.json").read_text(encoding="utf-8"))
    if kind in stored:
        return {name: tuple(shape) for name, shape in stored[kind].items()}
    with torch.device("meta"):
        state = DepthNetwork(released_config(kind)).state_dict()
    return {
        "model." + re.sub(r"^backbone\.", "backbone.pretrained.", name): tuple(value.shape)
        for name, value in state.items()
    }


def formula_tensors(kind: str) -> dict[str, Tensor]:
    """The weights of the golden rule by the names of the released files."""
    return {
        name: torch.from_numpy(formula_weight(name, shape))
        for name, shape in released_shapes(kind).items()
    }


@cache
def _kept_network(kind: str) -> DepthNetwork | NestedDepthNetwork:
    return depth_network_from_tensors(formula_tensors(kind), {}).requires_grad_(False)


def formula_network(kind: str) -> DepthNetwork | NestedDepthNetwork:
    """A network with the weights of the golden rule; the smaller ones are made once."""
    if kind in ("da3-small", "metric-small"):
        return _kept_network(kind)
    return depth_network_from_tensors(formula_tensors(kind), {}).requires_grad_(False)


class DepthCase:
    """One golden file."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays: dict[str, Any] = {key: file[key] for key in file.files}
        self.kind = str(self.arrays["kind"])
        self.loose = {"out_depth"} if name.endswith("280x504") else set()

    def images(self) -> Tensor:
        """(1, S, 3, H, W) in [0, 1]."""
        _, S, _, H, W = self.arrays["images_shape"].tolist()
        generator = np.random.default_rng(int(self.arrays["image_seed"]))
        coarse = generator.integers(40, 216, (S, 3, H // 14 + 1, W // 14 + 1))
        coarse = coarse.repeat(14, axis=2).repeat(14, axis=3)[:, :, :H, :W]
        levels = (coarse + generator.integers(-40, 41, (S, 3, H, W))).astype(np.uint8)[None]
        assert zlib.crc32(levels.tobytes()) == self.arrays["images_crc32"]
        return torch.from_numpy(levels.astype(np.float32) / np.float32(255))

    def given(self) -> tuple[Camera, Pose] | None:
        """(1, S) known cameras and camera-to-world poses of the images."""
        if "given_w2c" not in self.arrays:
            return None
        H, W = self.arrays["images_shape"].tolist()[-2:]
        cameras = Camera.from_K(torch.from_numpy(self.arrays["given_K"]), W, H)
        return cameras, Pose.from_4x4mat(torch.from_numpy(self.arrays["given_w2c"])).inv()

    def priors(self) -> Priors | None:
        """The priors that the network gets."""
        known = self.given()
        if known is None:
            return None
        poses = torch.from_numpy(self.arrays["normalized_w2c"])
        return Priors.from_transforms(known[0], Pose.from_4x4mat(poses).inv())

    def check(self, key: str, got: Tensor | None) -> None:
        """Assert that a tensor is the stored one within the tolerance."""
        if key not in self.arrays:
            assert got is None, f"{key} is not in the file"
            return
        assert got is not None, key
        wanted = self.arrays[key].astype(np.float64)
        values = got.detach().double().numpy()
        if f"{key}__stride" in self.arrays:
            assert values.shape == tuple(self.arrays[f"{key}__shape"])
            values = values.ravel()[:: int(self.arrays[f"{key}__stride"])]
        assert values.shape == wanted.shape, (key, values.shape, wanted.shape)
        error = np.linalg.norm(values - wanted) / np.linalg.norm(wanted)
        limit = 2 * TOLERANCE if key in self.loose else TOLERANCE
        assert error <= limit, f"{key} is off by {error:.2e}"
