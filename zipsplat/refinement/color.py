"""Exposure and white balance that differ between photos: an affine map of colours for each.

The mean of the maps is held at the identity, so that they cannot take over the scene's own colours.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_RATE = 2e-3
_LEFT_AT_THE_END = 0.1  # share of the rate
_LEAST_EIGENVALUE = 1e-6


def apply(map: Tensor, picture: Tensor) -> Tensor:
    """Change the colours of a picture.

    Args:
        map: (3, 4) matrix and offset.
        picture: (3, H, W).
    """
    return torch.einsum("ij,jhw->ihw", map[:, :3], picture) + map[:, 3, None, None]


def best_map(drawn: Tensor, true: Tensor) -> Tensor:
    """The affine map (3, 4) that brings a picture closest to another, by least squares.

    Args:
        drawn: (3, H, W).
        true: (3, H, W).
    """
    source = torch.cat((drawn.flatten(1), torch.ones_like(drawn[:1]).flatten(1))).double()
    square = source @ source.T / source.shape[1]
    square = square + _LEAST_EIGENVALUE * torch.eye(4, dtype=square.dtype, device=square.device)
    identity = torch.eye(3, 4, dtype=square.dtype, device=square.device)
    mixed = true.flatten(1).double() @ source.T / source.shape[1] + _LEAST_EIGENVALUE * identity
    best: Tensor = torch.linalg.solve(square, mixed, left=False)
    return best.to(drawn.dtype)


class ColorMaps:
    """Affine maps of some photos while they are optimised; those of others are the identity.

    Args:
        indices: of the photos.
        like: whose dtype and device they have.
    """

    def __init__(self, indices: Iterable[int], like: Tensor) -> None:
        self._identity = torch.eye(3, 4, dtype=like.dtype, device=like.device)
        self._maps = {index: self._identity.clone().requires_grad_() for index in indices}
        self._adam = torch.optim.Adam(list(self._maps.values()), lr=_RATE, eps=1e-15)

    def __getitem__(self, index: int) -> Tensor:
        """The map (3, 4) of a photo, differentiable."""
        return self._maps.get(index, self._identity)

    def step(self, share: float) -> None:
        """Move along the gradients there are; `share` is that of the refinement that is done."""
        self._adam.param_groups[0]["lr"] = _RATE * _LEFT_AT_THE_END**share
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            excess = torch.stack(list(self._maps.values())).mean(dim=0) - self._identity
            for map in self._maps.values():
                map -= excess
