"""The small weights in the package: loadable, small, and better than knowing nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from zipsplat import Camera, Gaussians, Pose, ZipSplat, load_image, weights
from zipsplat.cli import main
from zipsplat.images import to_square

NAME = "zipsplat-tiny"
OFFICE = Path(__file__).parents[2] / "assets/examples/office"
SIZE = 126


@pytest.fixture(scope="module")
def model() -> ZipSplat:
    return ZipSplat(NAME, device="cpu")


@pytest.fixture(scope="module")
def views() -> list[Tensor]:
    return [load_image(path) for path in sorted(OFFICE.glob("*.png"))[:4]]


def test_the_file_is_small_and_says_where_it_is_from() -> None:
    path = weights.bundled()[NAME]
    assert path.stat().st_size <= 16e6
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert "Apache-2.0" in card
    assert weights.licence_note(NAME).startswith("Made with zipsplat-tiny (Apache-2.0)")


def test_images_become_gaussians_at_the_size_it_was_trained_at(
    model: ZipSplat, views: list[Tensor]
) -> None:
    features = model.encode(views)
    assert features.grid == (SIZE // 14, SIZE // 14)
    counts = [model.decode(features, c)[0].num_gaussians for c in (1.0, 0.5, 0.25)]
    assert counts == [4 * 81 * 32, 2 * 81 * 32, 81 * 32]


def test_the_first_view_is_seen_again(model: ZipSplat, views: list[Tensor]) -> None:
    """From the first camera the scene looks like the first image rather than one colour.

    The field of view is not known, so the best of a few counts.
    """
    scene: Gaussians = model(views)[0]
    image = torch.nn.functional.interpolate(
        to_square(views[0])[None].float(), (SIZE, SIZE), mode="area"
    )[0]
    one_color = (image - image.mean(dim=(1, 2), keepdim=True)).square().mean()
    errors = []
    for fov in (0.8, 1.0, 1.2, 1.4):
        rendered, _ = scene.render(Camera.from_fov(fov, w=SIZE, h=SIZE), Pose.identity())
        errors.append((rendered[0] - image).square().mean())
    assert min(errors) < 0.5 * one_color


def test_the_command_line_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    output = tmp_path / "scene.spz"
    photos = [str(path) for path in sorted(OFFICE.glob("*.png"))[:2]]
    assert main(["reconstruct", *photos, "--weights", NAME, "-o", str(output)]) == 0
    assert Gaussians.load(output).num_gaussians == 2 * 81 * 32
