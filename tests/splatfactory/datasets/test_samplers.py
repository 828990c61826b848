from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from splatfactory.datasets import samplers
from splatfactory.datasets.samplers import Request, Rng, Split

EXPECTED = Path(__file__).parents[2] / "golden" / "data" / "expected"
SAMPLES = json.loads((EXPECTED / "sampler_draws.json").read_text())
BOUNDED = {"name": "bounded"}


@pytest.mark.parametrize("case", SAMPLES["numpy_legacy"], ids=lambda c: f"{c['sampler']}-{c['N']}")
def test_samples_are_those_of_the_reference(case):
    sampler = samplers.build(case["conf"])
    assert sampler.min_views == case["min_required"]
    rng = Rng.seeded(case["np_seed"])
    request = Request("any", case["N"], case["ctx"], case["tgt"], Split(case["split"]))
    for context, target in case["draws"]:
        choice = sampler.sample(request, rng)
        assert list(choice.context) == context
        assert list(choice.target) == target
        assert len(choice.overlaps) == len(context)


def test_ranked_samples_are_those_of_the_reference():
    case = SAMPLES["rank"]
    ranking_file = str(EXPECTED / "ranking.json")
    sampler = samplers.build({"name": "rank", "ranking_file": ranking_file, **case["conf"]})
    assert sampler.keys == {"00000000000003e8", "00000000000003e9"}
    rng = Rng.seeded(case["py_seed"])
    for num_context, (context, target) in zip(case["ctx"], case["draws"], strict=True):
        choice = sampler.sample(Request(case["scene"], 12, num_context, case["tgt"]), rng)
        assert list(choice.context) == context
        assert list(choice.target) == target


@pytest.mark.parametrize("T", [9, 12, 40, 150])
@pytest.mark.parametrize("N", [2, 3, 6, 24])
def test_bounded_keeps_its_bounds(T, N):
    options = BOUNDED | {
        "min_distance_between_context_views": 8,
        "gap_multiplier": 11,
        "max_distance_between_consecutive_views": 22,
    }
    sampler = samplers.build(options)
    for seed in range(30):
        choice = sampler.sample(Request("a", T, N, 4), Rng.seeded(seed))
        context = list(choice.context)
        assert context == sorted(set(context))
        assert len(context) == min(N, T)
        gaps = [b - a for a, b in itertools.pairwise(context)]
        assert N == 2 or max(gaps) <= 22
        assert min(T - 1, 8) <= context[-1] - context[0] <= min(11 * N, T - 1)
        assert all(context[0] <= view <= context[-1] for view in choice.target)
        assert len(choice.target) == 4


def test_the_stretch_leaves_no_gap_too_wide():
    options = {"gap_multiplier": 100, "max_distance_between_consecutive_views": 10,
               "min_distance_between_context_views": 4}  # fmt: skip
    sampler = samplers.build(BOUNDED | options)
    for num_context in (3, 5):
        stretches = []
        for seed in range(100):
            context = sampler.sample(Request("a", 150, num_context, 4), Rng.seeded(seed)).context
            stretches.append(context[-1] - context[0])
        assert max(stretches) <= 10 * (num_context - 1)
        assert max(stretches) >= 9 * (num_context - 1)


def test_targets_keep_their_distance_from_the_ends():
    sampler = samplers.build(BOUNDED | {"min_distance_to_context_views": 5})
    for seed in range(20):
        choice = sampler.sample(Request("a", 80, 2, 4), Rng.seeded(seed))
        assert min(choice.target) >= choice.context[0] + 5
        assert max(choice.target) <= choice.context[-1] - 5


def test_circular_clips_wrap_around():
    sampler = samplers.build(BOUNDED | {"cameras_are_circular": True})
    wrapped = 0
    for seed in range(50):
        choice = sampler.sample(Request("a", 60, 3, 4), Rng.seeded(seed))
        assert all(0 <= view < 60 for view in choice.context + choice.target)
        wrapped += choice.context[-1] - choice.context[0] > 45
    assert wrapped


def test_uniform_views_are_disjoint():
    sampler = samplers.build({"name": "random"})
    choice = sampler.sample(Request("a", 10, 6, 4), Rng.seeded(0))
    assert sorted(choice.context + choice.target) == list(range(10))


def test_the_index_is_returned_as_it_is(tmp_path):
    path = tmp_path / "index.json"
    entry = {"context": [4, 2], "target": [3], "overlap": 0.4}
    path.write_text(json.dumps({"a": entry, "b": None}))
    sampler = samplers.build({"name": "eval_sampler", "indices_file": str(path)})
    assert sampler.keys == {"a"}
    choice = sampler.sample(Request("a", 5, 9, 9, Split.TEST), Rng.seeded(0))
    assert (choice.context, choice.target, choice.overlaps) == ((4, 2), (3,), (0.4, 0.4))
    with pytest.raises(ValueError, match="asks for view 4"):
        sampler.sample(Request("a", 4, 1, 1), Rng.seeded(0))


@pytest.mark.parametrize("content", ["{", "[]", '{"a": {"context": []}}', '{"a": 3}'])
def test_invalid_indices_are_named(tmp_path, content):
    path = tmp_path / "index.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"index\.json is not an evaluation index"):
        samplers.build({"name": "eval_sampler", "indices_file": str(path)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "bonded"}, "known: bounded, eval_sampler, random, rank; did you mean bounded"),
        ({"name": "bounded", "gap_multiplier": "x"}, r"view_sampler\.gap_multiplier: .*Integer"),
        ({}, "needs a name"),
        ({"name": "bounded", "gap": 3}, r"unknown option view_sampler\.gap of bounded"),
        ({"name": "bounded", "gap_multiplier": 0}, "gap_multiplier must be positive"),
        ({"name": "rank"}, "ranking_file must name"),
        ({"name": "rank", "ranking_file": "/nowhere.json"}, r"/nowhere\.json does not exist"),
        ({"name": "eval_sampler", "indices_file": "/nowhere.json"}, "evaluation index"),
    ],
)
def test_wrong_options_are_explained(options, message):
    with pytest.raises(ValueError, match=message):
        samplers.build(options)
