"""Means over scenes."""

import math

import torch

from splatfactory.runtime.distributed import World
from splatfactory.training.meters import Averages, FirstSteps
from splatfactory.training.validation import combined


def test_values_that_are_not_numbers_count_as_absent():
    averages = Averages()
    averages.add({"psnr": torch.tensor([1.0, math.nan, 3.0]), "lpips": torch.tensor(math.nan)})
    averages.add({"psnr": torch.tensor(8.0)})
    for means in (averages.means(), combined(averages, World(0, 1, 0, torch.device("cpu")))):
        assert means["psnr"] == 4.0
        assert math.isnan(means["lpips"])
    averages.clear()
    assert averages.means() == {}


def test_the_first_steps_do_not_count_and_long_ones_do_not_change_the_estimate():
    steps = FirstSteps()
    durations = [60.0, 30.0, 5.0, *[2.0, 2.0, 50.0, 2.0, 3.0, 50.0, 2.0], 2.0, 2.0]
    now, estimates = 100.0, []
    for seconds in durations:
        now += seconds
        estimates.append(steps.passed(now))
    assert estimates == [None] * 9 + [2.0, None, None]
