"""Depth supervision, and point maps from depth."""

from __future__ import annotations

import torch
from torch import Tensor

from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig


def depth_loss(supervision: Supervision) -> Tensor:
    """`depth_error` of the rendered depth, (B,); 0 in a batch without any depth."""
    rendered, true = supervision.rendered.depth, supervision.views.depths
    return (
        depth_error(rendered, true)
        if bool((true >= 0).any())
        else rendered.new_zeros(len(rendered))
    )


def depth_error(rendered: Tensor, true: Tensor) -> Tensor:
    """Mean |D̂ − D| over the valid pixels of all views, 0 for a scene without any.

    Args:
        rendered: (B, V, H, W) rendered depth Σ w·z, not divided by alpha.
        true: (B, V, H, W) depth; negative where it is unknown.

    Returns:
        (B,).
    """
    is_valid = true >= 0
    # Mask before multiplying: 0 · NaN would still poison the gradient.
    error = torch.where(is_valid, rendered - true, 0.0).abs().flatten(1).sum(dim=1)
    return error / is_valid.flatten(1).sum(dim=1).clamp(min=1)


def points_from_depth(depth: Tensor, K: Tensor, world_from_camera: Tensor) -> Tensor:
    """Unproject every pixel, in float32.

    Pixels are at integer coordinates u = 0 … W−1, v = 0 … H−1, half a pixel off the renderer's
    centres: the released model was trained this way, and so is the scale of every scene defined.

    Args:
        depth: (..., H, W) z depth.
        K: (..., 3, 3) intrinsics in pixels.
        world_from_camera: (..., 4, 4).

    Returns:
        (..., H, W, 3) points in world units.
    """
    with torch.autocast(depth.device.type, enabled=False):
        z = depth.float()
        K, world_from_camera = K.float(), world_from_camera.float()
        H, W = z.shape[-2:]
        u = torch.arange(W, device=z.device, dtype=z.dtype)
        v = torch.arange(H, device=z.device, dtype=z.dtype)[:, None]
        x = (u - K[..., 0, 2, None, None]) / K[..., 0, 0, None, None] * z
        y = (v - K[..., 1, 2, None, None]) / K[..., 1, 1, None, None] * z
        camera_points = torch.stack([x, y, z], dim=-1)
        R, t = world_from_camera[..., :3, :3], world_from_camera[..., :3, 3]
        return torch.einsum("...ij,...hwj->...hwi", R, camera_points) + t[..., None, None, :]


PLUGIN = LossKind(HeadConfig, lambda _: depth_loss)
