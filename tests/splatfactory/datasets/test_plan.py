from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from splatfactory.datasets.mixture import epoch_order
from splatfactory.datasets.plan import BatchPlan, BatchRules, EpochPlan, Position, spares


def run(
    order: np.ndarray,
    capacities: list[np.ndarray],
    rules: BatchRules,
    epoch: int = 0,
    max_views: int | None = None,
) -> list[list[BatchPlan]]:
    """All batches of an epoch, per rank."""
    ranks = []
    for rank in range(rules.world_size):
        plan = EpochPlan(order, capacities, rules, epoch, rank)
        bound = max_views or rules.views[1]
        ranks.append(list(iter(lambda plan=plan, bound=bound: plan.next(bound), None)))
    return ranks


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("budget", [1, 6, 24])
@pytest.mark.parametrize("num_clips", [4, 5, 7, 23, 101])
def test_ranks_agree_and_share_the_epoch(world_size, budget, num_clips):
    rules = BatchRules(budget, (2, 6), (0.5, 2.0), world_size, seed=3)
    order = epoch_order([num_clips], [1.0], seed=3, epoch=1)
    capacities = [np.full(num_clips, 50)]
    ranks = run(order, capacities, rules, epoch=1)
    assert len({len(batches) for batches in ranks}) == 1
    shown = Counter(pick.clip for batches in ranks for batch in batches for pick in batch.picks)
    assert shown == Counter(range(num_clips))
    for step in zip(*ranks, strict=True):
        assert len({(batch.num_context, batch.aspect) for batch in step}) == 1
        sizes = [len(batch.picks) for batch in step]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert 2 <= step[0].num_context <= 6
        assert 0.5 <= step[0].aspect <= 2
    for step in list(zip(*ranks, strict=True))[:-1]:
        assert all(len(b.picks) <= max(1, budget // b.num_context) for b in step)


def test_the_last_batch_keeps_the_budget_by_showing_fewer_views():
    """Five clips for two ranks with room for one 6-view clip each: 2 + 3, the 3 with 3 views."""
    rules = BatchRules(6, (2, 6), world_size=2, seed=0)
    for epoch in range(20):
        ranks = run(epoch_order([5], [1.0], 0, epoch), [np.full(5, 50)], rules, epoch)
        for batch in (batch for batches in ranks for batch in batches):
            assert len(batch.picks) * batch.num_context <= 6


def test_scenes_do_not_depend_on_the_number_of_ranks():
    """A clip has the same seed wherever it is loaded."""
    order = epoch_order([40], [1.0], 7, 0)
    seeds = []
    for world_size in (1, 2, 4):
        ranks = run(order, [np.full(40, 50)], BatchRules(8, (2, 4), world_size=world_size, seed=7))
        seeds.append({p.clip: p.seed for batches in ranks for b in batches for p in b.picks})
    assert seeds[0] == seeds[1] == seeds[2]
    assert len(set(seeds[0].values())) == 40


def test_epochs_differ_in_order_views_and_seeds():
    rules = BatchRules(8, (2, 8), seed=1)
    capacities = [np.full(60, 50)]
    first, second = (
        run(epoch_order([60], [1.0], 1, epoch), capacities, rules, epoch)[0] for epoch in (0, 1)
    )
    assert [p.clip for b in first for p in b.picks] != [p.clip for b in second for p in b.picks]
    assert [b.num_context for b in first] != [b.num_context for b in second]
    seeds = {p.seed for b in first + second for p in b.picks}
    assert len(seeds) == 120


@pytest.mark.parametrize("world_size", [1, 2])
def test_short_clips_wait_for_a_batch_they_fit_into(world_size):
    rng = np.random.default_rng(0)
    capacities = [rng.integers(2, 12, 80)]
    rules = BatchRules(12, (2, 12), world_size=world_size, seed=5)
    ranks = run(epoch_order([80], [1.0], 5, 0), capacities, rules)
    shown = Counter()
    for batch in (batch for batches in ranks for batch in batches):
        for pick in batch.picks:
            assert capacities[0][pick.clip] >= batch.num_context
            shown[pick.clip] += 1
    assert shown == Counter(range(80))


def test_continuing_from_any_position_gives_the_same_rest():
    capacities = [np.random.default_rng(1).integers(2, 9, 30)]
    rules = BatchRules(6, (2, 8), world_size=2, seed=2)
    order = epoch_order([30], [1.0], 2, 4)
    whole = run(order, capacities, rules, epoch=4)[1]
    for done in range(1, len(whole)):
        plan = EpochPlan(order, capacities, rules, 4, 1, whole[done - 1].after)
        assert list(iter(lambda plan=plan: plan.next(8), None)) == whole[done:]


def test_the_bound_of_the_views_acts_at_once():
    plan = EpochPlan(
        epoch_order([100], [1.0], 0, 0), [np.full(100, 50)], BatchRules(1, (2, 24), seed=0), 0
    )
    bounds = [2] * 10 + [5] * 10 + [24] * 30
    views = [plan.next(bound).num_context for bound in bounds]
    assert views[:10] == [2] * 10
    assert max(views[10:20]) <= 5
    assert max(views[20:]) > 5


@pytest.mark.parametrize(
    ("sizes", "weights"),
    [([100, 40], [0.5, 0.5]), ([10, 300, 55], [0.5, 0.2, 0.3]), ([7, 7], [1, 3]), ([30], [2.0])],
)
def test_mixtures_are_right_in_every_window(sizes, weights):
    order = epoch_order(sizes, weights, seed=0, epoch=0)
    shares = np.array(weights) / sum(weights)
    counts = np.cumsum(order[:, :1] == np.arange(len(sizes)), axis=0)
    wanted = np.arange(1, len(order) + 1)[:, None] * shares
    assert np.abs(counts - wanted).max() <= 1 + 1e-9
    for member, size in enumerate(sizes):
        shown = order[order[:, 0] == member, 1]
        times = np.bincount(shown, minlength=size)
        assert times.min() >= 1
        assert times.max() - times.min() <= 1
        for begin in range(0, len(shown) - size + 1, size):
            assert sorted(shown[begin : begin + size]) == list(range(size))


def test_rounding_asks_for_no_further_clip():
    """1 / (1 / 49) is 49.00000000000001: one clip more would be shown twice."""
    assert len(epoch_order([1, 48], [1, 48], seed=0, epoch=0)) == 49


def test_the_order_without_shuffling_is_the_stored_one():
    order = epoch_order([6], [1.0], 0, 5, shuffle=False)
    assert order[:, 1].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": 0, "views": (2, 3)}, "must be positive"),
        ({"budget": 1, "views": (3, 2)}, "image_num_range"),
        ({"budget": 1, "views": (0, 2)}, "image_num_range"),
        ({"budget": 1, "views": (1, 2), "aspects": (0.0, 1.0)}, "aspect_ratio_range"),
    ],
)
def test_wrong_rules_are_explained(values, message):
    with pytest.raises(ValueError, match=message):
        BatchRules(**values)


def test_spares_are_long_enough_and_new():
    capacities = [np.array([3, 9, 9, 1])]
    picks = list(spares(1, capacities, 5, lambda _, clip: clip == 2))
    assert picks
    assert {pick.clip for pick in picks} == {1}
    assert picks == list(spares(1, capacities, 5, lambda _, clip: clip == 2))
    assert Position() == Position(0, 0, ())
