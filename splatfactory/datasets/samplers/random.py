"""Any frames, context and targets disjoint."""

from __future__ import annotations

from dataclasses import dataclass

from splatfactory.datasets.samplers import Choice, Request, Rng, SamplerKind


@dataclass(frozen=True)
class Config:
    """`random` has no options."""


class UniformSampler:
    """Chooses context and targets as parts of one random permutation."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def min_views(self) -> int:
        """Clips with fewer frames cannot be sampled."""
        return 1

    @property
    def keys(self) -> None:
        """Any scene will do."""

    @property
    def is_fixed(self) -> bool:
        """It draws what is requested."""
        return False

    def sample(self, request: Request, rng: Rng) -> Choice:
        """Choose frames; both lists ascend."""
        N = request.num_context
        order = [int(frame) for frame in rng.numpy.permutation(request.num_views)]
        return Choice(
            tuple(sorted(order[:N])),
            tuple(sorted(order[N : N + request.num_target])),
            (0.5,) * N,
        )


PLUGIN = SamplerKind(Config, UniformSampler)
