"""Schedules against the reference's numbers and at their ends."""

import pytest

from splatfactory.models.zipsplat import min_query_ratio
from splatfactory.training.schedules import default_warmup, max_views, warmup_cosine
from tests.splatfactory.golden import load


@pytest.mark.parametrize("num_steps", [1000, 450_000])
def test_learning_rates_equal_the_reference(num_steps: int):
    data = load("schedules")
    warmup = default_warmup(num_steps)
    steps = data[f"lr_steps_{num_steps}"].tolist()
    for step, (small, large) in zip(steps, data[f"lr_values_{num_steps}"].tolist(), strict=True):
        factor = warmup_cosine(step, num_steps, warmup)
        assert 3e-4 * factor == pytest.approx(large, rel=1e-9, abs=1e-15)
        assert 3e-5 * factor == pytest.approx(small, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("num_steps", [1000, 450_000])
def test_difficulty_equals_the_reference(num_steps: int):
    data = load("schedules")
    for i, step in enumerate(data[f"sched_steps_{num_steps}"].tolist()):
        assert max_views(step, num_steps, 0.5, 2, 24) == int(data[f"max_views_{num_steps}"][i])
        expected = float(data[f"query_ratio_min_{num_steps}"][i])
        assert min_query_ratio(step, num_steps, 0.5, 0.5) == pytest.approx(expected, rel=1e-9)


def test_short_runs_have_no_division_by_zero():
    assert warmup_cosine(0, 5, default_warmup(5)) == 1.0
    assert warmup_cosine(0, 1, 0) == 1.0
    assert max_views(0, 1, 0.5, 2, 8) == 8
    assert max_views(3, 100, None, 2, 8) == 8
    assert min_query_ratio(0, 1, 0.5, 0.25) == 0.25


def test_the_first_step_uses_the_scheduled_ratio():
    assert min_query_ratio(0, 1000, 0.5, 0.5) == 1.0
