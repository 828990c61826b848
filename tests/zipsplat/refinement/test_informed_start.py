"""What few photos start from: geometry and the scene of a network, in one frame."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.zipsplat.refinement.textured_wall import DEPTH, wall_photos
from zipsplat.gaussians import Gaussians
from zipsplat.predictor import ZipSplat
from zipsplat.refinement import RefinementSettings
from zipsplat.refinement.informed_start import informed_start
from zipsplat.viewer import tools

SETTINGS = RefinementSettings(seconds=None, steps=1, max_gaussians=900, hold_out=0)


def tiny(_: object) -> ZipSplat:
    return ZipSplat("zipsplat-tiny", "cpu")


def test_the_scene_of_the_network_is_a_third_and_where_the_wall_is() -> None:
    photos, stages = wall_photos(3), list[str]()
    start = informed_start(tiny, photos, SETTINGS, stages.append)
    assert start is not None
    start.check()
    assert stages == ["estimating depth", "loading weights", "reconstructing"]
    network = start[600:]  # after two thirds of geometry and sparse points
    assert 150 <= network.num_gaussians <= 330
    depth = photos.poses[0].inv().transform(network.means[-150:])[:, 2].median()
    assert float(depth) == pytest.approx(DEPTH, rel=0.25)


@pytest.mark.parametrize("num_views", [1, 8])
def test_where_it_does_not_help_no_network_is_loaded(num_views: int) -> None:
    def load(_: object) -> ZipSplat:
        raise AssertionError("loaded")

    assert informed_start(load, wall_photos(num_views), SETTINGS) is None


@pytest.mark.parametrize(("num_views", "is_informed"), [(3, True), (8, False)])
def test_the_viewer_sharpens_few_photos_from_it(
    num_views: int, is_informed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[Gaussians | None] = []
    monkeypatch.setattr(tools, "refine", lambda start, *_: starts.append(start))
    photos = wall_photos(num_views)
    given: Any = (photos.images, photos.cameras, photos.poses, photos.points, SETTINGS)
    refine = tools.sharpening_tools().refine
    refine(None, *given)
    assert (starts[0] is not None) == is_informed
    own = Gaussians(
        torch.zeros(1, 3), torch.ones(1, 3), torch.ones(1, 4), torch.ones(1), torch.zeros(1, 1, 3)
    )
    refine(own, *given)
    assert starts[1] is own
