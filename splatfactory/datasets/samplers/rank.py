"""Frames near a random reference in space, by a precomputed ranking.

The rules are those of the released ZipSplat data pipeline. A ranking file is JSON: scene key →
T rows, row i the views by distance from view i, itself first; or scene key → an object with such
`rankings` and `overlaps` in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatfactory import paths
from splatfactory.datasets.samplers import Choice, Request, Rng, SamplerKind
from zipsplat.untrusted_files import read_json


@dataclass(frozen=True)
class Config:
    """Options of `rank`; distances are positions in the ranking.

    Attributes:
        ranking_file: JSON file.
        min_distance_between_context_views: minimum rank of the last context view.
        max_distance_between_context_views: maximum rank of the last context view.
        initial_min_distance_between_context_views: no effect; exists for released configurations.
        initial_max_distance_between_context_views: no effect either.
        warm_up_steps: no effect either.
    """

    ranking_file: str = ""
    min_distance_between_context_views: int = 8
    max_distance_between_context_views: int = 22
    initial_min_distance_between_context_views: int = 5
    initial_max_distance_between_context_views: int = 7
    warm_up_steps: int = 0

    def __post_init__(self) -> None:
        """Validate the values."""
        if not self.ranking_file:
            raise ValueError("view_sampler.ranking_file must name a JSON file, got none")


@dataclass(frozen=True)
class _Ranking:
    rows: list[list[int]]
    overlaps: list[list[float]] | None

    def overlap(self, reference: int, view: int) -> float:
        if view == reference:
            return 1.0
        if self.overlaps is None:
            return 0.5
        return float(self.overlaps[reference][self.rows[reference].index(view)])


class RankedSampler:
    """Chooses a reference view, a far neighbour, and views that rank between the two."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._rankings = _load(paths.resolve(config.ranking_file))

    @property
    def min_views(self) -> int:
        """Minimum number of frames of a clip."""
        return max(3, self.config.min_distance_between_context_views + 1)

    @property
    def keys(self) -> frozenset[str]:
        """The scenes that have a ranking."""
        return frozenset(self._rankings)

    @property
    def is_fixed(self) -> bool:
        """False: it samples as requested."""
        return False

    def sample(self, request: Request, rng: Rng) -> Choice:
        """Choose frames; the context starts with the reference and ends with the far view."""
        ranking = self._rankings[request.key]
        T = len(ranking.rows)
        if request.num_views != T:
            raise ValueError(
                f"the ranking of {request.key} is for {T} views, the scene has {request.num_views}"
            )
        reference = rng.python.randint(0, T - 1)
        if request.num_context == 1:
            return Choice((reference,), (reference,), (1.0,))
        order = ranking.rows[reference]
        need = request.num_context - 2 + request.num_target
        right, between = self._neighbours(order, need, rng)
        if len(between) >= need:
            between = rng.python.sample(between, need)
        extras = sorted(between[: request.num_context - 2])
        targets = sorted(between[request.num_context - 2 :]) or [right]
        context = (reference, *extras, right)
        overlaps = tuple(ranking.overlap(reference, view) for view in context)
        return Choice(context, tuple(targets), overlaps)

    def _neighbours(self, order: list[int], need: int, rng: Rng) -> tuple[int, list[int]]:
        """The far view, and at least `need` views ranked between it and the reference."""
        last = len(order) - 1
        high = min(self.config.max_distance_between_context_views, last)
        low = min(self.config.min_distance_between_context_views, high)
        place = rng.python.randint(low, high)
        right, between = order[place], order[1:place]
        if len(between) < need:
            farther = min(need + 1, last)
            right, between = order[farther], order[1:farther]
        if len(between) < need:
            spare = [view for view in order[place + 1 :] if view not in between and view != right]
            between = between + spare[: need - len(between)]
        return right, between


def _load(path: Path) -> dict[str, _Ranking]:
    try:
        content: Any = read_json(path)
        return {key: _ranking(entry) for key, entry in content.items()}
    except FileNotFoundError:
        raise ValueError(f"view_sampler.ranking_file: {path} does not exist") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a ranking file ({error})") from error


def _ranking(entry: Any) -> _Ranking:
    if isinstance(entry, dict):
        return _Ranking(entry["rankings"], entry.get("overlaps"))
    return _Ranking(entry, None)


PLUGIN = SamplerKind(Config, RankedSampler)
