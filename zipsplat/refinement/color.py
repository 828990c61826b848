"""Per-photo exposure and white balance as affine colour maps.

The mean of the maps is kept at the identity, so that they cannot absorb the scene's own colours.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_RATE = 2e-3
_LEFT_AT_THE_END = 0.1  # of the rate; it decays exponentially
_LEAST_EIGENVALUE = 1e-6


def apply(map: Tensor, image: Tensor) -> Tensor:
    """Apply an affine colour map to an image.

    Args:
        map: (3, 4) matrix and offset.
        image: (3, H, W).
    """
    return torch.einsum("ij,jhw->ihw", map[:, :3], image) + map[:, 3, None, None]


def best_map(rendered: Tensor, true: Tensor) -> Tensor:
    """The affine colour map (3, 4) from a rendered image to the true one, by least squares.

    Args:
        rendered: (3, H, W).
        true: (3, H, W).
    """
    source = torch.cat((rendered.flatten(1), torch.ones_like(rendered[:1]).flatten(1))).double()
    square = source @ source.T / source.shape[1]
    square = square + _LEAST_EIGENVALUE * torch.eye(4, dtype=square.dtype, device=square.device)
    identity = torch.eye(3, 4, dtype=square.dtype, device=square.device)
    mixed = true.flatten(1).double() @ source.T / source.shape[1] + _LEAST_EIGENVALUE * identity
    best: Tensor = torch.linalg.solve(square, mixed, left=False)
    return best.to(rendered.dtype)


class ColorMaps:
    """Optimised affine colour maps of some photos; all other photos have the identity.

    Args:
        indices: of the photos.
        like: gives dtype and device.
    """

    def __init__(self, indices: Iterable[int], like: Tensor) -> None:
        self._identity = torch.eye(3, 4, dtype=like.dtype, device=like.device)
        self._maps = {index: self._identity.clone().requires_grad_() for index in indices}
        self._adam = torch.optim.Adam(list(self._maps.values()), lr=_RATE, eps=1e-15)

    def __getitem__(self, index: int) -> Tensor:
        """The map (3, 4) of a photo, differentiable."""
        return self._maps.get(index, self._identity)

    def step(self, share: float) -> None:
        """Take an Adam step; `share` of the refinement is done."""
        self._adam.param_groups[0]["lr"] = _RATE * _LEFT_AT_THE_END**share
        self._adam.step()
        self._adam.zero_grad()
        with torch.no_grad():
            excess = torch.stack(list(self._maps.values())).mean(dim=0) - self._identity
            for map in self._maps.values():
                map -= excess
