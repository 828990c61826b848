"""Context frames within a stretch of bounded length, targets spread evenly inside it.

The rules, and for a given seed the samples, are those of the released ZipSplat training data
pipeline. Letters: N context frames, T frames in the clip, D shortest stretch, g and M limits on
its growth with N.
"""

from __future__ import annotations

from dataclasses import dataclass

from splatfactory.datasets.samplers import Choice, Request, Rng, SamplerKind, Split

_TRIES = 100


@dataclass(frozen=True)
class Config:
    """Options of `bounded`; distances count frames.

    Attributes:
        min_distance_between_context_views: D, shortest stretch between first and last context.
        gap_multiplier: g, the stretch is at most g·N.
        max_distance_between_consecutive_views: M, largest gap between neighbouring context frames.
        min_distance_to_context_views: m, targets keep this distance from both ends.
        cameras_are_circular: the clip closes on itself, so a stretch may run over its end.
        is_overfitting: sample in training as in evaluation.
        initial_min_distance_between_context_views: no effect; exists for released configurations.
        warm_up_steps: no effect; exists for released configurations.
    """

    min_distance_between_context_views: int = 35
    gap_multiplier: int = 45
    max_distance_between_consecutive_views: int = 90
    min_distance_to_context_views: int = 0
    cameras_are_circular: bool = False
    is_overfitting: bool = False
    initial_min_distance_between_context_views: int = 25
    warm_up_steps: int = 150_000

    def __post_init__(self) -> None:
        """Validate the values."""
        for name in (
            "min_distance_between_context_views",
            "gap_multiplier",
            "max_distance_between_consecutive_views",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"view_sampler.{name} must be positive, got {getattr(self, name)}")
        if self.min_distance_to_context_views < 0:
            raise ValueError("view_sampler.min_distance_to_context_views must not be negative")


class BoundedSampler:
    """Chooses a stretch of the clip, context frames in it, and targets between them."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def min_views(self) -> int:
        """Minimum number of frames of a clip."""
        config = self.config
        return max(
            2 * config.min_distance_to_context_views + 1,
            config.min_distance_between_context_views + 1,
        )

    @property
    def keys(self) -> None:
        """None: supports all scenes."""

    @property
    def is_fixed(self) -> bool:
        """False: it samples as requested."""
        return False

    def sample(self, request: Request, rng: Rng) -> Choice:
        """Choose frames.

        Returns:
            Context frames in ascending order; targets may repeat or coincide with context frames if
            the stretch is short.
        """
        T, N = request.num_views, request.num_context
        if N == 1:
            return self._single(request, rng)
        left, right = self._stretch(request, rng)
        context = [left, *self._extras(left, right, N - 2, rng), right]
        m = self.config.min_distance_to_context_views
        targets = stratified(left + m, right - m + 1, request.num_target, rng)
        return Choice(
            tuple(sorted(frame % T for frame in context)),
            tuple(sorted(frame % T for frame in targets)),
            (0.5,) * N,
        )

    def _single(self, request: Request, rng: Rng) -> Choice:
        T, D = request.num_views, self.config.min_distance_between_context_views
        centre = int(rng.numpy.randint(0, T))
        begin, end = max(0, centre - D), min(T, centre + D + 1)
        return Choice((centre,), tuple(stratified(begin, end, request.num_target, rng)), (1.0,))

    def _stretch(self, request: Request, rng: Rng) -> tuple[int, int]:
        """First and last context frame; on a circular clip, the last may be beyond the end."""
        config, T, N = self.config, request.num_views, request.num_context
        longest = min(config.gap_multiplier * N, T - 1)
        if request.split != Split.TRAIN or config.is_overfitting:
            return 0, longest
        if N > 2:
            longest = min(longest, (N - 1) * config.max_distance_between_consecutive_views)
        shortest = max(
            config.min_distance_between_context_views,
            N - 1,
            2 * config.min_distance_to_context_views,
        )
        gap = int(rng.numpy.randint(min(shortest, longest), longest + 1))
        left = int(rng.numpy.randint(0, T if config.cameras_are_circular else T - gap))
        return left, left + gap

    def _extras(self, left: int, right: int, count: int, rng: Rng) -> list[int]:
        """Distinct frames between two others, without gaps wider than M if `_TRIES` suffice."""
        if right - left - 1 <= count:
            return list(range(left + 1, right))
        if count == 0:
            return []
        for _ in range(_TRIES):
            chosen: set[int] = set()
            while len(chosen) < count:
                chosen.add(int(rng.numpy.randint(left + 1, right)))
            frames = sorted(chosen)
            gaps = (b - a for a, b in zip([left, *frames], [*frames, right], strict=True))
            if max(gaps) <= self.config.max_distance_between_consecutive_views:
                return frames
        return [left + (i + 1) * (right - left) // (count + 1) for i in range(count)]


def stratified(begin: int, end: int, count: int, rng: Rng) -> list[int]:
    """One random frame from each of `count` equal parts of [begin, end), in ascending order."""
    if end <= begin:
        return [begin] * count
    width = (end - begin) / count
    frames = []
    for part in range(count):
        low = begin + int(part * width)
        high = max(begin + int((part + 1) * width), low + 1)
        frames.append(int(rng.numpy.randint(low, high)))
    return sorted(frames)


PLUGIN = SamplerKind(Config, BoundedSampler)
