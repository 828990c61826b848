"""Masks by name and by alpha, turned and sized as their photos are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zipsplat.images import load_image
from zipsplat.masks import MaskSource, find_mask, load_mask, load_masks, patch_shares, prepared


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (40, 20), (10, 20, 30)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def left_half(width: int, height: int) -> Image.Image:
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, : width // 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("name", ["a.png", "a.jpg.png", "a_mask.png", "a.jpg"])
def test_masks_are_found_by_name(photo, folder, name):
    left_half(40, 20).save(folder / name)
    left_half(40, 20).save(folder / "ab.png")
    assert find_mask(photo, folder).name == name
    mask = load_mask(photo, MaskSource(folder), (20, 40))
    assert mask.dtype == torch.bool
    assert mask[:, :18].all()
    assert not mask[:, 22:].any()


def test_the_photo_is_not_its_own_mask(photo):
    with pytest.raises(FileNotFoundError, match=r"no mask for a\.jpg; it would be called a\.png"):
        find_mask(photo, photo.parent)
    left_half(40, 20).save(photo.parent / "a_mask.png")
    assert find_mask(photo, photo.parent).name == "a_mask.png"


def test_two_masks_for_one_photo_are_an_error(photo, folder):
    left_half(40, 20).save(folder / "a.png")
    left_half(40, 20).save(folder / "a_mask.png")
    with pytest.raises(ValueError, match=r"several masks for a\.jpg: a\.png, a_mask\.png"):
        find_mask(photo, folder)


def test_inverted_and_scaled(photo, folder):
    left_half(80, 40).save(folder / "a.png")
    mask = load_mask(photo, MaskSource(folder), (10, 20))
    inverted = load_mask(photo, MaskSource(folder, is_inverted=True), (10, 20))
    assert mask[:, :10].all()
    assert torch.equal(mask, ~inverted)


def test_a_mask_of_another_shape_is_an_error(photo, folder):
    left_half(40, 40).save(folder / "a.png")
    with pytest.raises(ValueError, match=r"the mask has 40×40 pixels, its photo 40×20"):
        load_mask(photo, MaskSource(folder), (20, 40))


@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_masks_of_stored_and_of_upright_photos(tmp_path, folder, orientation):
    """Both mark the red corner of a photo that EXIF turns."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:8, :10, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    view = load_image(path)
    Image.fromarray(pixels[..., 0]).save(folder / "a.png")
    upright = Image.fromarray((view[0] * 255).byte().numpy())
    for mask_file in (Image.fromarray(pixels[..., 0]), upright):
        mask_file.save(folder / "a.png")
        mask = load_mask(path, MaskSource(folder), (view.shape[1], view.shape[2]))
        assert torch.equal(mask, view[0] > 0.5)


def test_the_alpha_of_photos(tmp_path):
    rgba = np.full((20, 40, 4), 200, np.uint8)
    rgba[:, 20:, 3] = 100
    Image.fromarray(rgba).save(tmp_path / "a.png")
    mask = load_mask(tmp_path / "a.png", MaskSource(), (20, 40))
    assert mask[:, :20].all()
    assert not mask[:, 20:].any()
    Image.new("RGB", (40, 20)).save(tmp_path / "b.png")
    masks = load_masks([tmp_path / "a.png", tmp_path / "b.png"], MaskSource(), [(10, 20)] * 2)
    assert [int(one.sum()) for one in masks] == [100, 200]


def test_a_mask_that_leaves_nothing_names_the_way_out(photo, folder):
    Image.new("L", (40, 20)).save(folder / "a.png")
    with pytest.raises(ValueError, match="leaves no pixel; are the masks inverted"):
        load_mask(photo, MaskSource(folder), (20, 40))


def test_the_argument(folder):
    assert MaskSource.from_argument("alpha", True) == MaskSource(None, True)
    assert MaskSource.from_argument(str(folder)) == MaskSource(folder)
    with pytest.raises(ValueError, match="a folder or 'alpha'"):
        MaskSource.from_argument("nowhere")


def test_what_the_network_sees_of_a_mask():
    mask = torch.zeros(20, 40, dtype=torch.bool)
    mask[:, :20] = True
    seen = prepared(mask, 28, 28)  # the middle 20 columns
    assert seen.shape == (28, 28)
    assert seen[:, :13].min() == 1
    assert seen[:, 15:].max() == 0
    shares = patch_shares(seen)
    torch.testing.assert_close(shares, torch.tensor([[1.0, 0], [1, 0]]))
    assert patch_shares(torch.stack([seen, seen])).shape == (2, 2, 2)
