"""Generated scenes as a data set: a store without files, and the same scenes encoded for shards.

Both yield the same samples: images are stored losslessly, and the store's depth maps pass
through the depth codec.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from splatfactory.datasets import depth_codec
from splatfactory.datasets.frames import BoolMap, FloatMap, Frame, Indices, Pixels
from splatfactory.datasets.shards import StoredScene
from splatfactory.datasets.store import SceneError, SceneInfo
from splatscenes.scene import GeneratedScene, generate_scene, scene_key

FloatArray = npt.NDArray[np.float32]

_KEPT_PLACES = 4  # the loader reads cameras, poses and frames of a scene in turn


def camera_rows(scene: GeneratedScene) -> FloatArray:
    """Rows (V, 6) w, h, fx, fy, cx, cy."""
    K, shot = scene.shot.K, scene.shot
    row = [shot.width, shot.height, K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    return np.tile(np.array(row, dtype=np.float32), (len(shot.world_from_camera), 1))


def pose_rows(scene: GeneratedScene) -> FloatArray:
    """Rows (V, 12): camera-to-world rotation row by row, then translation."""
    poses = scene.shot.world_from_camera
    rows = np.concatenate([poses[:, :3, :3].reshape(-1, 9), poses[:, :3, 3]], axis=1)
    return rows.astype(np.float32)


def stored_scene(scene: GeneratedScene) -> StoredScene:
    """Render all views and encode them for a shard."""
    images, depths = [], []
    for view in range(len(scene.shot.world_from_camera)):
        color, depth = scene.render(view)
        buffer = io.BytesIO()
        # Lowest effort: 1/20 of the default's time for a fifth more bytes.
        Image.fromarray(color).save(buffer, "WEBP", lossless=True, quality=0, method=0)
        images.append(buffer.getvalue())
        depths.append(depth_codec.encode(depth, is_quick=True))
    return StoredScene(
        scene.key, camera_rows(scene), pose_rows(scene), tuple(images), tuple(depths)
    )


class GeneratedFrame:
    """A view that is rendered on first access.

    Args:
        scene: the scene.
        view: number of the view.
    """

    def __init__(self, scene: GeneratedScene, view: int) -> None:
        self._scene = scene
        self._view = view
        self._rendered: tuple[Pixels, FloatMap] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._scene.shot.height, self._scene.shot.width

    def crop(self, top: int, left: int, bottom: int, right: int) -> Pixels:
        """The pixels (h, w, 3) of a rectangle."""
        return self._render()[0][top:bottom, left:right]

    def sample_depth(self, rows: Indices, columns: Indices) -> FloatMap | None:
        """Depth (len(rows), len(columns)) at integer pixels, −1 in the sky."""
        return self._render()[1][rows[:, None], columns]

    def sample_mask(self, rows: Indices, columns: Indices) -> BoolMap | None:
        """None: all pixels count."""
        del rows, columns
        return None

    def _render(self) -> tuple[Pixels, FloatMap]:
        if self._rendered is None:
            color, depth = self._scene.render(self._view)
            codes, near, far = depth_codec.quantize(depth)
            self._rendered = color, depth_codec.lookup_table(near, far).take(codes)
        return self._rendered


class GeneratedStore:
    """A `SceneStore` without files, which builds scenes on demand.

    Args:
        split: `train`, `test` or `example`.
        num_scenes: number of scenes in the collection.
        num_views: views per scene.
        size: height and width in pixels.
        seed: seed of the collection.

    Raises:
        ValueError: if a number is not positive or the split is unknown.
    """

    def __init__(
        self,
        split: str = "train",
        num_scenes: int = 1000,
        num_views: int = 24,
        size: tuple[int, int] = (252, 252),
        seed: int = 0,
    ) -> None:
        if num_scenes < 1:
            raise ValueError(f"num_scenes must be positive, got {num_scenes}")
        self._arguments = (split, seed, num_views, size)
        # Fail here, not in a loader's worker, if the arguments are invalid.
        self._places: OrderedDict[int, GeneratedScene] = OrderedDict()
        self._lock = threading.Lock()
        self._scenes = [
            SceneInfo(scene_key(split, seed, index), num_views, has_depth=True)
            for index in range(num_scenes)
        ]
        self._scene(0)

    @property
    def scenes(self) -> Sequence[SceneInfo]:
        """All scenes."""
        return self._scenes

    @property
    def faults(self) -> Sequence[tuple[str, SceneError]]:
        """None: every index yields a scene."""
        return ()

    def cameras(self, scene: int) -> FloatArray:
        """Camera rows (N, 6) of a scene: w, h, fx, fy, cx, cy."""
        return camera_rows(self._scene(scene))

    def poses(self, scene: int) -> FloatArray:
        """Pose rows (N, 12) of a scene: camera-to-world R, row by row, then t."""
        return pose_rows(self._scene(scene))

    def frames(self, scene: int, views: Sequence[int]) -> list[Frame]:
        """Some views of a scene."""
        place = self._scene(scene)
        return [GeneratedFrame(place, view) for view in views]

    def _scene(self, index: int) -> GeneratedScene:
        split, seed, num_views, size = self._arguments
        with self._lock:
            if index in self._places:
                self._places.move_to_end(index)
                return self._places[index]
        place = generate_scene(split, seed, index, num_views, size)
        with self._lock:
            self._places[index] = place
            while len(self._places) > _KEPT_PLACES:
                self._places.popitem(last=False)
        return place

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_places": OrderedDict(), "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
