from __future__ import annotations

import dataclasses

import pytest
import torch

from splatfactory.datasets.samples import Batch, Scene, Views
from zipsplat.camera import Camera
from zipsplat.pose import Pose


def make_views(num: int, height: int = 4, width: int = 6, value: int = 51) -> Views:
    return Views(
        images=torch.full((num, 3, height, width), value, dtype=torch.uint8),
        cameras=Camera.from_focal(torch.full((num,), 5.0), w=width, h=height),
        poses=Pose.identity((num,)),
        depths=torch.full((num, height, width), -1.0),
        near=torch.full((num,), 0.1),
        far=torch.full((num,), 100.0),
        indices=torch.arange(num),
    )


def make_scene(name: str, **kwargs: int) -> Scene:
    views = make_views(3, **kwargs)
    return Scene(f"set-{name}", "set", views, views[:2], torch.zeros(3), torch.tensor(2.0))


def test_images_are_uint8_until_the_batch_moves_to_its_device():
    batch = Batch.collate([make_scene("a"), make_scene("b")])
    assert batch.context.images.dtype == torch.uint8
    moved = batch.to("cpu")
    assert moved.context.images.dtype == torch.float32
    torch.testing.assert_close(moved.target.images, torch.full((2, 2, 3, 4, 6), 51 / 255))
    torch.testing.assert_close(moved.context.rgb, batch.context.rgb)


def test_collate_stacks_every_field():
    batch = Batch.collate([make_scene("a"), make_scene("b", value=255)])
    assert len(batch) == 2
    assert batch.names == ("set-a", "set-b")
    assert batch.context.shape == (2, 3)
    assert batch.target.cameras.shape == (2, 2)
    assert batch.context[1].images.min() == 255
    assert batch.scales.tolist() == [2.0, 2.0]


def test_a_scene_alone_is_a_batch_without_copying_it():
    scene = make_scene("a", value=7)
    batch = Batch.collate([scene])
    assert batch.context.shape == (1, 3)
    assert batch.scales.shape == (1,)
    assert batch.context.images.data_ptr() == scene.context.images.data_ptr()
    torch.testing.assert_close(batch.target[0].depths, scene.target.depths)


def test_collate_names_the_sizes_that_differ():
    with pytest.raises(ValueError, match=r"context images.*resize"):
        Batch.collate([make_scene("a"), make_scene("b", width=8)])
    with pytest.raises(ValueError, match="at least one scene"):
        Batch.collate([])


def test_views_index_join_and_check():
    views = make_views(3)
    joined = Views.cat([views, views[1:]])
    assert joined.indices.tolist() == [0, 1, 2, 1, 2]
    assert Views.stack([views, views]).poses.shape == (2, 3)
    assert views[torch.tensor([2, 0])].indices.tolist() == [2, 0]
    assert Views.cat([joined[None], joined[None]], dim=1).cameras.shape == (1, 10)
    assert views[1].images.shape == (3, 4, 6)
    assert views[..., -1].indices == 2
    with pytest.raises(ValueError, match="depths must be"):
        dataclasses.replace(views, depths=torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match="near must have batch shape"):
        dataclasses.replace(views, near=torch.zeros(2))


def test_views_with_masks_join_with_those_that_have_none():
    views = make_views(2)
    masked = dataclasses.replace(views, masks=torch.zeros(2, 4, 6, dtype=torch.bool))
    joined = Views.cat([views, masked])
    assert joined.masks is not None
    assert joined.masks.flatten(1).any(dim=1).tolist() == [True, True, False, False]
    assert Views.stack([views, views]).masks is None
    assert masked[None].masks.shape == (1, 2, 4, 6)


def test_views_move_with_all_their_parts_and_keep_their_dtypes():
    moved = make_views(2).to("meta")
    parts = (moved.images, moved.cameras, moved.poses, moved.depths, moved.near, moved.indices)
    assert {part.device.type for part in parts} == {"meta"}
    assert (moved.images.dtype, moved.indices.dtype) == (torch.uint8, torch.int64)
