"""Pruning leaves out what shows least and keeps the rest as it was."""

import pytest
import torch

from zipsplat import Gaussians
from zipsplat.pruning import importance, keep_most_important, prune_opacity


@pytest.fixture
def scene() -> Gaussians:
    scales = torch.tensor([[1.0, 1, 1], [2, 2, 0.001], [9, 0.1, 0.1], [1, 1, 1]])
    opacities = torch.tensor([0.5, 0.9, 1.0, 0.0])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(4, 4)
    return Gaussians(torch.arange(12.0).view(4, 3), scales, quats, opacities, torch.zeros(4, 1, 3))


def test_importance_is_opacity_times_the_largest_silhouette(scene):
    torch.testing.assert_close(importance(scene), torch.tensor([0.5, 3.6, 0.9, 0.0]))


def test_the_most_important_stay_in_their_order(scene):
    kept = keep_most_important(scene, 2)
    assert torch.equal(kept.means, scene.means[[1, 2]])
    assert keep_most_important(scene, 9) is scene
    with pytest.raises(ValueError, match="at least one"):
        keep_most_important(scene, 0)


def test_faint_gaussians_are_left_out(scene):
    assert torch.equal(prune_opacity(scene, 0.6).means, scene.means[1:3])
    assert prune_opacity(scene, 0.0).num_gaussians == 4
    with pytest.raises(ValueError, match="opacity"):
        prune_opacity(scene, 1.5)
