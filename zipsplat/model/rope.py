"""Rotary position embedding in two dimensions.

Letters: N tokens, T patches of a view, V views, C channels of a head.

Queries and keys are rotated by angles proportional to their token's row and column, so that their
product depends only on the difference of positions (Su et al., "RoFormer", 2021; in 2-D as in
Heo et al., "Rotary Position Embedding for Vision Transformer", 2024). The first half of a head's
channels follows the row, the second the column. Within a half of c channels, channels j and
j + c/2 form a plane that is rotated by `position · 100^(−2j/c)`.

The tables are computed once per forward pass, from shapes alone, without device synchronisation or
caches that could be on another device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BASE_FREQUENCY = 100.0


@dataclass(frozen=True)
class Rotation:
    """Rotates the heads of each token by the token's position.

    Args:
        cos: (N, 1, 2, 2, C/4) cosines; the axes of length two are row/column and plane.
        sin: the sines likewise, negative for the plane's first channel.
    """

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Rotate queries or keys.

        Args:
            x: (..., k·N, heads, C), N tokens repeated k times at the same positions.

        Returns:
            The same shape.
        """
        planes = x.unflatten(-1, (2, 2, -1)).unflatten(-5, (-1, len(self.cos)))
        turned = planes * self.cos + planes.flip(-2) * self.sin
        out: Tensor = turned.flatten(-3).flatten(-4, -3)
        return out

    def to(self, dtype: torch.dtype) -> Rotation:
        """The same rotation in another precision."""
        return Rotation(self.cos.to(dtype), self.sin.to(dtype))


def rotation(positions: Tensor, head_dim: int) -> Rotation:
    """The rotation for tokens at given positions.

    Args:
        positions: (N, 2) row and column of each token, float32.
        head_dim: channels of a head, a multiple of four.
    """
    if head_dim % 4:
        raise ValueError(f"rotary positions need heads of a multiple of 4 channels, got {head_dim}")
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32) / half
    angles = positions.unsqueeze(-1) * BASE_FREQUENCY**-exponents  # (N, 2, C/4)
    cos, sin = angles.cos(), angles.sin()
    return Rotation(
        torch.stack((cos, cos), dim=-2).unsqueeze(1), torch.stack((-sin, sin), dim=-2).unsqueeze(1)
    )


def local_positions(rows: int, columns: int, device: torch.device) -> Tensor:
    """Positions (1 + T, 2) in attention within a view: 0 for the special token, then from 1 on."""
    grid = torch.stack(
        torch.meshgrid(
            torch.arange(1, rows + 1, device=device, dtype=torch.float32),
            torch.arange(1, columns + 1, device=device, dtype=torch.float32),
            indexing="ij",
        ),
        dim=-1,
    )
    return torch.cat((torch.zeros(1, 2, device=device), grid.flatten(0, 1)))


def global_positions(num_patches: int, device: torch.device) -> Tensor:
    """Positions (1 + T, 2) in attention across views: 0 for special tokens, 1 for every patch.

    The positions are equal in all views, so the rotation tells special tokens from patches and
    nothing else.
    """
    positions = torch.ones(1 + num_patches, 2, device=device)
    positions[0] = 0
    return positions
