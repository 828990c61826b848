"""What tests of captures share."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from splatfactory.datasets.shards import StoredScene
from splatscenes.scene import GeneratedScene

SIZE = (60, 80)
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
WriteCapture = Callable[..., Path]


def check_poses(stored: StoredScene, scene: GeneratedScene) -> None:
    poses = scene.shot.world_from_camera
    np.testing.assert_allclose(stored.poses[:, :9], poses[:, :3, :3].reshape(-1, 9), atol=1e-6)
    np.testing.assert_allclose(stored.poses[:, 9:], poses[:, :3, 3], atol=1e-5)


def decoded(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
