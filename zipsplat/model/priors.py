"""Camera priors: known cameras as tokens for the backbone.

Letters: B scenes, V views, D width.

The encoder is that of Depth Anything 3. One convention is ZipSplat's own: it encodes the transform
from world to camera coordinates (Depth Anything 3 encodes camera to world).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from zipsplat.camera import Camera
from zipsplat.model.layers import Block, Mlp, without_autocast
from zipsplat.pose import Pose
from zipsplat.structs import TensorStruct

PRIOR_SIZE = 9
NORM_EPS = 1e-5
NUM_BLOCKS = 4
MLP_RATIO = 4


@dataclass(frozen=True)
class Priors(TensorStruct):
    """Known cameras of the views of a scene.

    Args:
        encoding: (..., V, 9) per view: translation (3) and quaternion xyzw (4) of the transform
            from world to camera coordinates, then the vertical and the horizontal field of view in
            radians.
    """

    encoding: Tensor
    event_dims: ClassVar[Mapping[str, int]] = {"encoding": 1}

    @classmethod
    def from_cameras(cls, cameras: Camera, poses: Pose) -> Priors:
        """Encode cameras and camera-to-world poses of equal batch shape, computed in float32.

        The network was trained with poses relative to the first view, and with scenes scaled so
        that the median distance of their points from the first camera is 1.
        """
        with without_autocast(poses.t.device):
            camera_from_world = poses.to(torch.float32).inv()
        return cls.from_transforms(cameras, camera_from_world)

    @classmethod
    def from_transforms(cls, cameras: Camera, transforms: Pose) -> Priors:
        """Encode cameras and transforms as they are, computed in float32.

        Depth Anything 3 encodes the transform from camera to world coordinates.
        """
        transforms, cameras = transforms.to(torch.float32), cameras.to(torch.float32)
        quat_xyzw = transforms.quat.roll(-1, dims=-1)
        fov = torch.stack((cameras.vfov, cameras.hfov), dim=-1)
        return cls(torch.cat((transforms.t, quat_xyzw, fov), dim=-1))


class CameraEncoder(nn.Module):
    """One token per view from its prior; the views of a scene attend to each other.

    Args:
        dim: width D of the tokens.
        num_heads: attention heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.pose_branch = Mlp(PRIOR_SIZE, dim // 2, dim)
        self.token_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.trunk = nn.ModuleList(
            Block(dim, num_heads, Mlp(dim, MLP_RATIO * dim), qk_norm=False, eps=NORM_EPS)
            for _ in range(NUM_BLOCKS)
        )
        self.trunk_norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, priors: Priors) -> Tensor:
        """Tokens (B, V, D) of priors (B, V)."""
        x = self.token_norm(self.pose_branch(priors.encoding.to(self.token_norm.weight.dtype)))
        for block in self.trunk:
            x = block(x)
        out: Tensor = self.trunk_norm(x)
        return out
