"""Outputs of the data pipeline: views, scenes made of views, batches made of scenes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.structs import BatchStruct


@dataclass(frozen=True)
class Views(BatchStruct):
    """Images with cameras, poses and depth; leading dimensions are batch dimensions.

    Indexing applies to batch dimensions: `views[0]` is the first scene of (B, V) views.

    Attributes:
        images: (..., 3, H, W) uint8 as loaded, or floating point in [0, 1]; `rgb` is always the
            latter.
        cameras: (...) intrinsics of these images, pixels.
        poses: (...) camera-to-world, in the frame and scale of the scene.
        depths: (..., H, W) float32 z depth in scene units, −1 where it is unknown.
        near: (...) near plane, scene units.
        far: (...) far plane, scene units.
        indices: (...) int64 frame number in the clip.
        masks: (..., H, W) bool, False where losses ignore pixels; None uses all pixels.
    """

    event_dims: ClassVar[Mapping[str, int]] = {
        "images": 3, "cameras": 0, "poses": 0, "depths": 2, "near": 0, "far": 0, "indices": 0,
        "masks": 2,
    }  # fmt: skip

    images: Tensor
    cameras: Camera
    poses: Pose
    depths: Tensor
    near: Tensor
    far: Tensor
    indices: Tensor
    masks: Tensor | None = None

    def __post_init__(self) -> None:
        """Validate shapes."""
        shape, size = self.images.shape[:-3], self.images.shape[-2:]
        if self.images.ndim < 3 or self.images.shape[-3] != 3:
            raise ValueError(f"images must be (..., 3, H, W), got {tuple(self.images.shape)}")
        if self.depths.shape != (*shape, *size):
            raise ValueError(
                f"depths must be {(*shape, *size)} as the images, got {tuple(self.depths.shape)}"
            )
        if self.masks is not None and self.masks.shape != self.depths.shape:
            raise ValueError(
                f"masks must be {tuple(self.depths.shape)}, got {tuple(self.masks.shape)}"
            )
        for name in ("cameras", "poses", "near", "far", "indices"):
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} must have batch shape {tuple(shape)} as the images,"
                    f" got {tuple(getattr(self, name).shape)}"
                )

    @property
    def height(self) -> int:
        """Height of the images in pixels."""
        return self.images.shape[-2]

    @property
    def width(self) -> int:
        """Width of the images in pixels."""
        return self.images.shape[-1]

    @property
    def rgb(self) -> Tensor:
        """Images (..., 3, H, W) in [0, 1], floating point."""
        return self.images.float() / 255 if self.images.dtype == torch.uint8 else self.images

    def pin_memory(self) -> Views:
        """Copy to page-locked memory, which allows asynchronous copies to a GPU."""
        return self.map(Tensor.pin_memory)

    def as_float(self) -> Views:
        """The same views with images in [0, 1]."""
        return dataclasses.replace(self, images=self.rgb)

    @staticmethod
    def stack(views: Sequence[Views]) -> Views:
        """Stack views of equal shape along a new first dimension; a single one is not copied."""
        if len(views) == 1:
            return views[0][None]
        return cast(Views, torch.stack(_alike(views)))  # type: ignore[arg-type]

    @staticmethod
    def cat(views: Sequence[Views], dim: int = 0) -> Views:
        """Concatenate views along a batch dimension."""
        return cast(Views, torch.cat(_alike(views), dim))  # type: ignore[arg-type]


def _alike(views: Sequence[Views]) -> list[Views]:
    """All with masks, or all without."""
    if all(item.masks is None for item in views):
        return list(views)
    return [
        dataclasses.replace(item, masks=torch.ones_like(item.depths, dtype=torch.bool))
        if item.masks is None
        else item
        for item in views
    ]


@dataclass(frozen=True)
class Scene:
    """One training sample: context views as input, target views to predict.

    Attributes:
        name: `<dataset>-<key>`.
        dataset: name of the data set.
        context: (V,) views; the first defines the frame of all poses.
        target: (Q,) views.
        overlaps: (V,) float32, overlap of each context view with the others, as given by the
            sampler; −1 if unknown.
        scale: () float32, stored units per scene unit; multiply by it to return to stored units.
    """

    name: str
    dataset: str
    context: Views
    target: Views
    overlaps: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Batch:
    """Scenes of equal view count and image size.

    Attributes:
        names: B scene names, `<dataset>-<key>`.
        datasets: B data set names.
        context: (B, V) views.
        target: (B, Q) views.
        overlaps: (B, V) float32.
        scales: (B,) float32 stored units per scene unit.
    """

    names: tuple[str, ...]
    datasets: tuple[str, ...]
    context: Views
    target: Views
    overlaps: Tensor
    scales: Tensor

    @staticmethod
    def collate(scenes: Sequence[Scene]) -> Batch:
        """Stack scenes.

        Raises:
            ValueError: if there are none, or their images differ in size or number.
        """
        if not scenes:
            raise ValueError("a batch needs at least one scene, got none")
        for part in ("context", "target"):
            shapes = {tuple(getattr(scene, part).images.shape) for scene in scenes}
            if len(shapes) > 1:
                raise ValueError(
                    f"the scenes of a batch must have {part} images of equal shape, got"
                    f" {sorted(shapes)}; set preprocessing.resize to bring them to one size"
                )
        return Batch(
            names=tuple(scene.name for scene in scenes),
            datasets=tuple(scene.dataset for scene in scenes),
            context=Views.stack([scene.context for scene in scenes]),
            target=Views.stack([scene.target for scene in scenes]),
            overlaps=torch.stack([scene.overlaps for scene in scenes]),
            scales=torch.stack([scene.scale for scene in scenes]),
        )

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Copy to a device, and there convert images to floats in [0, 1]."""
        return dataclasses.replace(
            self,
            context=self.context.to(device, non_blocking=non_blocking).as_float(),
            target=self.target.to(device, non_blocking=non_blocking).as_float(),
            overlaps=self.overlaps.to(device, non_blocking=non_blocking),
            scales=self.scales.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Copy to page-locked memory; the PyTorch loader calls it if `pin_memory` is set."""
        return dataclasses.replace(
            self,
            context=self.context.pin_memory(),
            target=self.target.pin_memory(),
            overlaps=self.overlaps.pin_memory(),
            scales=self.scales.pin_memory(),
        )
