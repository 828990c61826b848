"""View samplers: choose context and target frames of a clip.

Each module is one sampler, named in configurations by its module name: `bounded`, `random`, `rank`,
`eval_sampler`, or the dotted path of a module of your own with a `PLUGIN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from random import Random  # `random` is a module of this package
from typing import Any, Protocol

import numpy as np

from splatfactory.options import Kind
from zipsplat.plugins import Plugins

_ANY_SEED = np.random.SeedSequence(0)


class Split(str, Enum):
    """Purpose of the views."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass
class Rng:
    """Random generators for one choice of views.

    Attributes:
        numpy: NumPy's original generator, whose streams never change between versions.
        python: the generator of the standard library.
    """

    numpy: np.random.RandomState
    python: Random

    @staticmethod
    def seeded(seed: int) -> Rng:
        """Seed both generators with one number in [0, 2³²)."""
        # Construct with a fixed seed: without one, NumPy reads system entropy, which takes 0.08 ms.
        rng = np.random.RandomState(np.random.MT19937(_ANY_SEED))
        rng.seed(seed)
        return Rng(rng, Random(seed))

    def fresh_generator(self) -> np.random.Generator:
        """A new-style NumPy generator, different at each call."""
        return np.random.default_rng(int(self.numpy.randint(0, 2**32, dtype=np.uint64)))


@dataclass(frozen=True)
class Choice:
    """The chosen frames.

    Attributes:
        context: frame numbers of the context views.
        target: frame numbers of the target views.
        overlaps: one number in [0, 1] per context frame, or −1 where unknown.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    overlaps: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """Input of a sampler.

    Attributes:
        key: scene key.
        num_views: frames in the clip, T.
        num_context: number of context frames to choose.
        num_target: number of target frames to choose.
        split: purpose of the views.
    """

    key: str
    num_views: int
    num_context: int
    num_target: int
    split: Split = field(default=Split.TRAIN)


class ViewSampler(Protocol):
    """Chooses frames of a clip."""

    @property
    def min_views(self) -> int:
        """Minimum number of frames of a clip."""

    @property
    def keys(self) -> frozenset[str] | None:
        """The scenes it supports; None for all."""

    @property
    def is_fixed(self) -> bool:
        """Whether its frames are predetermined, so requested counts are ignored."""

    def sample(self, request: Request, rng: Rng) -> Choice:
        """Choose frames."""


SamplerKind = Kind[ViewSampler]

SAMPLERS: Plugins[SamplerKind] = Plugins("splatfactory.datasets.samplers", "view sampler")


def build(options: Mapping[str, Any]) -> ViewSampler:
    """Build the sampler of a configuration section.

    Args:
        options: `name` and the sampler's own options.

    Raises:
        ValueError: if the sampler or an option is unknown, or a value is invalid.
    """
    values = dict(options)
    name = values.pop("name", None)
    if name is None:
        raise ValueError(f"view_sampler needs a name, one of {', '.join(SAMPLERS.names())}")
    return SAMPLERS[str(name)].build(values, "view_sampler", str(name))
