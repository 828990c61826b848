"""Quaternions and matrices describe the same rotations."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zipsplat.rotations import look_at, matrix_from_quat, multiply_quats, quat_from_matrix


def random_quats(seed: int, num: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 4, generator=generator, dtype=torch.float64)


def test_quarter_turn_about_z_by_hand() -> None:
    half = math.sqrt(0.5)
    matrix = matrix_from_quat(torch.tensor([half, 0.0, 0.0, half]))
    wanted = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(matrix, wanted)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_round_trip_and_length_do_not_matter(seed: int) -> None:
    quats = random_quats(seed)
    matrices = matrix_from_quat(quats * 7.5)
    identity = torch.eye(3, dtype=torch.float64).expand_as(matrices)
    torch.testing.assert_close(matrices.mT @ matrices, identity)
    assert torch.linalg.det(matrices).min() > 0.99
    unit = quats / quats.norm(dim=-1, keepdim=True)
    unit = torch.where(unit[:, :1] < 0, -unit, unit)
    torch.testing.assert_close(quat_from_matrix(matrices), unit)


def test_half_turns() -> None:
    for axis in range(3):
        quat = torch.zeros(4)
        quat[axis + 1] = 1
        torch.testing.assert_close(quat_from_matrix(matrix_from_quat(quat)).abs(), quat)


def test_product_is_composition() -> None:
    a, b = random_quats(1), random_quats(2)
    product = matrix_from_quat(multiply_quats(a, b))
    torch.testing.assert_close(product, matrix_from_quat(a) @ matrix_from_quat(b))


def test_gradients() -> None:
    quats = random_quats(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(matrix_from_quat, (quats,))
    matrices = matrix_from_quat(random_quats(4, 4)).detach().requires_grad_()
    assert torch.autograd.gradcheck(quat_from_matrix, (matrices,))


def test_look_at() -> None:
    position = torch.tensor([[0.0, 0.0, -2.0], [3.0, -1.0, 0.5], [0.0, -5.0, 0.0]])
    R = look_at(position, torch.zeros(3).expand_as(position))
    torch.testing.assert_close(R.mT @ R, torch.eye(3).expand_as(R), atol=1e-6, rtol=0)
    forward = -position / position.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(R[..., 2], forward)
    torch.testing.assert_close(R[0], torch.eye(3))  # looks along +z with y down
    assert R[1, 1, 1] > 0  # the camera's down points down
