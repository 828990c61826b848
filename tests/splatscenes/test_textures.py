"""Noise, palettes and painters."""

from __future__ import annotations

import numpy as np
import pytest

from splatscenes.noise import cells, fractal, noise3
from splatscenes.palette import Palette
from splatscenes.textures import (
    LEVEL_SIZES,
    PAINTERS,
    TEXELS,
    TEXTURE_SIZE,
    mip_chain,
    paint_texture,
)


def _seam(texture: np.ndarray) -> tuple[float, float]:
    """Mean step between neighbouring columns: across the border, and inside."""
    across = np.abs(texture[:, 0] - texture[:, -1]).mean()
    inside = np.abs(np.diff(texture, axis=1)).mean()
    return float(across), float(inside)


def test_fractal_noise_repeats_without_a_seam() -> None:
    noise = fractal(64, (3, 5), 3, np.random.default_rng(0))
    for image in (noise, noise.T):
        across, inside = _seam(image)
        assert across < 2 * inside
    assert 0 <= noise.min() < 0.3 < 0.7 < noise.max() <= 1


def test_cells_agree_with_a_search_over_all_points() -> None:
    nearest, border, label = cells(48, 4, np.random.default_rng(3))
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2)
    points = (grid + np.random.default_rng(3).uniform(0.05, 0.95, grid.shape)) / 4
    texel = (np.arange(48) + 0.5) / 48
    x, y = np.meshgrid(texel, texel)
    offset = np.abs(np.stack([x, y], -1)[:, :, None] - points)
    distance = np.linalg.norm(np.minimum(offset, 1 - offset), axis=-1)
    ordered = np.sort(distance, axis=-1)
    np.testing.assert_allclose(nearest, ordered[..., 0], atol=1e-6)
    # The second nearest may lie beyond the 3 × 3 cells looked at, but not where it matters.
    close = ordered[..., 1] < 0.25
    np.testing.assert_allclose(border[close], (ordered[..., 1] - ordered[..., 0])[close], atol=1e-6)
    np.testing.assert_array_equal(label, distance.argmin(-1))


def test_space_noise_is_smooth_and_repeatable() -> None:
    line = np.array([noise3(0.01 * k, 0.3, -1.7, 5) for k in range(300)])
    assert np.abs(np.diff(line)).max() < 0.03
    assert np.ptp(line) > 0.2
    assert noise3(0.5, 0.3, -1.7, 5) == noise3(0.5, 0.3, -1.7, 5) != noise3(0.5, 0.3, -1.7, 6)


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_every_painter_fills_a_repeatable_texture(name: str) -> None:
    first, again, other = (
        paint_texture(name, rng, Palette.sample(rng))
        for rng in (np.random.default_rng(seed) for seed in (4, 4, 5))
    )
    assert first.shape == (TEXTURE_SIZE, TEXTURE_SIZE, 3)
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.isfinite(first).all()
    assert first.std() > 0.005  # not one flat colour
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01


@pytest.mark.parametrize("name", ["brick", "grass", "tiles", "plaster", "water"])
def test_laid_textures_have_no_seam(name: str) -> None:
    rng = np.random.default_rng(8)
    texture = paint_texture(name, rng, Palette.sample(rng))
    for image in (texture, texture.transpose(1, 0, 2)):
        across, inside = _seam(image)
        assert across < 4 * inside + 0.02


def test_unknown_painter_names_the_known_ones() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"no texture 'velvet'.*brick"):
        paint_texture("velvet", rng, Palette.sample(rng))


def test_mip_levels_keep_the_light() -> None:
    rng = np.random.default_rng(2)
    texture = rng.uniform(0, 1, (TEXTURE_SIZE, TEXTURE_SIZE, 3)).astype(np.float32)
    mips = mip_chain(texture)
    assert mips.shape == (TEXELS, 3)
    light = np.square(texture).reshape(-1, 3).mean(0)
    start = 0
    for size in LEVEL_SIZES:
        level = mips[start : start + size * size].astype(np.float64) / 255
        np.testing.assert_allclose(np.square(level).mean(0), light, atol=0.004)
        start += size * size
    block = np.sqrt(np.square(texture[:2, :2]).mean((0, 1)))
    np.testing.assert_allclose(mips[TEXTURE_SIZE**2] / 255, block, atol=0.003)
