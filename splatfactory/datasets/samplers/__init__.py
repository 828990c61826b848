"""View samplers: which frames of a clip become context, which become targets.

Each module is one sampler, which configurations name as it is called: `bounded`, `random`, `rank`,
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
    """What the views are for."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass
class Rng:
    """The randomness of one choice of views.

    Attributes:
        numpy: NumPy's original generator, whose streams are frozen for ever.
        python: The generator of the standard library.
    """

    numpy: np.random.RandomState
    python: Random

    @staticmethod
    def seeded(seed: int) -> Rng:
        """Both generators started from one number in [0, 2³²)."""
        # Without a seed at first NumPy would ask the system for one, which takes 0.08 ms.
        rng = np.random.RandomState(np.random.MT19937(_ANY_SEED))
        rng.seed(seed)
        return Rng(rng, Random(seed))

    def fresh_generator(self) -> np.random.Generator:
        """A generator of NumPy's present kind, different at each call."""
        return np.random.default_rng(int(self.numpy.randint(0, 2**32, dtype=np.uint64)))


@dataclass(frozen=True)
class Choice:
    """The frames that were chosen.

    Attributes:
        context: Frame numbers to look at.
        target: Frame numbers to predict.
        overlaps: One number in [0, 1] per context frame, or −1 where it is unknown.
    """

    context: tuple[int, ...]
    target: tuple[int, ...]
    overlaps: tuple[float, ...]


@dataclass(frozen=True)
class Request:
    """What a sampler is asked for.

    Attributes:
        key: Scene key.
        num_views: Frames in the clip, T.
        num_context: Context frames wanted.
        num_target: Target frames wanted.
        split: What they are for.
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
        """Clips with fewer frames cannot be sampled."""

    @property
    def keys(self) -> frozenset[str] | None:
        """The only scenes it knows; None if it takes any."""

    @property
    def is_fixed(self) -> bool:
        """Whether its frames are given, so that requested counts do not matter."""

    def sample(self, request: Request, rng: Rng) -> Choice:
        """Choose frames."""


SamplerKind = Kind[ViewSampler]

SAMPLERS: Plugins[SamplerKind] = Plugins("splatfactory.datasets.samplers", "view sampler")


def build(options: Mapping[str, Any]) -> ViewSampler:
    """The sampler that a configuration section describes.

    Args:
        options: `name` and the sampler's own options.

    Raises:
        ValueError: if there is no such sampler, an option is unknown or its value impossible.
    """
    values = dict(options)
    name = values.pop("name", None)
    if name is None:
        raise ValueError(f"view_sampler needs a name, one of {', '.join(SAMPLERS.names())}")
    return SAMPLERS[str(name)].build(values, "view_sampler", str(name))
