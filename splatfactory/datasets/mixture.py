"""Mixes several data sets into one stream of scenes, in proportion within every stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splatfactory.datasets.multiview import MultiviewDataset

Order = npt.NDArray[np.int64]
"""(E, 3) rows of an epoch: data set, clip, number of earlier showings of the clip."""


@dataclass(frozen=True)
class Member:
    """A data set with its weight in the mixture.

    Attributes:
        dataset: the data set.
        weight: weight relative to the other members.
    """

    dataset: MultiviewDataset
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Validate the weight."""
        if not self.weight > 0:
            raise ValueError(
                f"the weight of data set {self.dataset.name} must be positive, got {self.weight}"
            )


def epoch_order(
    sizes: Sequence[int], weights: Sequence[float], seed: int, epoch: int, shuffle: bool = True
) -> Order:
    """The sequence of clips in an epoch.

    Every clip occurs at least once. The data set that is largest for its weight is shown exactly
    once; the others are repeated, each time in a new order, so that among the first k clips data
    set i holds k · share_i ± 1, for every k.

    Args:
        sizes: number of clips of each data set.
        weights: weight of each, in any unit.
        seed: seed of the training.
        epoch: number of the epoch.
        shuffle: False keeps the clips of each data set in order.

    Returns:
        (E, 3) rows: data set, clip, number of earlier showings in this epoch.
    """
    shares = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    members = _interleave(np.asarray(sizes), shares)
    order = np.zeros((len(members), 3), dtype=np.int64)
    order[:, 0] = members
    for member, size in enumerate(sizes):
        places = np.flatnonzero(members == member)
        passes = -(-len(places) // size)
        clips = [_pass(size, (seed, epoch, member, number), shuffle) for number in range(passes)]
        order[places, 1] = np.concatenate(clips)[: len(places)]
        order[places, 2] = np.arange(len(places)) // size
    return order


def _pass(size: int, seed: tuple[int, ...], shuffle: bool) -> npt.NDArray[np.int64]:
    if not shuffle:
        return np.arange(size)
    return np.random.default_rng(seed).permutation(size)


def _interleave(sizes: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> Order:
    """The sequence of data set numbers: always the one furthest behind its share."""
    if len(sizes) == 1:
        return np.zeros(int(sizes[0]), dtype=np.int64)
    # A small slack keeps 0.1 · 30 = 3.0000000000000004 from asking for one more.
    length = int(np.ceil((sizes / shares).max() - 1e-6))
    credit = shares.tolist()
    picked = np.empty(length, dtype=np.int64)
    for place in range(length):
        best = credit.index(max(credit))
        picked[place] = best
        credit[best] -= 1.0
        for member, share in enumerate(shares.tolist()):
            credit[member] += share
    return picked
