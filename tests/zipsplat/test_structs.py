"""Batches of tensors behave like one tensor."""

from __future__ import annotations

import pytest
import torch

from zipsplat import Camera, Gaussians, Pose


def scenes(*shape: int, degree: int = 1) -> Gaussians:
    generator = torch.Generator().manual_seed(0)

    def rand(*last: int) -> torch.Tensor:
        return torch.rand(*shape, *last, generator=generator)

    return Gaussians(rand(3), rand(3) + 0.1, rand(4) + 0.1, rand(), rand((degree + 1) ** 2, 3))


def test_shape_and_len() -> None:
    batch = scenes(2, 5)
    assert tuple(batch.shape) == (2, 5)
    assert len(batch) == 2
    assert batch.num_gaussians == 5
    assert Pose.identity((4,)).shape == (4,)
    with pytest.raises(TypeError, match="unbatched Pose has no length"):
        len(Pose.identity())


@pytest.mark.parametrize(
    ("index", "shape"),
    [
        (0, (4, 5)),
        (slice(1, 3), (2, 4, 5)),
        (None, (1, 3, 4, 5)),
        ((0, 1), (5,)),
        ((..., slice(0, 2)), (3, 4, 2)),
        ((slice(None), 1), (3, 5)),
        (torch.tensor([0, 2, 2]), (3, 4, 5)),
        (torch.tensor([True, False, True]), (2, 4, 5)),
        ((0, 1, 2), (1,)),
        ((0, 1, -1), (1,)),
    ],
)
def test_indexing_counts_batch_dimensions(index: object, shape: tuple[int, ...]) -> None:
    picked = scenes(3, 4, 5)[index]
    assert tuple(picked.shape) == shape
    assert tuple(picked.sh_coeffs.shape) == (*shape, 4, 3)


def test_integer_keeps_the_gaussians_dimension() -> None:
    scene = scenes(5)
    assert torch.equal(scene[-1].means, scene.means[4:])
    assert torch.equal(scene[torch.tensor([3])].means, scene.means[3:4])
    with pytest.raises(IndexError, match="out of range for 5"):
        scene[5]


def test_stack_and_cat() -> None:
    first, second = scenes(4), scenes(4).scale(2.0)
    stacked = torch.stack([first, second])
    assert tuple(stacked.shape) == (2, 4)
    assert torch.equal(stacked[1].means, second.means)
    assert tuple(torch.stack([first, second], dim=-1).shape) == (4, 2)
    assert tuple(torch.cat([first, second]).shape) == (8,)
    assert tuple(torch.cat([stacked, stacked], dim=-1).shape) == (2, 8)
    assert tuple(torch.concat([Pose.identity((2,)), Pose.identity((3,))]).shape) == (5,)
    with pytest.raises(TypeError, match="one class"):
        torch.stack([Pose.identity(), Camera.from_fov(1.0, w=4, h=4)])
    with pytest.raises(IndexError, match="dim must be in"):
        torch.cat([first, second], dim=1)


def test_other_functions_are_refused() -> None:
    with pytest.raises(TypeError):
        torch.exp(Pose.identity())


def test_moves_and_casts() -> None:
    scene = scenes(3).to(torch.float64)
    assert scene.dtype == torch.float64
    assert scene.cpu().device.type == "cpu"
    leaf = Pose(torch.eye(3).requires_grad_(), torch.zeros(3))
    assert leaf.R.requires_grad
    assert not leaf.detach().R.requires_grad
    copy = scene.clone()
    copy.means.zero_()
    assert scene.means.abs().sum() > 0


def test_fields_must_fit() -> None:
    with pytest.raises(ValueError, match=r"share one batch shape.*\(2,\).*\(3,\)"):
        Pose(torch.eye(3).expand(2, 3, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="share one dtype"):
        Pose(torch.eye(3), torch.zeros(3, dtype=torch.float64))
    with pytest.raises(TypeError, match="floating-point"):
        Pose(torch.eye(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TypeError, match="got list"):
        Pose(torch.eye(3), [0.0, 0.0, 0.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 dimensions"):
        Pose(torch.ones(3), torch.zeros(3))


@pytest.mark.cuda
def test_cuda() -> None:
    assert scenes(2, 3).cuda().device.type == "cuda"
