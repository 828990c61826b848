"""Fusion: scene tokens gather information from all tokens of each layer.

Letters: B scenes, N tokens of a scene, M kept tokens, D width, L depths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5


def prepare(
    tokens: Tensor, norm_local: nn.Module, norm_global: nn.Module, mix: nn.Module
) -> Tensor:
    """Merge the two halves of a backbone's output to one token per patch.

    Args:
        tokens: (B, V, T, 2·D), the view's own half first.
        norm_local: LayerNorm of the first half.
        norm_global: LayerNorm of the second half.
        mix: linear map 2·D → D.

    Returns:
        (B, N, D) with N = V·T, view by view: the mixed halves plus their mean.
    """
    own, shared = tokens.flatten(1, 2).chunk(2, dim=-1)
    own, shared = norm_local(own), norm_global(shared)
    out: Tensor = mix(torch.cat((own, shared), dim=-1)) + (own + shared) / 2
    return out


def gather(tokens: Tensor, indices: Tensor) -> Tensor:
    """Tokens (B, M, D) at `indices` (B, M) of (B, N, D)."""
    return tokens.gather(1, indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def fuse(
    prepared: Sequence[Tensor],
    indices: Tensor,
    cross_blocks: Iterable[Callable[[Tensor, Tensor], Tensor]],
    self_blocks: Iterable[Callable[[Tensor], Tensor]],
) -> Tensor:
    """Fuse the prepared tokens of all layers to scene tokens.

    Starts from the selected tokens of the deepest layer. For each layer, cross-attention from its
    selected tokens to all its tokens is added; then the scene tokens attend to each other.

    Args:
        prepared: L tensors (B, N, D), deepest first.
        indices: (B, M) of the kept tokens.
        cross_blocks: L modules, query and context to an update.
        self_blocks: L modules, tokens to tokens.

    Returns:
        (B, M, D).
    """
    scene = gather(prepared[0], indices)
    for tokens, cross, within in zip(prepared, cross_blocks, self_blocks, strict=True):
        scene = within(scene + cross(gather(tokens, indices), tokens))
    return scene
