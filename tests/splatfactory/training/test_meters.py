"""Means over scenes."""

import math

import torch

from splatfactory.training.distributed import World
from splatfactory.training.meters import Averages
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
