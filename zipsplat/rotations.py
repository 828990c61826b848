"""Rotations: unit quaternions in wxyz order, 3×3 matrices, and cameras that look at a point."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_SHORT, _LONG = 1e-9, 1e9


def normalize_quat(quat: Tensor) -> Tensor:
    """Scale quaternions to length one.

    Args:
        quat: (..., 4), any finite length; an exact zero stays zero.
    """
    largest = quat.detach().abs().amax(dim=-1, keepdim=True)
    # Squares of these would overflow or underflow. All others are not scaled, to round only once.
    is_extreme = (largest > _LONG) | ((largest > 0) & (largest < _SHORT))
    quat = quat / torch.where(is_extreme, largest, torch.ones_like(largest))
    return functional.normalize(quat, dim=-1, eps=1e-12)


def matrix_from_quat(quat: Tensor) -> Tensor:
    """Rotation matrices of quaternions.

    Args:
        quat: (..., 4) wxyz, of any non-zero length.

    Returns:
        (..., 3, 3).
    """
    w, x, y, z = normalize_quat(quat).unbind(-1)
    entries = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(entries, dim=-1).reshape(*quat.shape[:-1], 3, 3)


def quat_from_matrix(matrix: Tensor) -> Tensor:
    """Quaternions of rotation matrices, with w ≥ 0.

    The largest of the four components is computed from the diagonal, and the others by division by
    it, which is accurate for every angle (Shepperd, "Quaternion from Rotation Matrix", 1978).

    Args:
        matrix: (..., 3, 3), orthonormal and right-handed.

    Returns:
        (..., 4) wxyz.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    squares = torch.stack(  # four times the squared w, x, y, z
        (1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22),
        dim=-1,
    )
    ww, xx, yy, zz = squares.unbind(-1)
    rows = torch.stack(  # row i is the quaternion times twice its i-th component, twice
        (
            torch.stack((ww, m21 - m12, m02 - m20, m10 - m01), dim=-1),
            torch.stack((m21 - m12, xx, m10 + m01, m02 + m20), dim=-1),
            torch.stack((m02 - m20, m10 + m01, yy, m12 + m21), dim=-1),
            torch.stack((m10 - m01, m20 + m02, m21 + m12, zz), dim=-1),
        ),
        dim=-2,
    )
    largest = squares.argmax(dim=-1, keepdim=True)
    quat = torch.take_along_dim(rows, largest.unsqueeze(-1), dim=-2).squeeze(-2)
    size = torch.take_along_dim(squares, largest, dim=-1).clamp_min(0.01).sqrt()
    quat = quat / (2 * size)
    return torch.where(quat[..., :1] < 0, -quat, quat)


def multiply_quats(first: Tensor, second: Tensor) -> Tensor:
    """Hamilton product: the rotation `second`, then `first`.

    Args:
        first: (..., 4) wxyz.
        second: (..., 4) wxyz.
    """
    w1, x1, y1, z1 = first.unbind(-1)
    w2, x2, y2, z2 = second.unbind(-1)
    return torch.stack(
        (
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ),
        dim=-1,
    )


def look_at(position: Tensor, target: Tensor, up: Tensor | None = None) -> Tensor:
    """Camera axes that look from a position to a target, without roll.

    Args:
        position: (..., 3) camera centres.
        target: (..., 3) points that the cameras look at.
        up: (..., 3) world direction that points up in the image; default (0, −1, 0), since y points
            down here.

    Returns:
        (..., 3, 3) world-from-camera rotations, columns right, down, forward. Where the view is
        along `up`, right is the x axis.
    """
    up = position.new_tensor([0.0, -1.0, 0.0]) if up is None else up
    forward = functional.normalize(target - position, dim=-1)
    right = torch.linalg.cross(forward, up.expand_as(forward))
    length = right.norm(dim=-1, keepdim=True)
    x_axis = torch.zeros_like(right)
    x_axis[..., 0] = 1
    right = torch.where(length < 1e-6, x_axis, right / length.clamp_min(1e-6))
    down = functional.normalize(torch.linalg.cross(forward, right), dim=-1)
    return torch.stack((right, down, forward), dim=-1)
