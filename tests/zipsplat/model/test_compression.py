"""Token selection against a plain version, and its laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zipsplat.model import compression
from zipsplat.model.compression import (
    SELECTORS,
    check_compression,
    evenly_spaced,
    kmeans,
    nearest,
    num_kept,
    select_kmeans,
    select_random,
    select_stride,
)


def tokens(B: int = 2, N: int = 60, D: int = 7, seed: int = 0) -> Tensor:
    return torch.randn(B, N, D, generator=torch.Generator().manual_seed(seed))


def naive_kmeans(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The algorithm in loops and float64, for one scene."""
    points = points.double()
    centers = points[torch.linspace(0, len(points) - 1, count).round().long()].clone()
    for _ in range(5):
        assignment = (points[:, None] - centers).square().sum(-1).argmin(dim=1)
        for c in range(count):
            members = points[assignment == c]
            centers[c] = members.mean(dim=0) if len(members) else 0
    return centers, assignment


@pytest.mark.parametrize("count", [1, 2, 17, 59])
def test_kmeans_is_the_plain_algorithm(count: int) -> None:
    x = tokens()
    centers, assignment = kmeans(x, count)
    chosen = select_kmeans(x, count)
    for b in range(2):
        wanted_centers, wanted_assignment = naive_kmeans(x[b], count)
        assert torch.equal(assignment[b], wanted_assignment)
        torch.testing.assert_close(centers[b].double(), wanted_centers, atol=1e-5, rtol=1e-5)
        distances = torch.cdist(wanted_centers, x[b].double())
        picked = distances.gather(1, chosen[b, :, None])[:, 0]
        torch.testing.assert_close(picked, distances.min(dim=1).values, atol=1e-5, rtol=0)


def test_empty_clusters_move_to_the_origin() -> None:
    x = torch.ones(1, 8, 3) + torch.arange(8)[None, :, None].div(4, rounding_mode="floor") * 10
    centers, assignment = kmeans(x, 4)  # two of the four start on the same points
    assert centers[0].tolist() == [[1] * 3, [0] * 3, [11] * 3, [0] * 3]
    assert assignment[0].tolist() == [0] * 4 + [2] * 4
    assert select_kmeans(x, 4)[0].tolist() == [0, 0, 4, 0]


def test_chunks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, points = tokens(seed=1), tokens(N=37, seed=2)
    whole = nearest(queries, points)
    sizes = []
    original = torch.baddbmm

    def spy(*args: Tensor, **kwargs: float) -> Tensor:
        sizes.append(args[1].shape[1] * points.shape[1])
        return original(*args, **kwargs)

    monkeypatch.setattr(compression, "MAX_DISTANCES", 100)
    monkeypatch.setattr(torch, "baddbmm", spy)
    assert torch.equal(nearest(queries, points), whole)
    assert len(sizes) > 10
    assert max(sizes) <= 100


def test_nearest_takes_the_first_of_equals() -> None:
    points = torch.tensor([[[1.0, 0], [0, 1], [1, 0], [0, 1]]])
    assert nearest(torch.tensor([[[2.0, 0], [0, 2], [1, 1]]]), points).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("name", SELECTORS)
def test_every_selector_keeps_as_many_as_asked(name: str) -> None:
    x = tokens()
    for count in (1, 7, 59, 60):
        indices = SELECTORS[name](x, count)
        assert indices.shape == (2, count)
        assert indices.dtype == torch.long
        assert indices.min() >= 0
        assert indices.max() < 60
    assert SELECTORS[name](x, 60).tolist() == [list(range(60))] * 2


def test_selection_is_without_gradient() -> None:
    x = tokens().requires_grad_()
    assert not select_kmeans(x, 10).requires_grad


def test_stride_spans_all_tokens() -> None:
    assert select_stride(tokens(N=11), 3).tolist() == [[0, 5, 10]] * 2


def test_random_selection() -> None:
    x = tokens()
    first, again, other = (
        select_random(x, 20, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert (first.diff(dim=1) > 0).all()


def test_numbers_of_tokens() -> None:
    assert [num_kept(648, c) for c in (1.0, 0.5, 0.25, 0.001, 1e-9)] == [648, 324, 162, 1, 1]
    assert num_kept(100, 0.29) == int(100 * 0.29)  # 28: as the released model counts
    for bad in (0.0, -0.1, 1.0001, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"in \(0, 1\].*use 1\.0 to keep every token"):
            check_compression(bad)


def test_start_is_spaced_evenly() -> None:
    assert evenly_spaced(10, 1, torch.device("cpu")).tolist() == [0]
    assert evenly_spaced(10, 4, torch.device("cpu")).tolist() == [0, 3, 6, 9]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_computed_in_float32(dtype: torch.dtype) -> None:
    x = tokens().to(dtype)
    assert torch.equal(select_kmeans(x, 20), select_kmeans(x.float(), 20))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(select_kmeans(x.float(), 20), select_kmeans(x, 20))
