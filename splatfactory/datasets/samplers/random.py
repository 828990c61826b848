"""Uniformly random frames; context and targets are disjoint."""

from __future__ import annotations

from dataclasses import dataclass

from splatfactory.datasets.samplers import Choice, Request, Rng, SamplerKind


@dataclass(frozen=True)
class Config:
    """`random` has no options."""


class UniformSampler:
    """Splits a random permutation into context and targets."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def min_views(self) -> int:
        """Minimum number of frames of a clip."""
        return 1

    @property
    def keys(self) -> None:
        """None: supports all scenes."""

    @property
    def is_fixed(self) -> bool:
        """False: it samples as requested."""
        return False

    def sample(self, request: Request, rng: Rng) -> Choice:
        """Choose frames; both lists are ascending."""
        N = request.num_context
        order = [int(frame) for frame in rng.numpy.permutation(request.num_views)]
        return Choice(
            tuple(sorted(order[:N])),
            tuple(sorted(order[N : N + request.num_target])),
            (0.5,) * N,
        )


PLUGIN = SamplerKind(Config, UniformSampler)
