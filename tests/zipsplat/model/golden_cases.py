"""The golden cases of the network: weights and images by rule, arrays to compare with.

Rules and keys are described in tests/golden/model/README.md.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.priors import Priors
from zipsplat.pose import Pose

FOLDER = Path(__file__).parents[2] / "golden" / "model"
TOLERANCE = 5e-6
_PROBED = (".qkv.", ".q_proj.", ".kv_proj.", "patch_embed.proj", "pose_branch.fc2")
_TOKENS = ("cls_token", "camera_token", "pos_embed")


def formula_weight(name: str, shape: tuple[int, ...], seed: int, eps_probe: bool) -> np.ndarray:
    """The weight of the golden rule for a state-dict entry."""
    generator = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    noise = generator.standard_normal(shape, dtype=np.float32)
    last = name.rsplit(".", 1)[-1]
    if last == "gamma":
        value = np.float32(0.1) * (1 + np.float32(0.5) * noise)
    elif last == "bias":
        value = np.float32(0.02) * noise
    elif last in _TOKENS:
        value = np.float32(0.2) * noise
    elif len(shape) == 1:
        value = 1 + np.float32(0.1) * noise
    else:
        value = noise * np.float32(1 / np.sqrt(np.prod(shape[1:])))
    return value * np.float32(0.01) if eps_probe and _is_probed(name) else value


def _is_probed(name: str) -> bool:
    return (
        name.rsplit(".", 1)[-1] in _TOKENS
        or any(part in name for part in _PROBED)
        or (name.startswith("backbone.backbone.blocks") and name.endswith("gamma"))
        or name.startswith(("pre_norm_", "color_embed."))
    )


def formula_network(
    config: ZipSplatConfig, seed: int = 0, eps_probe: bool = False
) -> ZipSplatNetwork:
    """A network with the weights of the golden rule."""
    with torch.device("meta"):
        network = ZipSplatNetwork(config)
    state = {
        name: torch.from_numpy(formula_weight(name, tuple(value.shape), seed, eps_probe))
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


class GoldenCase:
    """One golden file."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays: dict[str, Any] = {key: file[key] for key in file.files}
        variant = str(self.arrays["vit_name"])
        out_layers = tuple(self.arrays["out_layers"].tolist())
        self.config = ZipSplatConfig.variant(variant, out_layers=out_layers)

    def network(self) -> ZipSplatNetwork:
        seed, probe = int(self.arrays["weight_seed"]), bool(self.arrays["eps_probe"])
        return formula_network(self.config, seed, probe)

    def images(self) -> Tensor:
        levels = self.arrays["images_u8"] if "images_u8" in self.arrays else self._rendered()
        assert zlib.crc32(np.ascontiguousarray(levels).tobytes()) == self.arrays["images_crc32"]
        return torch.from_numpy(levels.astype(np.float32) / np.float32(255))

    def _rendered(self) -> np.ndarray:
        B, V, _, H, W = self.arrays["images_shape"].tolist()
        generator = np.random.default_rng(int(self.arrays["image_seed"]))
        coarse = generator.integers(40, 216, (B * V, 3, H // 14 + 1, W // 14 + 1))
        fine = coarse.repeat(14, axis=2).repeat(14, axis=3)[:, :, :H, :W]
        noisy = fine + generator.integers(-40, 41, (B * V, 3, H, W))
        return noisy.astype(np.uint8).reshape(B, V, 3, H, W)

    def priors(self) -> Priors | None:
        if "cameras" not in self.arrays:
            return None
        cameras = Camera.from_packed(torch.from_numpy(self.arrays["cameras"]))
        poses = Pose.from_packed(torch.from_numpy(self.arrays["poses"]))
        return Priors.from_cameras(cameras, poses)

    def groups(self) -> list[str]:
        """Prefixes of the compressions in the file, as "c050"."""
        return sorted(key[:4] for key in self.arrays if key.endswith("_compression"))

    def error(self, key: str, got: Tensor) -> float:
        """Relative L2 distance of a tensor from the stored array, which may be subsampled."""
        wanted = self.arrays[key].astype(np.float64)
        values = got.detach().double().numpy()
        if f"{key}__stride" in self.arrays:
            assert values.shape == tuple(self.arrays[f"{key}__shape"])
            values = values.ravel()[:: int(self.arrays[f"{key}__stride"])]
        assert values.shape == wanted.shape, (key, values.shape, wanted.shape)
        return float(np.linalg.norm(values - wanted) / np.linalg.norm(wanted))

    def check(self, key: str, got: Tensor) -> None:
        """Assert that a tensor is the stored one within the tolerance."""
        error = self.error(key, got)
        assert error <= TOLERANCE, f"{key} is off by {error:.2e}"
