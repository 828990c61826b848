"""Figures and charts: sizes, and that they show what they are given."""

import torch

from splatfactory.visualization.evaluation_figures import comparison_sheet
from splatfactory.visualization.histograms import BLUE, ORANGE, histogram


def test_histogram_shows_both_groups():
    image = histogram(torch.zeros(10), torch.ones(5), 0.0, 1.0)
    assert image.shape == (192, 288, 3)
    left, right = image[60:150, :9].reshape(-1, 3), image[60:150, -9:].reshape(-1, 3)
    assert (left == BLUE).all(axis=1).any()
    assert not (left == ORANGE).all(axis=1).any()
    assert (right == ORANGE).all(axis=1).any()
    assert histogram(torch.zeros(0), torch.zeros(0), 0.0, 1.0).shape == (192, 288, 3)


def test_comparison_has_a_row_of_errors():
    true = torch.zeros(2, 3, 20, 20)
    same = comparison_sheet(true, true, [1, 2], [40.0, 40.0])
    other = comparison_sheet(true, true + 0.3, [1, 2], [10.0, 10.0])
    assert same.shape == other.shape
    assert other[-15:].mean() > same[-15:].mean()
