"""Preprocessing of images, cameras and poses for the network.

Letters: B scenes, V views, H W pixels.

Values of user data are checked here; inner modules only check shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.images import InputSize, crop_box, crop_to_ar, resize
from zipsplat.pose import Pose
from zipsplat.structs import TensorStruct

Images = Tensor | Sequence[Tensor]
ImageSize = int | tuple[int, int] | InputSize
S = TypeVar("S", bound=TensorStruct)

# Overshoot of resampling; values beyond it are an error.
RANGE_TOLERANCE = 1e-3
# Pixels; rounding error of the size of a scaled camera.
SIZE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Inputs:
    """Network inputs.

    Args:
        images: (B, V, 3, H, W) float32 in [0, 1].
        cameras: (B, V) intrinsics of the preprocessed images, if given.
        poses: (B, V) camera-to-world, if given.
    """

    images: Tensor
    cameras: Camera | None
    poses: Pose | None


class Preprocessor:
    """Crops images to the network's aspect ratio, resamples them, and adjusts cameras.

    Args:
        image_size: side of a square in pixels, (height, width), or an `InputSize`; if that keeps
            aspect ratios, the first image decides.
        multiple: sides must be multiples of this, the network's patch size.
    """

    def __init__(self, image_size: ImageSize = 252, multiple: int = 14) -> None:
        self.multiple = multiple
        self.keeps_shape = isinstance(image_size, InputSize) and image_size.keeps_shape
        image_size = image_size.side if isinstance(image_size, InputSize) else image_size
        sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        if len(sides) != 2 or any(side < multiple or side % multiple for side in sides):
            raise ValueError(
                f"image_size must be a multiple of {multiple} or a pair (height, width) of such, "
                f"got {image_size}"
            )
        self.height, self.width = sides

    def fitted(self, image: Tensor) -> Preprocessor:
        """The preprocessor for images like one (3, H, W); itself unless aspect ratios are kept."""
        if not self.keeps_shape:
            return self
        longest = InputSize(max(self.height, self.width), keeps_shape=True)
        size = longest.for_image(image.shape[-2], image.shape[-1], self.multiple)
        return Preprocessor(size, self.multiple)

    def __call__(
        self,
        images: Images,
        cameras: Camera | Sequence[Camera] | None = None,
        poses: Pose | Sequence[Pose] | None = None,
    ) -> Inputs:
        """Prepare the views of one scene, or of a batch of scenes.

        Args:
            images: list of (3, H, W) of any sizes, (V, 3, H, W), or (B, V, 3, H, W); in [0, 1].
            cameras: of the input images: (V,), a list of V, or (B, V) for a batch.
            poses: camera-to-world; shapes as for `cameras`.

        Raises:
            TypeError: if the images are not floating-point tensors.
            ValueError: if shapes, values or counts do not match.
        """
        scenes = scenes_of(images)
        for index, image in enumerate(image for views in scenes for image in views):
            check_image(image, index)
        if self.keeps_shape:
            return self.fitted(scenes[0][0])(images, cameras, poses)
        prepared = torch.stack([torch.stack([self._prepare(i) for i in v]) for v in scenes])
        return Inputs(
            images=prepared,
            cameras=None if cameras is None else self._adjust(batched(cameras, scenes), scenes),
            poses=None if poses is None else checked_poses(batched(poses, scenes)),
        )

    def _prepare(self, image: Tensor) -> Tensor:
        cropped = crop_to_ar(image, self.width / self.height)
        return resize(cropped, self.height, self.width).to(torch.float32)

    def _adjust(self, cameras: Camera, scenes: list[list[Tensor]]) -> Camera:
        """Adjust cameras: shift by whole pixels, then scale."""
        check_cameras(cameras, scenes)
        boxes = [
            [crop_box(i.shape[-2], i.shape[-1], self.width / self.height) for i in views]
            for views in scenes
        ]
        corner = cameras.c.new_tensor([[(box.left, box.top) for box in row] for row in boxes])
        size = cameras.size.new_tensor([[(box.width, box.height) for box in row] for row in boxes])
        target = cameras.size.new_tensor([self.width, self.height]).expand_as(size)
        return Camera(size, cameras.f, cameras.c - corner).scale(target / size)


def scenes_of(images: Images) -> list[list[Tensor]]:
    """Views of each scene."""
    if not isinstance(images, (Tensor, list, tuple)):
        raise TypeError(
            f"images must be a list of tensors or a tensor, got {type(images).__name__}; "
            "load_image loads a file as a tensor"
        )
    if isinstance(images, Tensor) and images.ndim not in (4, 5):
        hint = "; for one image, pass a list: [image]" if images.ndim == 3 else ""
        raise ValueError(
            "images must be a list of (3, H, W), (V, 3, H, W) or (B, V, 3, H, W), got "
            f"{tuple(images.shape)}{hint}"
        )
    is_batch = isinstance(images, Tensor) and images.ndim == 5
    scenes = [list(views) for views in images] if is_batch else [list(images)]
    if not scenes or not scenes[0]:
        raise ValueError("images must hold at least one scene with one view, got none")
    return scenes


def check_image(image: Tensor, index: int) -> None:
    """Check that an image is RGB (3, H, W) in [0, 1]; errors name its index."""
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image {index} must be a tensor (3, H, W), got {type(image).__name__}; load_image "
            "loads a file as one"
        )
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(
            f"image {index} must be (3, H, W): RGB, channels first; got {tuple(image.shape)}"
        )
    if not image.is_floating_point():
        raise TypeError(
            f"image {index} must be floating point in [0, 1], got {image.dtype}; divide 8-bit "
            "values by 255"
        )
    low, high = (float(value) for value in image.detach().aminmax())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # also refuses NaN
        raise ValueError(
            f"image {index} must have values in [0, 1], got {low:g} to {high:g}"
            + ("; divide by 255" if high > 2 else "")
        )


def check_cameras(cameras: Camera, scenes: list[list[Tensor]]) -> None:
    """Check that cameras are valid and match the input images."""
    values = cameras.packed()
    if not bool(values.isfinite().all()) or not bool((cameras.f > 0).all()):
        raise ValueError("cameras must have finite values and positive focal lengths")
    sizes = [(image.shape[-1], image.shape[-2]) for views in scenes for image in views]
    for index, (wanted, got) in enumerate(
        zip(sizes, cameras.size.flatten(0, -2).tolist(), strict=True)
    ):
        if any(abs(w - g) > SIZE_TOLERANCE for w, g in zip(wanted, got, strict=True)):
            raise ValueError(
                f"cameras must match the input images: image {index} has "
                f"{wanted[0]}×{wanted[1]} pixels (width×height), its camera says "
                f"{got[0]:g}×{got[1]:g}; camera.scale converts it"
            )


def batched(given: S | Sequence[S], scenes: list[list[Tensor]]) -> S:
    """Cameras or poses of batch shape (B, V)."""
    joined: S = given if isinstance(given, TensorStruct) else torch.stack(list(given))  # type: ignore[assignment, arg-type]
    wanted = (len(scenes), len(scenes[0]))
    batch = joined[None] if joined.ndim == 1 and len(scenes) == 1 else joined
    if tuple(batch.shape) != wanted:
        raise ValueError(
            f"there must be one {type(joined).__name__} per image, of shape {wanted}"
            + (f" or {wanted[1:]}" if wanted[0] == 1 else "")
            + f", got {tuple(joined.shape)}"
        )
    return batch


def checked_poses(poses: Pose) -> Pose:
    """Check poses and return them."""
    poses.check()
    return poses
