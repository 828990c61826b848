"""Preprocess images, cameras and poses for the networks of Depth Anything 3.

Letters: V views, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.depth.resampling import nearest_multiple, resample, scaled_size
from zipsplat.images import crop_box
from zipsplat.pose import Pose
from zipsplat.preprocess import (
    Images,
    batched,
    check_cameras,
    check_image,
    checked_poses,
    scenes_of,
)


@dataclass(frozen=True)
class DepthInputs:
    """Network inputs, and how they map to the input images.

    Args:
        images: (V, 3, H, W) float32 in [0, 1].
        cameras: (V,) of the preprocessed images, if given.
        poses: (V,) camera-to-world, if given.
        sizes: (V, 2) width and height of the input images.
        scale: (V, 2) preprocessed pixels per input pixel, along x and y.
        corner: (V, 2) top left corner of the crop, in pixels of the scaled input images.
    """

    images: Tensor
    cameras: Camera | None
    poses: Pose | None
    sizes: Tensor
    scale: Tensor
    corner: Tensor

    def in_input_pixels(self, cameras: Camera) -> Camera:
        """Convert cameras (V,) of the preprocessed images to cameras of the input images."""
        scale, corner, sizes = (x.to(cameras.f) for x in (self.scale, self.corner, self.sizes))
        return Camera(sizes, cameras.f / scale, (cameras.c + corner) / scale)


class DepthPreprocessor:
    """Resamples images as Depth Anything 3 does, and adjusts their cameras.

    Given a long side, images keep their aspect ratio, rounded to the patch size; if their sizes
    then differ, they are centre-cropped to the common size. Given (height, width), they are cropped
    to that aspect ratio first.

    Args:
        image_size: long side in pixels, or (height, width); multiples of `multiple`.
        multiple: the network's patch size.
    """

    def __init__(self, image_size: int | tuple[int, int] = 504, multiple: int = 14) -> None:
        sides = (image_size,) if isinstance(image_size, int) else tuple(image_size)
        if len(sides) not in (1, 2) or any(side < multiple or side % multiple for side in sides):
            raise ValueError(
                "image_size must be a long side or a pair (height, width), multiples of "
                f"{multiple}, got {image_size}"
            )
        self.sides, self.multiple = sides, multiple

    def __call__(
        self,
        images: Images,
        cameras: Camera | Sequence[Camera] | None = None,
        poses: Pose | Sequence[Pose] | None = None,
    ) -> DepthInputs:
        """Prepare the views of one scene.

        Args:
            images: list of (3, H, W) of any sizes, (V, 3, H, W), or (1, V, 3, H, W); in [0, 1].
            cameras: of the input images, (V,) or a list of V.
            poses: camera-to-world, (V,) or a list of V.

        Raises:
            TypeError: if the images are not floating-point tensors.
            ValueError: if shapes, values or counts do not match.
        """
        scenes = scenes_of(images)
        if len(scenes) != 1:
            raise ValueError(f"depth is predicted for one scene at a time, got {len(scenes)}")
        views = scenes[0]
        for index, image in enumerate(views):
            check_image(image, index)
        prepared = [self._prepare(image) for image in views]
        height, width = (min(image.shape[axis] for image, *_ in prepared) for axis in (-2, -1))
        cut = [_middle(image, height, width) for image, *_ in prepared]
        sizes = torch.tensor([[image.shape[-1], image.shape[-2]] for image in views])
        scale = torch.tensor([scale for _, scale, _ in prepared])
        corner = torch.tensor([corner for *_, corner in prepared]) + torch.tensor(
            [offset for _, offset in cut]
        )
        inputs = DepthInputs(
            torch.stack([image for image, _ in cut]), None, None, sizes, scale, corner
        )
        if cameras is not None:
            inputs = _with_cameras(inputs, batched(cameras, scenes), scenes)
        if poses is None:
            return inputs
        return _with_poses(inputs, checked_poses(batched(poses, scenes))[0])

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network input for images that all have this size."""
        return self._sizes(height, width)[-1]

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Sizes that an image is resized to, in turn."""
        if len(self.sides) == 2:
            return [(self.sides[0], self.sides[1])]
        scaled = scaled_size(height, width, self.sides[0])
        rows, columns = (nearest_multiple(side, self.multiple) for side in scaled)
        return [scaled, (rows, columns)]

    def _prepare(self, image: Tensor) -> tuple[Tensor, tuple[float, float], tuple[float, float]]:
        """The resampled image, its scale along x and y, and the corner of the crop before it."""
        height, width = image.shape[-2:]
        top = left = 0
        if len(self.sides) == 2:
            box = crop_box(height, width, self.sides[1] / self.sides[0])
            top, left, height, width = box.top, box.left, box.height, box.width
            image = image[..., top : top + height, left : left + width]
        resized = _resized(image, self._sizes(height, width))
        scale = (resized.shape[-1] / width, resized.shape[-2] / height)
        return resized, scale, (left * scale[0], top * scale[1])


def _resized(image: Tensor, steps: Sequence[tuple[int, int]]) -> Tensor:
    """Resize an image in steps; an image that already has all sizes is not touched."""
    if all(image.shape[-2:] == step for step in steps):
        return image.to(torch.float32)
    levels = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8)
    pixels = levels.permute(1, 2, 0).cpu().numpy()
    for height, width in steps:
        pixels = resample(pixels, height, width)
    back = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous()
    return (back.to(torch.float32) / 255).to(image.device)


def _middle(image: Tensor, height: int, width: int) -> tuple[Tensor, tuple[float, float]]:
    """The centre crop of an image, and its corner (x, y)."""
    top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
    return image[..., top : top + height, left : left + width], (float(left), float(top))


def _with_cameras(inputs: DepthInputs, cameras: Camera, scenes: list[list[Tensor]]) -> DepthInputs:
    check_cameras(cameras, scenes)
    given = cameras[0]
    scale, corner = inputs.scale.to(given.f), inputs.corner.to(given.f)
    size = torch.tensor([inputs.images.shape[-1], inputs.images.shape[-2]]).to(given.f)
    moved = Camera(size.expand_as(given.size), given.f * scale, given.c * scale - corner)
    return DepthInputs(
        inputs.images, moved, inputs.poses, inputs.sizes, inputs.scale, inputs.corner
    )


def _with_poses(inputs: DepthInputs, poses: Pose) -> DepthInputs:
    return DepthInputs(
        inputs.images, inputs.cameras, poses, inputs.sizes, inputs.scale, inputs.corner
    )
