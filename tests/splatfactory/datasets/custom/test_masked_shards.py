"""Masks of own photos: in shards as transparency, in batches as masks, in losses as nothing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets.multiview import SampleConfig, open_shards
from splatfactory.datasets.samples import Batch, Views
from splatfactory.datasets.scene_augment import mirror
from splatfactory.datasets.scripts.custom import convert
from splatfactory.datasets.store import ShardStore
from splatfactory.protocols import RenderedViews
from splatfactory.training.objective import over_truth

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Six photos of 80 x 60 with a magenta person on a grey wall, masks without him, cameras."""
    folder = tmp_path / "room"
    (folder / "images").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    frames = []
    for view in range(6):
        pixels = np.full((60, 80, 3), 100, np.uint8)
        mask = np.full((60, 80), 255, np.uint8)
        pixels[20:, 10 * view : 10 * view + 12] = (255, 0, 255)
        mask[20:, 10 * view : 10 * view + 12] = 0
        Image.fromarray(pixels).save(folder / "images" / f"{view}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{view}.png")
        pose = np.eye(4)
        pose[0, 3] = 0.3 * view
        frames.append({"file_path": f"images/{view}.png", "transform_matrix": pose.tolist()})
    content = {"w": 80, "h": 60, "fl_x": 70.0, "fl_y": 70.0, "cx": 40.0, "cy": 30.0}
    (folder / "transforms.json").write_text(json.dumps(content | {"frames": frames}))
    return folder


def shards_of(capture: Path, *more: object) -> Path:
    out = capture.parent / f"out{len(more)}"
    options = [str(part) for part in (capture, "--output-dir", out, *more)]
    assert convert.main(options) == 0
    return out / "test-scenes"


def batch_of(shards: Path) -> Batch:
    sample = SampleConfig(
        num_target_views=2,
        preprocessing=PreprocessingConfig(resize=40, edge_divisible_by=2),
        normalize_baseline="max_pairwise_d",
    )
    data = open_shards("room", shards, {"name": "random"}, sample)
    return Batch.collate([data.load(0, 2, 4 / 3, 0)])


def test_masks_are_stored_as_transparency_and_come_out_in_batches(capture: Path) -> None:
    masks = capture.parent / "masks"
    shards = shards_of(capture, "--masks", masks)
    stored = ShardStore(shards).read(0)
    with Image.open(io.BytesIO(stored.images[2])) as image:
        assert (image.format, image.mode) == ("WEBP", "RGBA")
        alpha = np.asarray(image.getchannel("A"))
        colors = np.asarray(image.convert("RGB"))
    assert np.array_equal(alpha, np.asarray(Image.open(masks / "2.png")))
    assert np.array_equal(colors, np.asarray(Image.open(capture / "images" / "2.png")))
    views = batch_of(shards).to("cpu").target
    assert views.masks is not None
    is_magenta = (views.rgb[:, :, 0] > 0.9) & (views.rgb[:, :, 1] < 0.1)
    assert is_magenta.any()
    assert not (is_magenta & views.masks).any()
    assert 0.05 < float((~views.masks).float().mean()) < 0.2
    assert (views.depths[~views.masks] < 0).all()


def test_without_masks_nothing_changes(capture: Path) -> None:
    shards = shards_of(capture)
    stored = ShardStore(shards).read(0)
    assert stored.images[2] == (capture / "images" / "2.png").read_bytes()
    assert batch_of(shards).target.masks is None


def test_masks_of_photos_whose_poses_are_searched(capture: Path, monkeypatch) -> None:
    """The search sees masks of its upright copies, and the shards have them, too."""
    (capture / "transforms.json").rename(capture.parent / "transforms.json")
    seen = {}

    def solve(files, focals, search, on_stage, masks=None):
        seen.update(
            {path.name: np.asarray(Image.open(masks / f"{path.name}.png")) for path in files}
        )
        raise ValueError("that is all this test wants")

    monkeypatch.setattr(convert, "solve", solve)
    out = capture.parent / "searched"
    options = [str(capture), "--output-dir", str(out), "--masks", str(capture.parent / "masks")]
    assert convert.main(options) == 1
    assert sorted(seen) == [f"{view:06d}.png" for view in range(6)]
    assert np.array_equal(
        seen["000003.png"] == 0, np.asarray(Image.open(capture.parent / "masks/3.png")) == 0
    )


def test_losses_see_the_truth_where_photos_are_masked() -> None:
    numbers = torch.Generator().manual_seed(0)
    images = torch.rand(1, 2, 3, 8, 10, generator=numbers)
    masks = torch.rand(1, 2, 8, 10, generator=numbers) < 0.5
    color = torch.rand(1, 2, 3, 8, 10, generator=numbers).requires_grad_()
    plain = torch.zeros(1, 2, 8, 10)
    views = Views.__new__(Views)
    object.__setattr__(views, "images", images)
    rendered = over_truth(RenderedViews(color, plain, plain), views, masks)
    error = (rendered.color - images).square()
    assert error.permute(0, 1, 3, 4, 2)[~masks].abs().max() == 0
    error.sum().backward()
    assert color.grad.permute(0, 1, 3, 4, 2)[~masks].abs().max() == 0
    assert color.grad.permute(0, 1, 3, 4, 2)[masks].abs().min() > 0


def test_masked_views_join_with_others_and_are_mirrored(capture: Path) -> None:
    masked = batch_of(shards_of(capture, "--masks", capture.parent / "masks")).target[0]
    plain = batch_of(shards_of(capture)).target[0]
    joined = Views.stack([masked, plain])
    assert torch.equal(joined.masks[0], masked.masks)
    assert joined.masks[1].all()
    assert torch.equal(mirror(masked).masks, masked.masks.flip(-1))
    assert Views.stack([plain, plain]).masks is None
    assert masked[:1].masks.shape == masked[:1].depths.shape
