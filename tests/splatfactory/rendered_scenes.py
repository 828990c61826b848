"""Small scenes with exact cameras and depth, rendered from random Gaussians, written as shards."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from splatfactory.datasets import depth_codec
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.pose import Pose


def rendered_scene(key: str, num_views: int, size: int) -> StoredScene:
    generator = torch.Generator().manual_seed(sum(key.encode()) * 7919 + len(key))
    gaussians = _wall_and_blobs(generator)
    cameras = Camera.from_fov(1.0, w=size, h=size)[None].map(lambda x: x.expand(num_views, -1))
    poses = Pose.from_Rt(
        torch.eye(3).expand(num_views, 3, 3),
        torch.stack([torch.linspace(-0.3, 0.3, num_views), *torch.zeros(2, num_views)], dim=-1),
    )
    rendered = gaussians.render(cameras, poses, mode="RGB+ED", renderer="reference")[0]
    images, depths = [], []
    for view in rendered:
        pixels = (view[:3].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        images.append(buffer.getvalue())
        depths.append(depth_codec.encode(view[3].double().numpy()))
    return StoredScene(
        key,
        cameras.packed().numpy().astype(np.float32),
        poses.packed().numpy().astype(np.float32),
        tuple(images),
        tuple(depths),
    )


def _wall_and_blobs(generator: torch.Generator) -> Gaussians:
    """A wall of coloured patches behind a few blobs."""
    x, y = torch.meshgrid(torch.linspace(-3, 3, 7), torch.linspace(-3, 3, 7), indexing="ij")
    wall = torch.stack([x.flatten(), y.flatten(), torch.full((49,), 3.0)], dim=-1)
    blobs = torch.rand(6, 3, generator=generator) * torch.tensor([2.0, 2.0, 1.0])
    blobs = blobs + torch.tensor([-1.0, -1.0, 1.5])
    means = torch.cat([wall, blobs])
    base = torch.rand(1, 3, generator=generator)
    colors = (base + 0.25 * torch.randn(len(means), 3, generator=generator)).clamp(0, 1)
    scales = torch.cat([torch.full((49, 3), 0.5), torch.full((6, 3), 0.25)])
    quats = torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4)
    sh_coeffs = dc_from_rgb(colors)[:, None]
    return Gaussians(means, scales, quats, torch.full((len(means),), 0.95), sh_coeffs)


def write_shards(
    root: Path, num_train: int = 8, num_test: int = 3, num_views: int = 6, size: int = 28
) -> Path:
    """`train-scenes` and `test-scenes` below a folder; returns the folder."""
    for split, count in (("train", num_train), ("test", num_test)):
        with ShardOutput(root / f"{split}-scenes", "test") as output:
            for number in range(count):
                output.add(rendered_scene(f"{split}{number}", num_views, size))
    return root
