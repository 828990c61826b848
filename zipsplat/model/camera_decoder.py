"""Cameras and poses from the special tokens of the deepest layer.

Letters: B scenes, V views, H W pixels, C width of the tokens (twice that of the backbone).

The decoder is that of Depth Anything 3 (Lin et al., 2025), the inverse of its camera encoder in
`priors.py`. Parameter names are those of its released weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zipsplat.camera import Camera
from zipsplat.model.layers import without_autocast
from zipsplat.pose import Pose
from zipsplat.rotations import matrix_from_quat

MIN_TAN = 1e-6
"""Smallest tangent of half a field of view, so that focal lengths stay finite."""


class CameraDecoder(nn.Module):
    """Decodes tokens (B, V, C) to camera encodings (B, V, 9).

    Args:
        dim: width C of the tokens.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU()
        )
        self.fc_t = nn.Linear(dim, 3)
        self.fc_qvec = nn.Linear(dim, 4)
        self.fc_fov = nn.Sequential(nn.Linear(dim, 2), nn.ReLU())

    def forward(self, tokens: Tensor) -> Tensor:
        """Encodings (B, V, 9) for `decode_cameras`, in the precision of the weights."""
        with without_autocast(tokens.device):
            hidden = self.backbone(tokens.to(self.fc_t.weight.dtype))
            return torch.cat((self.fc_t(hidden), self.fc_qvec(hidden), self.fc_fov(hidden)), -1)


def decode_cameras(encoding: Tensor, height: int, width: int) -> tuple[Camera, Pose]:
    """Decode cameras and camera-to-world poses.

    Args:
        encoding: (..., 9) per view: translation (3) and quaternion xyzw (4) of the transform from
            camera to world coordinates, vertical and horizontal field of view in radians.
        height: of the images in pixels.
        width: of the images in pixels.

    Returns:
        Both of batch shape (...), in float32; principal points are at the image centre.
    """
    encoding = encoding.float()
    t, quat, fov = encoding.split((3, 4, 2), dim=-1)
    size = encoding.new_tensor([width, height]).expand(*encoding.shape[:-1], 2)
    focal = size / 2 / torch.tan(fov.flip(-1) / 2).clamp_min(MIN_TAN)
    return Camera(size, focal, size / 2), Pose(matrix_from_quat(quat.roll(1, dims=-1)), t)
