"""Preprocess pictures, cameras and poses for the networks of Depth Anything 3.

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
    """What a network expects, and where it is in the pictures as they were given.

    Args:
        images: (V, 3, H, W) float32 in [0, 1].
        cameras: (V,) of these images, if given.
        poses: (V,) camera-to-world, if given.
        sizes: (V, 2) width and height of the given pictures.
        scale: (V, 2) pixels of the images per pixel of the pictures, along x and y.
        corner: (V, 2) the images' top left corner, in pixels of the scaled pictures.
    """

    images: Tensor
    cameras: Camera | None
    poses: Pose | None
    sizes: Tensor
    scale: Tensor
    corner: Tensor

    def in_pictures(self, cameras: Camera) -> Camera:
        """Cameras (V,) of the images as cameras of the given pictures."""
        scale, corner, sizes = (x.to(cameras.f) for x in (self.scale, self.corner, self.sizes))
        return Camera(sizes, cameras.f / scale, (cameras.c + corner) / scale)


class DepthPreprocessor:
    """Resamples pictures as Depth Anything 3 does, and moves cameras along.

    With a long side, pictures keep their shape up to the patch size; if they then differ, the
    middle that all have is cut out. With a (height, width), they are cropped to that shape first.

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
            cameras: of the pictures as given, (V,) or a list of V.
            poses: camera-to-world, (V,) or a list of V.

        Raises:
            TypeError: if the images are not floating-point tensors.
            ValueError: if shapes, values or numbers do not fit.
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
        """(height, width) of a picture as the network sees it, if all have its shape."""
        return self._sizes(height, width)[-1]

    def _sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Sizes that a picture is brought to, one after the other."""
        if len(self.sides) == 2:
            return [(self.sides[0], self.sides[1])]
        scaled = scaled_size(height, width, self.sides[0])
        rows, columns = (nearest_multiple(side, self.multiple) for side in scaled)
        return [scaled, (rows, columns)]

    def _prepare(self, image: Tensor) -> tuple[Tensor, tuple[float, float], tuple[float, float]]:
        """The resampled picture, its scale along x and y, and the corner of a crop before it."""
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
    """A picture at one size after the other; one that has all of them is left as it is."""
    if all(image.shape[-2:] == step for step in steps):
        return image.to(torch.float32)
    levels = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8)
    pixels = levels.permute(1, 2, 0).cpu().numpy()
    for height, width in steps:
        pixels = resample(pixels, height, width)
    back = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).contiguous()
    return (back.to(torch.float32) / 255).to(image.device)


def _middle(image: Tensor, height: int, width: int) -> tuple[Tensor, tuple[float, float]]:
    """The middle of a picture, and the corner (x, y) where it begins."""
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
