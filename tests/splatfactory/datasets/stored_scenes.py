"""Small scenes to fill shards with, also for processes that tests start."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from splatfactory.datasets import depth_codec
from splatfactory.datasets.shards import StoredScene

ROOT = Path(__file__).parents[3]


def make_scene(
    key: str, num_views: int = 6, height: int = 24, width: int = 32, has_depth: bool = True
) -> StoredScene:
    """A small scene whose contents are a function of its key."""
    rng = np.random.default_rng(list(key.encode()))
    images, depths = [], []
    for _ in range(num_views):
        pixels = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((width, height)).save(buffer, "PNG")
        images.append(buffer.getvalue())
        depths.append(depth_codec.encode(rng.uniform(1, 4, (height, width))))
    poses = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], np.float32), (num_views, 1))
    poses[:, 9] = np.arange(num_views) * 0.1
    camera = [width, height, width, width, width / 2, height / 2]
    cameras = np.tile(np.array(camera, np.float32), (num_views, 1))
    return StoredScene(key, cameras, poses, tuple(images), tuple(depths) if has_depth else None)
