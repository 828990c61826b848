"""Reconstruction of photos; keeps the features, so that another compression is cheap."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.model.network import Features
from zipsplat.pose import Pose
from zipsplat.posed_images import SparsePoints
from zipsplat.predictor import ZipSplat

Stage = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class Photos:
    """Input photos.

    Args:
        images: V of (3, H, W), RGB in [0, 1]; none for a scene from a file.
        cameras: (V,) intrinsics of the images, if known.
        poses: (V,) camera-to-world in any frame, if known; both or neither.
        names: V names, or none.
        points: sparse points in the frame of the poses, if any.
    """

    images: tuple[Tensor, ...] = ()
    cameras: Camera | None = None
    poses: Pose | None = None
    names: tuple[str, ...] = ()
    points: SparsePoints | None = None

    def plus(self, images: tuple[Tensor, ...]) -> Photos:
        """Append images; drops cameras and poses, since those of the new images are unknown."""
        names = tuple(self.name(view) for view in range(len(self.images)))
        added = tuple(f"added {number + 1}" for number in range(len(images)))
        return Photos(self.images + images, names=names + added)

    def name(self, view: int) -> str:
        """The display name of a photo."""
        return self.names[view] if self.names else f"photo {view + 1}"

    def relative_poses(self) -> Pose | None:
        """Poses (V,) in the frame of the first view, which is the world of the scene."""
        return None if self.poses is None else self.poses[:1].inv().compose(self.poses)

    def relative(self) -> Photos:
        """The same photos with poses and points in the frame of the first view."""
        if self.poses is None:
            return self
        points = self.points
        if points is not None:
            there = self.poses[0].inv().transform(torch.from_numpy(points.positions))
            points = replace(points, positions=there.numpy())
        return replace(self, poses=self.relative_poses(), points=points)


@dataclass(frozen=True)
class Reconstruction:
    """A scene and where it came from.

    Args:
        gaussians: (N,) one scene.
        photos: without images for a scene from a file; the poses are then in its world.
        features: of the photos, for decoding at any compression.
        group_size: Gaussians per scene token, if known.
        compression: share of tokens kept.
        encode_s: seconds from the photos to the features.
    decode_s: seconds from the features to the Gaussians.
    note: licence note of a scene from a file.
        is_sharpened: whether the scene was refined against its photos.
        remarks: on contents of the file that could not be read as intended.
    """

    gaussians: Gaussians
    photos: Photos = Photos()
    features: Features | None = None
    group_size: int | None = None
    compression: float = 1.0
    encode_s: float | None = None
    decode_s: float | None = None
    note: str = ""
    remarks: tuple[str, ...] = ()
    is_sharpened: bool = False

    @property
    def poses(self) -> Pose | None:
        """Poses (V,) of the photos in the world of the scene, if known."""
        return self.photos.relative_poses() if self.photos.images else self.photos.poses


def reconstruct(
    model: ZipSplat, photos: Photos, compression: float, stage: Stage
) -> Reconstruction:
    """Encode photos and decode them to Gaussians.

    Args:
        model: the predictor.
        photos: at least one image.
        compression: share of tokens to keep, in (0, 1].
        stage: called with the name of each stage.
    """
    stage(f"Encoding {len(photos.images)} views")
    start = _now(model)
    features = model.encode(
        list(photos.images),
        photos.cameras,
        photos.poses,
        use_priors=photos.poses is not None,
    )
    encode_s = _now(model) - start
    stage("Decoding")
    gaussians, decode_s = _decode(model, features, compression)
    return Reconstruction(
        gaussians=gaussians,
        photos=photos,
        features=features,
        group_size=model.model.config.gaussians_per_token,
        compression=compression,
        encode_s=encode_s,
        decode_s=decode_s,
    )


def recompress(
    model: ZipSplat, scene: Reconstruction, compression: float, stage: Stage
) -> Reconstruction:
    """Decode the features again, without running the backbone.

    Raises:
        ValueError: the scene came from a file and has no features.
    """
    if scene.features is None:
        raise ValueError("a scene from a file cannot be recompressed; reconstruct photos instead")
    stage("Decoding")
    gaussians, decode_s = _decode(model, scene.features, compression)
    return replace(scene, gaussians=gaussians, compression=compression, decode_s=decode_s)


def _decode(model: ZipSplat, features: Features, compression: float) -> tuple[Gaussians, float]:
    """One scene, and the seconds it took to decode."""
    start = _now(model)
    scene = model.decode(features, compression)[0].to(torch.float32)
    return scene, _now(model) - start


def _now(model: ZipSplat) -> float:
    """The time in seconds, after the device has finished all queued work."""
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()
