"""Which cells of context views show the same place."""

from __future__ import annotations

import math

import pytest
import torch

from splatfactory.datasets.samples import Views
from splatfactory.tiny.match_loss import matching_error
from splatfactory.tiny.true_matches import true_matches
from zipsplat.camera import Camera
from zipsplat.model.tiny.matcher import Matcher, Matches, reference_views
from zipsplat.pose import Pose

SIDE, GRID = 40, 4  # pixels of an image, cells along a side
CELL = SIDE // GRID
DEPTH = 2.0


def wall(shifts: list[float]) -> Views:
    """Views of a wall at depth 2, each camera some cells to the right of the first."""
    shape = (1, len(shifts))
    camera = Camera.from_fov(1.0, w=SIDE, h=SIDE)
    focal = float(camera.f[0])
    t = torch.zeros(*shape, 3)
    t[0, :, 0] = torch.tensor(shifts) * CELL * DEPTH / focal
    return Views(
        images=torch.rand(*shape, 3, SIDE, SIDE),
        cameras=camera.map(lambda value: value.expand(*shape, 2)),
        poses=Pose(torch.eye(3).expand(*shape, 3, 3), t),
        depths=torch.full((*shape, SIDE, SIDE), DEPTH),
        near=torch.ones(shape),
        far=torch.ones(shape),
        indices=torch.zeros(shape, dtype=torch.int64),
    )


def empty_matches(num_views: int) -> Matches:
    references = reference_views(num_views, torch.device("cpu"))
    N = GRID * GRID
    return Matches(torch.zeros(1, num_views, 3, N, N + 1), references, (GRID, GRID))


def test_references_are_the_first_the_one_before_and_the_one_after():
    assert reference_views(3, torch.device("cpu")).tolist() == [[-1, -1, 1], [0, 0, 2], [0, 1, -1]]
    assert reference_views(1, torch.device("cpu")).tolist() == [[-1, -1, -1]]


def test_a_camera_one_cell_to_the_right_sees_the_next_column():
    true = true_matches(wall([0.0, 1.0]), empty_matches(2))
    of_second = true.cells[0, 1, 0].view(GRID, GRID, 4), true.shares[0, 1, 0].view(GRID, GRID, 4)
    for row in range(GRID):
        for column in range(GRID):
            cells, shares = of_second[0][row, column], of_second[1][row, column]
            assert float(shares.sum()) == pytest.approx(1.0)
            best = int(cells[shares.argmax()])
            inside = column + 1 < GRID
            assert best == (row * GRID + column + 1 if inside else GRID * GRID)
            assert float(shares[cells == best].sum()) == pytest.approx(1.0, abs=1e-4)


def test_places_between_cells_are_shared():
    true = true_matches(wall([0.0, 0.25]), empty_matches(2))
    cells, shares = true.cells[0, 1, 0, 0], true.shares[0, 1, 0, 0]
    expected = {0: 0.75, 1: 0.25}
    for cell, share in expected.items():
        assert float(shares[cells == cell].sum()) == pytest.approx(share, abs=1e-4)


def test_nothing_is_known_without_reference_depth_or_behind_a_screen():
    views = wall([0.0, 1.0])
    views.depths[0, 1, :CELL] = -1  # no depth in the first row of cells
    views.depths[0, 0, -CELL:] = DEPTH / 2  # a screen before the last row of the first view
    shares = true_matches(views, empty_matches(2)).shares.sum(-1).view(2, 3, GRID, GRID)
    assert shares[0, :2].eq(0).all()  # the first view has neither first nor previous
    assert shares[1, 2].eq(0).all()  # the last has none after it
    second = shares[1, 0]
    assert second[0].eq(0).all()
    assert second[1:-1].gt(0.99).all()
    assert second[-1, :-1].eq(0).all()
    assert float(second[-1, -1]) == pytest.approx(1.0)  # outside: seen nowhere, whatever is there


def test_the_loss_is_least_for_true_matches():
    matches = empty_matches(2)
    true = true_matches(wall([0.0, 1.0]), matches)
    uniform = matching_error(matches.logits, true)
    assert float(uniform) == pytest.approx(math.log(GRID * GRID + 1), rel=1e-4)
    right = torch.zeros_like(matches.logits).scatter_add_(-1, true.cells, 50 * true.shares)
    assert float(matching_error(right, true)) < 1e-3
    nothing = true_matches(wall([0.0]), empty_matches(1))
    assert float(matching_error(empty_matches(1).logits, nothing)) == 0


def test_a_matcher_learns_to_find_a_moved_image():
    """Descriptors of noise, and the same noise one cell further: after some steps they match."""
    torch.manual_seed(0)
    matcher = Matcher(8, 16, 2)
    optimizer = torch.optim.Adam(matcher.parameters(), lr=1e-2)
    views = wall([0.0, 1.0])
    errors = []
    for _ in range(60):
        wide = torch.randn(1, 8, GRID, GRID + 1)
        features = torch.stack((wide[..., :-1], wide[..., 1:]), dim=1)
        matches = matcher(features)
        errors.append(matching_error(matches.logits, true_matches(views, matches)).mean())
        optimizer.zero_grad()
        errors[-1].backward()
        optimizer.step()
    assert errors[-1] < 0.5 * errors[0]


def test_a_new_matcher_changes_nothing():
    torch.manual_seed(0)
    matcher = Matcher(8, 16, 2)
    patches, camera = matcher.embed(matcher(torch.randn(2, 3, 8, GRID, GRID)))
    assert patches.shape == (2, 3, 4, 16)
    assert camera.shape == (2, 3, 16)
    assert not patches.any()
    assert not camera.any()


def test_tokens_are_told_place_shift_and_certainty():
    """All cells but those of the last column are seen one cell to the right in the first view."""
    cells, num_references, numbers = 2, 3, 5
    matcher = Matcher(8, cells**2 * num_references * numbers, cells)
    with torch.no_grad():
        matcher.to_patch.weight.copy_(torch.eye(len(matcher.to_patch.weight)))
    matches = empty_matches(2)
    N = GRID * GRID
    seen_at = torch.arange(N) + 1
    seen_at[GRID - 1 :: GRID] = N  # nowhere
    matches.logits[0, 1, 0] = 100.0 * torch.nn.functional.one_hot(seen_at, N + 1)
    embedded = matcher.embed(matches)[0].view(2, 2, 2, cells, cells, num_references, numbers)
    step = 2 / GRID  # of one cell, in images from -1 to 1
    centres = (torch.arange(GRID) + 0.5) * step - 1
    for row in range(GRID):
        for column in range(GRID):
            of_cell = embedded[1, row // cells, column // cells, row % cells, column % cells]
            x, y = float(centres[column]), float(centres[row])
            is_seen = column + 1 < GRID
            expected = [x + step, y, step, 0, 1] if is_seen else [0] * numbers
            assert of_cell[0].tolist() == pytest.approx(expected, abs=1e-5)
            assert not of_cell[2].any()  # the last view has none after it
    assert not embedded[0, ..., :2, :].any()  # the first view has neither first nor previous
