"""Batches from one or several data sets: reproducible, resumable, and equally many on all ranks."""

from __future__ import annotations

import hashlib
import logging
import weakref
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from splatfactory.data_schema import LoaderConfig
from splatfactory.datasets.mixture import Member, epoch_order
from splatfactory.datasets.multiview import TOO_FEW_VIEWS
from splatfactory.datasets.plan import BatchPlan, BatchRules, EpochPlan, Pick, Position, spares
from splatfactory.datasets.samples import Batch, Scene
from splatfactory.datasets.store import SceneError
from splatfactory.datasets.worker_processes import end_with_parent, start_context

logger = logging.getLogger(__name__)

_STATE_FORMAT = 1
_MIN_SEEN = 100
_AHEAD = 3
"""Number of batches each worker prefetches images for, if shards are remote."""


class DataLossError(RuntimeError):
    """More scenes were dropped than allowed."""


@dataclass(frozen=True)
class _Loaded:
    """The result of a worker."""

    batch: Batch
    drops: tuple[tuple[str, SceneError], ...]
    after: Position

    def pin_memory(self) -> _Loaded:
        return replace(self, batch=self.batch.pin_memory())


class SceneLoader:
    """An endless sequence of epochs of batches; iterate once per epoch.

    The sequence depends only on the data, the seed and the number of ranks. Iterating again after
    leaving a loop early continues the epoch with the next batch.

    Args:
        members: data sets with their weights.
        config: options of the loader.
        rank: number of this process.
        world_size: number of processes.
        shuffle: False keeps scenes in stored order and repeats the first epoch.
        pin_memory: copy batches to page-locked memory.

    Attributes:
        epoch: number of the current epoch.
        drops: scenes dropped so far on this rank, counted by reason.
        num_delivered: scenes delivered so far on this rank.

    Raises:
        ValueError: if there are fewer scenes than ranks, or no clip has enough views.
        DataLossError: if too many scenes are unusable.
    """

    def __init__(
        self,
        members: Sequence[Member],
        config: LoaderConfig,
        rank: int = 0,
        world_size: int = 1,
        *,
        shuffle: bool = True,
        pin_memory: bool = False,
    ) -> None:
        if not members:
            raise ValueError("a loader needs at least one data set")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
        self.config = config
        self.shuffle = shuffle
        self.pin_memory = pin_memory
        self.rank = rank
        self.epoch = 0
        self.drops: Counter[str] = Counter()
        self.num_delivered = 0
        self._members = tuple(members)
        self._rules = BatchRules(
            budget=max(1, config.batch_size // world_size),
            views=config.image_num_range,
            aspects=config.aspect_ratio_range,
            world_size=world_size,
            seed=config.seed,
        )
        self._clips = [self._usable(member) for member in self._members]
        self._capacities = [
            np.array([member.dataset.capacities[clip] for clip in clips])
            for member, clips in zip(self._members, self._clips, strict=True)
        ]
        self._max_views = config.image_num_range[1]
        self._position = Position()
        self._is_stale = False
        self._lengths: dict[tuple[int, int], int] = {}
        self._check_losses()
        self._loader = self._make_loader()

    def __len__(self) -> int:
        """Number of batches in the current epoch, at the current limit of the view count."""
        case = (self.epoch, self._max_views)
        if case not in self._lengths:
            plan = self._plan(Position())
            self._lengths[case] = sum(1 for _ in iter(lambda: plan.next(self._max_views), None))
        return self._lengths[case]

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch."""
        while True:
            self._is_stale = False
            for loaded in self._loader:
                self._position = loaded.after
                self._count(loaded)
                yield loaded.batch
                if self._is_stale:
                    break  # batches prepared by workers follow outdated rules
            if not self._is_stale:
                break
        self._finish_epoch()

    @property
    def num_scenes(self) -> int:
        """Number of distinct scenes in an epoch, over all ranks."""
        return sum(len(clips) for clips in self._clips)

    def set_max_views(self, max_views: int) -> None:
        """Limit the context views from the next batch on, even if workers are ahead.

        Args:
            max_views: within `image_num_range`.
        """
        low, high = self.config.image_num_range
        if not low <= max_views <= high:
            raise ValueError(f"max_views must be in [{low}, {high}], got {max_views}")
        if max_views != self._max_views:
            self._max_views = max_views
            self._is_stale = True

    def state_dict(self) -> dict[str, Any]:
        """Position after the last yielded batch, as plain numbers and strings."""
        return {
            "format": _STATE_FORMAT,
            "data": self._fingerprint(),
            "seed": self.config.seed,
            "epoch": self.epoch,
            "step": self._position.step,
            "cursor": self._position.cursor,
            "waiting": list(self._position.waiting),
            "max_views": self._max_views,
        }

    def load_state_dict(self, state: Mapping[str, Any], *, accept_changes: bool = False) -> bool:
        """Resume exactly after a saved position.

        With a different number of ranks, the epoch continues with the scenes not yet shown.

        Args:
            state: result of `state_dict`.
            accept_changes: if data or seed differ, start the next epoch instead of raising.

        Returns:
            Whether the saved epoch continues; otherwise the next one starts.

        Raises:
            ValueError: if data or seed differ from the saved run.
        """
        expected = {
            "format": _STATE_FORMAT,
            "data": self._fingerprint(),
            "seed": self.config.seed,
        }
        changed = [name for name, value in expected.items() if state.get(name) != value]
        if changed and accept_changes and "format" not in changed:
            logger.warning("the data have changed; continuing at the start of the next epoch")
            self.epoch = int(state["epoch"]) + 1
            self._max_views = int(state["max_views"])
            self._is_stale = True
            return False
        for name in changed:
            raise ValueError(
                f"the saved position has {name} {state.get(name)}, these data have"
                f" {expected[name]}; resume with the same data and seed, start over, or continue"
                " at the next epoch with train.accept_changed_data=true"
            )
        self.epoch = int(state["epoch"])
        waiting = tuple(int(row) for row in state["waiting"])
        self._position = Position(int(state["step"]), int(state["cursor"]), waiting)
        self._max_views = int(state["max_views"])
        self._is_stale = True
        return True

    def plans(self) -> Iterator[BatchPlan]:
        """Plan the batches of this rank from the current position on, for the workers."""
        plan = self._plan(self._position)
        while True:
            batch = plan.next(self._max_views)
            if batch is None:
                return
            yield batch

    def _usable(self, member: Member) -> list[int]:
        """Clips with enough views for the smallest batch."""
        dataset, fewest = member.dataset, self._rules.views[0]
        clips = [clip for clip in range(len(dataset)) if dataset.capacities[clip] >= fewest]
        self.drops.update(error.reason for _, error in dataset.excluded)
        self.drops[TOO_FEW_VIEWS] += len(dataset) - len(clips)
        if not clips:
            raise ValueError(
                f"{dataset.name}: no clip has {fewest} context views and"
                f" {dataset.config.num_target_views} targets"
            )
        return clips[: self.config.max_samples]

    def _check_losses(self) -> None:
        self.drops += Counter()  # drop zero counts
        if self.drops:
            logger.warning("unusable scenes: %s%s", dict(self.drops), self._first_excluded())
        world_size = self._rules.world_size
        if self.num_scenes < world_size:
            raise ValueError(
                f"{self.num_scenes} scenes are too few for {world_size} ranks; use fewer processes"
            )
        lost = sum(self.drops.values()) - self.drops[TOO_FEW_VIEWS]
        self._check_rate(lost, lost + self.num_scenes)

    def _check_rate(self, lost: int, seen: int) -> None:
        if lost > self.config.max_drop_rate * seen:
            raise DataLossError(
                f"{lost} of {seen} scenes were dropped, more than"
                f" max_drop_rate={self.config.max_drop_rate} allows; by reason: {dict(self.drops)}"
                f"{self._first_excluded()}"
            )

    def _first_excluded(self) -> str:
        found = (entry for member in self._members for entry in member.dataset.excluded)
        return next((f"; the first is {key}: {error}" for key, error in found), "")

    def _count(self, loaded: _Loaded) -> None:
        for name, error in loaded.drops:
            if error.reason not in self.drops:
                logger.warning("dropping scenes; the first for this reason is %s: %s", name, error)
            self.drops[error.reason] += 1
        self.num_delivered += len(loaded.batch)
        if loaded.drops:
            lost = sum(self.drops.values()) - self.drops[TOO_FEW_VIEWS]
            seen = lost + self.num_delivered
            # Early on, a single scene is a large fraction; check once enough have been seen.
            self._check_rate(lost, max(seen, min(_MIN_SEEN, self.num_scenes)))

    def _finish_epoch(self) -> None:
        self._position = Position()
        if self.shuffle:
            self.epoch += 1

    def _plan(self, position: Position) -> EpochPlan:
        order = epoch_order(
            [len(clips) for clips in self._clips],
            [member.weight for member in self._members],
            self.config.seed,
            self.epoch,
            self.shuffle,
        )
        return EpochPlan(order, self._capacities, self._rules, self.epoch, self.rank, position)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for member, clips in zip(self._members, self._clips, strict=True):
            digest.update(f"{member.dataset.name} {member.weight}\n".encode())
            digest.update("\n".join(member.dataset.key(clip) for clip in clips).encode())
        return digest.hexdigest()[:16]

    def _make_loader(self) -> DataLoader[_Loaded]:
        workers = self.config.num_workers
        options: dict[str, Any] = {}
        if workers:
            options = {
                "prefetch_factor": self.config.prefetch_factor,
                "persistent_workers": True,
                "multiprocessing_context": start_context([__name__]),
                "worker_init_fn": end_with_parent,
            }
        return DataLoader(
            _BatchLoader(self._members, self._clips, self._capacities),
            batch_size=None,
            sampler=_Plans(self),
            num_workers=workers,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),  # keeps the global generator untouched
            **options,
        )


@dataclass(frozen=True)
class _Task:
    """One batch to load, and the same worker's next ones, to prefetch."""

    plan: BatchPlan
    later: tuple[BatchPlan, ...]


class _Plans(Sampler[_Task]):
    """The planned batches, as the sampler PyTorch expects."""

    def __init__(self, loader: SceneLoader) -> None:
        # A reference cycle would be collected in arbitrary order, and workers waiting on a
        # closed queue take five seconds each to end.
        self.loader = weakref.ref(loader)

    def __iter__(self) -> Iterator[_Task]:
        loader = self.loader()
        assert loader is not None
        distance = max(1, loader.config.num_workers)  # batches go to workers round-robin
        waiting: deque[BatchPlan] = deque()
        plans = loader.plans()
        waiting.extend(islice(plans, distance * _AHEAD))
        while waiting:
            waiting.extend(islice(plans, 1))
            plan = waiting.popleft()
            yield _Task(plan, tuple(waiting)[distance - 1 :: distance])


class _BatchLoader(Dataset[_Loaded]):
    """Loads planned batches; runs in the workers."""

    def __init__(
        self,
        members: Sequence[Member],
        clips: Sequence[Sequence[int]],
        capacities: Sequence[npt.NDArray[np.int64]],
    ) -> None:
        self.datasets = [member.dataset for member in members]
        self.clips = clips
        self.capacities = capacities

    def __getitem__(self, task: _Task) -> _Loaded:
        plan = task.plan
        self._prefetch([plan, *task.later])
        drops: list[tuple[str, SceneError]] = []
        with _one_thread():
            made = (self._load(pick, plan, drops) for pick in plan.picks)
            scenes = [scene for scene in made if scene is not None]
            if not scenes:
                scenes = [self._substitute(plan, drops)]
        return _Loaded(Batch.collate(scenes), tuple(drops), plan.after)

    def _prefetch(self, plans: Sequence[BatchPlan]) -> None:
        """Have the data sets prefetch what these batches need."""
        for member, dataset in enumerate(self.datasets):
            dataset.prefetch(
                (self.clips[member][pick.clip], plan.num_context, pick.seed)
                for plan in plans
                for pick in plan.picks
                if pick.member == member
            )

    def _load(
        self, pick: Pick, plan: BatchPlan, drops: list[tuple[str, SceneError]]
    ) -> Scene | None:
        dataset = self.datasets[pick.member]
        clip = self.clips[pick.member][pick.clip]
        try:
            return dataset.load(clip, plan.num_context, plan.aspect, pick.seed)
        except SceneError as error:
            name = f"{dataset.name}-{dataset.key(clip)}"
            if dataset.sampler.is_fixed:
                raise DataLossError(f"the indexed scene {name} is unusable: {error}") from error
            drops.append((name, error))
            return None

    def _substitute(self, plan: BatchPlan, drops: list[tuple[str, SceneError]]) -> Scene:
        """Load a substitute scene, as every rank needs a batch at every step."""
        tried = {(pick.member, pick.clip) for pick in plan.picks}
        for pick in spares(
            plan.spare_seed,
            self.capacities,
            plan.num_context,
            lambda member, clip: (member, clip) in tried,
        ):
            tried.add((pick.member, pick.clip))
            scene = self._load(pick, plan, drops)
            if scene is not None:
                return scene
        reasons = Counter(error.reason for _, error in drops)
        name, error = drops[0]
        raise DataLossError(
            f"{len(drops)} scenes in a row are unusable: {dict(reasons)};"
            f" the first is {name}: {error}"
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Restrict PyTorch to one thread; images are too small to parallelise."""
    if get_worker_info() is not None:  # PyTorch already does that in workers
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
