"""Plan of an epoch: scenes, view count and image shape of each batch.

The plan is made before anything is read and depends only on seed, epoch and number of ranks, so
workers, threads and machines cannot change it. All ranks follow the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.mixture import Order

_VIEWS_STREAM, _SPARE_STREAM = 1, 2


class Pick(NamedTuple):
    """One scene of a batch: data set, clip, and the seed of everything random in its sample."""

    member: int
    clip: int
    seed: int


@dataclass(frozen=True)
class Position:
    """Position of the next batch in an epoch.

    Attributes:
        step: number of the batch.
        cursor: number of rows of the epoch's order consumed so far.
        waiting: consumed rows that were deferred, because their clips were too short at the time.
    """

    step: int = 0
    cursor: int = 0
    waiting: tuple[int, ...] = ()


@dataclass(frozen=True)
class BatchPlan:
    """One batch of one rank.

    Attributes:
        num_context: context views of every scene.
        aspect: width / height of the images.
        picks: the scenes.
        spare_seed: seed of the substitutes if none of these can be read.
        after: where the epoch continues.
    """

    num_context: int
    aspect: float
    picks: tuple[Pick, ...]
    spare_seed: int
    after: Position


@dataclass(frozen=True)
class BatchRules:
    """Size and shape of batches.

    Attributes:
        budget: context images per rank and batch.
        views: minimum and maximum number of context views.
        aspects: smallest and largest width / height; sampled per batch and rounded to hundredths.
        world_size: number of ranks.
        seed: seed of the run.
    """

    budget: int
    views: tuple[int, int]
    aspects: tuple[float, float] = (1.0, 1.0)
    world_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.budget < 1 or self.world_size < 1:
            raise ValueError(
                f"budget and world size must be positive: {self.budget}, {self.world_size}"
            )
        if not 1 <= self.views[0] <= self.views[1]:
            raise ValueError(f"image_num_range must be [min, max], min ≥ 1, got {self.views}")
        if not 0 < self.aspects[0] <= self.aspects[1]:
            raise ValueError(f"aspect_ratio_range must be positive [min, max], got {self.aspects}")


@dataclass
class EpochPlan:
    """Yields the batches of one rank in an epoch.

    Scenes too short for the view count of a batch are deferred to one with fewer views. The last
    batch of an epoch takes the remaining scenes, if necessary one more than usual on some ranks, so
    that all ranks have equally many batches, and no scene is lost or repeated.

    Args:
        order: the scenes of the epoch.
        capacities: per data set, maximum number of context views of each clip.
        rules: size and shape of batches.
        epoch: number of the epoch.
        rank: rank whose batches to yield.
        position: where to start.
    """

    order: Order
    capacities: Sequence[npt.NDArray[np.int64]]
    rules: BatchRules
    epoch: int
    rank: int = 0
    position: Position = field(default_factory=Position)

    def next(self, max_views: int) -> BatchPlan | None:
        """The next batch; None at the end of the epoch.

        Args:
            max_views: limit of the view count, within the range of the rules.
        """
        if self._num_left() == 0:
            return None
        rng = self._rng(_VIEWS_STREAM)
        lowest = self.rules.views[0]
        num_context = int(rng.integers(lowest, max(lowest, max_views) + 1))
        aspect = round(float(rng.uniform(*self.rules.aspects)), 2)
        spare_seeds = self._rng(_SPARE_STREAM).integers(0, 2**32, self.rules.world_size)
        wanted, num_context = self._size(num_context)
        rows, num_context = self._take(wanted, num_context)
        begin, end = (len(rows) * r // self.rules.world_size for r in (self.rank, self.rank + 1))
        picks = tuple(self._pick(row) for row in rows[begin:end])
        return BatchPlan(num_context, aspect, picks, int(spare_seeds[self.rank]), self.position)

    def _num_left(self) -> int:
        return len(self.order) - self.position.cursor + len(self.position.waiting)

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng((self.rules.seed, self.epoch, self.position.step, stream))

    def _size(self, num_context: int) -> tuple[int, int]:
        """Scenes of this batch over all ranks, and its view count."""
        world, budget, left = self.rules.world_size, self.rules.budget, self._num_left()
        per_rank = max(1, budget // num_context)
        whole = per_rank * world
        if left <= whole or left >= whole + world:
            return min(left, whole), num_context
        # The scenes left after this batch would not be enough for all ranks.
        if per_rank > 1:
            return left - world, num_context
        return left, max(self.rules.views[0], min(num_context, budget // 2))

    def _take(self, wanted: int, num_context: int) -> tuple[list[int], int]:
        """Rows of the order for this batch, and its view count; advances the position."""
        chosen: list[int] = []
        waiting: list[int] = []
        cursor = self.position.cursor
        for row in self._rows():
            if len(chosen) == wanted and row >= cursor:
                break
            cursor = max(cursor, row + 1)
            fits = len(chosen) < wanted and self._capacity(row) >= num_context
            (chosen if fits else waiting).append(row)
        if len(chosen) < wanted:
            # Only short clips are left: take the longest, with as many views as they have.
            waiting.sort(key=lambda row: (-self._capacity(row), row))
            missing = wanted - len(chosen)
            chosen, waiting = chosen + waiting[:missing], sorted(waiting[missing:])
            num_context = min(num_context, *(self._capacity(row) for row in chosen))
        self.position = Position(self.position.step + 1, cursor, tuple(waiting))
        return chosen, num_context

    def _rows(self) -> Iterator[int]:
        yield from self.position.waiting
        yield from range(self.position.cursor, len(self.order))

    def _capacity(self, row: int) -> int:
        member, clip, _ = self.order[row]
        return int(self.capacities[member][clip])

    def _pick(self, row: int) -> Pick:
        member, clip, showing = (int(value) for value in self.order[row])
        entropy = (self.rules.seed, self.epoch, member, clip, showing)
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        return Pick(member, clip, seed)


def spares(
    seed: int,
    capacities: Sequence[npt.NDArray[np.int64]],
    num_context: int,
    is_tried: Callable[[int, int], bool],
    tries: int = 100,
) -> Iterator[Pick]:
    """Candidate substitutes for a batch of which nothing could be read.

    Args:
        seed: spare seed of the batch.
        capacities: per data set, maximum number of context views of each clip.
        num_context: context views a scene must have.
        is_tried: whether a clip of a data set has already failed.
        tries: maximum number of candidates.
    """
    rng = np.random.default_rng(seed)
    for _ in range(tries):
        member = int(rng.integers(len(capacities)))
        clip = int(rng.integers(len(capacities[member])))
        scene_seed = int(rng.integers(0, 2**32))
        if capacities[member][clip] >= num_context and not is_tried(member, clip):
            yield Pick(member, clip, scene_seed)
