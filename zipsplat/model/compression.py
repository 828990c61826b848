"""Token selection: the compression knob.

Letters: B scenes, N tokens of a scene (V views times T patches), M selected tokens, D width.

The network was trained with k-means: clusters of the deepest tokens, each represented by the token
nearest to its centre. The number of iterations, the initial tokens and the handling of empty
clusters follow the released model, so that the same tokens are selected.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zipsplat.model.layers import without_autocast

NUM_ITERATIONS = 5
# Distances per block and scene: 16 MB in float32, which also suits CPU caches.
MAX_DISTANCES = 1 << 22

Selector = Callable[[Tensor, int], Tensor]


def check_compression(compression: float) -> float:
    """The share of tokens to keep as a float.

    Raises:
        ValueError: if it is not in (0, 1].
    """
    if not 0 < compression <= 1:  # also refuses NaN
        raise ValueError(
            f"compression must be in (0, 1], got {compression}; use 1.0 to keep every token, "
            "0.25 for a quarter of them"
        )
    return float(compression)


def num_kept(num_tokens: int, compression: float) -> int:
    """How many of `num_tokens` tokens to keep, at least one."""
    return max(1, int(num_tokens * check_compression(compression)))


def evenly_spaced(num_tokens: int, num_kept: int, device: torch.device) -> Tensor:
    """Indices (M,) of tokens at equal steps from the first to the last.

    Computed in float32 and rounded half to even as in the released model: exact arithmetic would
    choose other tokens for some sizes.
    """
    return torch.linspace(0, num_tokens - 1, num_kept, device=device).round().long()


@torch.no_grad()
def select_kmeans(tokens: Tensor, num_kept: int) -> Tensor:
    """For each of M clusters, the token nearest to its centre.

    Args:
        tokens: (B, N, D).
        num_kept: M, at most N; if equal, every token is kept in order.

    Returns:
        (B, M) indices into N; repetitions are possible.
    """
    B, N = tokens.shape[:2]
    if num_kept >= N:
        return torch.arange(N, device=tokens.device).expand(B, N)
    with without_autocast(tokens.device):
        tokens = tokens.detach().float()
        centroids = kmeans(tokens, num_kept)[0]
        return nearest(centroids, tokens)


def select_stride(tokens: Tensor, num_kept: int) -> Tensor:
    """Select tokens at equal steps, the same in every scene: (B, M) indices."""
    indices = evenly_spaced(tokens.shape[1], min(num_kept, tokens.shape[1]), tokens.device)
    return indices.expand(tokens.shape[0], -1)


def select_random(
    tokens: Tensor, num_kept: int, generator: torch.Generator | None = None
) -> Tensor:
    """Select distinct random tokens for each scene, in ascending order: (B, M) indices."""
    B, N = tokens.shape[:2]
    device = tokens.device if generator is None else generator.device
    keys = torch.rand(B, N, generator=generator, device=device)
    return keys.argsort(dim=1)[:, :num_kept].sort(dim=1).values.to(tokens.device)


SELECTORS: dict[str, Selector] = {
    "kmeans": select_kmeans,
    "stride": select_stride,
    "random": select_random,
}


def kmeans(
    tokens: Tensor, num_clusters: int, num_iterations: int = NUM_ITERATIONS
) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm from evenly spaced tokens, with a fixed number of iterations.

    A cluster that loses all its members moves to the origin, as in the released model.

    Args:
        tokens: (B, N, D) float32.
        num_clusters: M.
        num_iterations: rounds of assignment and averaging.

    Returns:
        Centroids (B, M, D), and the assignment (B, N) that they are means of.
    """
    N, D = tokens.shape[1:]
    centroids = tokens[:, evenly_spaced(N, num_clusters, tokens.device)]
    ones = tokens.new_ones(tokens.shape[:2])
    assignment = torch.zeros(tokens.shape[:2], dtype=torch.long, device=tokens.device)
    for _ in range(num_iterations):
        assignment = nearest(tokens, centroids)
        counts = tokens.new_zeros(centroids.shape[:2]).scatter_add_(1, assignment, ones)
        sums = torch.zeros_like(centroids).scatter_add_(
            1, assignment.unsqueeze(-1).expand(-1, -1, D), tokens
        )
        centroids = sums / counts.clamp_min(1).unsqueeze(-1)
    return centroids, assignment


def nearest(queries: Tensor, points: Tensor) -> Tensor:
    """The nearest point to each query by Euclidean distance; the first one of equals.

    Computes distances for a few queries at a time, so that memory does not grow with their number.

    Args:
        queries: (B, Q, D).
        points: (B, P, D).

    Returns:
        (B, Q) indices into P.
    """
    # |q − p|² less |q|², which is the same for all points.
    squares = points.square().sum(-1).unsqueeze(1)
    transposed = points.transpose(1, 2)
    step = max(1, MAX_DISTANCES // points.shape[1])
    step = math.ceil(queries.shape[1] / math.ceil(queries.shape[1] / step))
    return torch.cat(
        [
            torch.baddbmm(squares, chunk, transposed, alpha=-2).argmin(dim=-1)
            for chunk in queries.split(step, dim=1)
        ],
        dim=1,
    )
