"""Spherical harmonics: orthonormal, in the known order and sign, and they rotate."""

from __future__ import annotations

import math

import pytest
import torch

from zipsplat.harmonics import basis, dc_from_rgb, evaluate, rgb_from_dc, rotate
from zipsplat.rotations import matrix_from_quat
from zipsplat.sh_constants import SH_C0, degree_of, num_coeffs


def sphere(n: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions and weights that integrate polynomials over the sphere exactly."""
    import numpy as np

    z, weight = np.polynomial.legendre.leggauss(n)
    angle = 2 * math.pi * np.arange(2 * n) / (2 * n)
    radius = np.sqrt(1 - z**2)[:, None]
    directions = np.stack(
        [radius * np.cos(angle), radius * np.sin(angle), np.broadcast_to(z[:, None], (n, 2 * n))],
        -1,
    )
    weights = np.broadcast_to(weight[:, None] * math.pi / n, (n, 2 * n))
    return torch.from_numpy(directions.reshape(-1, 3)), torch.from_numpy(weights.reshape(-1).copy())


def test_orthonormal() -> None:
    directions, weights = sphere()
    values = basis(directions, 3)
    gram = (values * weights[:, None]).mT @ values
    torch.testing.assert_close(gram, torch.eye(16, dtype=torch.float64), atol=1e-7, rtol=0)


def test_signs_by_hand() -> None:
    direction = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    direction = direction / direction.norm()
    x, y, z = direction.tolist()
    values = basis(direction, 2).tolist()
    assert values[0] == pytest.approx(0.28209479177387814)
    assert values[1:4] == pytest.approx([-0.48860251 * y, 0.48860251 * z, -0.48860251 * x])
    assert values[4] == pytest.approx(1.0925484305920792 * x * y)


@pytest.mark.parametrize("degree", range(4))
def test_rotation(degree: int) -> None:
    generator = torch.Generator().manual_seed(degree)
    sh_coeffs = torch.randn(5, num_coeffs(degree), 3, generator=generator, dtype=torch.float64)
    R = matrix_from_quat(torch.randn(4, generator=generator, dtype=torch.float64))
    directions = torch.nn.functional.normalize(
        torch.randn(5, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    turned = evaluate(rotate(sh_coeffs, R), directions @ R.mT)
    torch.testing.assert_close(turned, evaluate(sh_coeffs, directions))


def test_colours() -> None:
    rgb = torch.tensor([0.0, 0.25, 1.0])
    torch.testing.assert_close(rgb_from_dc(dc_from_rgb(rgb)), rgb)
    torch.testing.assert_close(
        evaluate(dc_from_rgb(rgb)[None], torch.tensor([0.0, 0.0, 1.0])), rgb - 0.5
    )
    assert pytest.approx(1 / (2 * math.sqrt(math.pi))) == SH_C0


def test_wrong_degrees() -> None:
    with pytest.raises(ValueError, match=r"0\.\.3, got 4"):
        basis(torch.zeros(3), 4)
    for num in (0, 2, 25):
        with pytest.raises(ValueError, match=f"got {num}"):
            degree_of(num)
