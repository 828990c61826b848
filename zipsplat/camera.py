"""Pinhole cameras."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zipsplat.structs import TensorStruct

Number = float | int | Tensor


@dataclass(frozen=True)
class Camera(TensorStruct):
    """Pinhole cameras without skew or distortion; all values in pixels.

    Pixel coordinates are continuous: an image spans [0, w] × [0, h] and the centre of its top
    left pixel is (0.5, 0.5), as in COLMAP.

    Args:
        size: (..., 2) width and height.
        f: (..., 2) focal lengths fx and fy.
        c: (..., 2) principal point cx and cy.
    """

    size: Tensor
    f: Tensor
    c: Tensor
    event_dims: ClassVar[Mapping[str, int]] = {"size": 1, "f": 1, "c": 1}

    def __post_init__(self) -> None:
        """Check that every field holds pairs."""
        super().__post_init__()
        for key, value in self._tensors().items():
            if value.shape[-1] != 2:
                raise ValueError(f"Camera.{key} must be (..., 2), got {tuple(value.shape)}")

    @classmethod
    def from_K(cls, K: Tensor, w: Number, h: Number) -> Camera:
        """Cameras with given intrinsics matrices.

        Args:
            K: (..., 3, 3); the skew is ignored.
            w: image width.
            h: image height.

        Raises:
            ValueError: if the shape is another, or a focal length or size is not positive.
        """
        if K.shape[-2:] != (3, 3):
            raise ValueError(f"K must be (..., 3, 3), got {tuple(K.shape)}")
        return cls.from_focal(
            K[..., 0, 0], K[..., 1, 1], w=w, h=h, cx=K[..., 0, 2], cy=K[..., 1, 2]
        )

    @classmethod
    def from_focal(
        cls,
        fx: Number,
        fy: Number | None = None,
        *,
        w: Number,
        h: Number,
        cx: Number | None = None,
        cy: Number | None = None,
    ) -> Camera:
        """Cameras with given focal lengths.

        Args:
            fx: horizontal focal length.
            fy: vertical one; as `fx` if not given.
            w: image width.
            h: image height.
            cx: principal point; the middle of the image if not given.
            cy: the same, vertical.

        Raises:
            ValueError: if a focal length or size is not positive and finite.
        """
        fx, fy, w, h, cx, cy = _tensors(
            fx, fx if fy is None else fy, w, h,
            w / 2 if cx is None else cx, h / 2 if cy is None else cy,
        )  # fmt: skip
        for name, value in (("fx", fx), ("fy", fy), ("w", w), ("h", h)):
            _check(value, (value > 0) & value.isfinite(), f"{name} must be positive and finite")
        _check(cx, cx.isfinite(), "cx must be finite")
        _check(cy, cy.isfinite(), "cy must be finite")
        return cls(torch.stack((w, h), -1), torch.stack((fx, fy), -1), torch.stack((cx, cy), -1))

    @classmethod
    def from_fov(
        cls, fov_x: Number, fov_y: Number | None = None, *, w: Number, h: Number
    ) -> Camera:
        """Cameras with given fields of view and the principal point in the middle.

        Args:
            fov_x: horizontal field of view in radians, in (0, π).
            fov_y: vertical one; if not given, pixels are square.
            w: image width.
            h: image height.

        Raises:
            ValueError: if an angle is not in (0, π), as when it is given in degrees.
        """
        fx = _focal_from_fov("fov_x", fov_x, w)
        fy = None if fov_y is None else _focal_from_fov("fov_y", fov_y, h)
        return cls.from_focal(fx, fy, w=w, h=h)

    @classmethod
    def from_packed(cls, packed: Tensor) -> Camera:
        """Cameras from tensors (..., 6) in the order w, h, fx, fy, cx, cy."""
        if packed.shape[-1:] != (6,):
            raise ValueError(f"packed cameras must be (..., 6), got {tuple(packed.shape)}")
        return cls(packed[..., :2], packed[..., 2:4], packed[..., 4:])

    def packed(self) -> Tensor:
        """One tensor (..., 6) in the order w, h, fx, fy, cx, cy."""
        return torch.cat((self.size, self.f, self.c), dim=-1)

    @property
    def K(self) -> Tensor:
        """Intrinsics matrices (..., 3, 3)."""
        K = torch.zeros(*self.shape, 3, 3, dtype=self.dtype, device=self.device)
        K[..., 0, 0], K[..., 1, 1] = self.f.unbind(-1)
        K[..., 0, 2], K[..., 1, 2] = self.c.unbind(-1)
        K[..., 2, 2] = 1
        return K

    @property
    def hfov(self) -> Tensor:
        """Horizontal field of view in radians, as if the principal point were in the middle."""
        return 2 * torch.atan(self.size[..., 0] / (2 * self.f[..., 0]))

    @property
    def vfov(self) -> Tensor:
        """Vertical field of view in radians, as if the principal point were in the middle."""
        return 2 * torch.atan(self.size[..., 1] / (2 * self.f[..., 1]))

    def scale(self, s: Number | tuple[float, float]) -> Camera:
        """Cameras of the resized image.

        Args:
            s: a factor, a pair (sx, sy), or a tensor that broadcasts against (..., 2).
        """
        factor = torch.as_tensor(s, dtype=self.dtype, device=self.device)
        return Camera(self.size * factor, self.f * factor, self.c * factor)

    def crop(self, change: tuple[float, float]) -> Camera:
        """Cameras of the image padded (positive) or cropped (negative) evenly on both sides.

        Args:
            change: pixels added to width and height in total; half of it on each side.
        """
        delta = torch.as_tensor(change, dtype=self.dtype, device=self.device)
        return Camera(self.size + delta, self.f, self.c + delta / 2)

    def crop_box(self, left: float, top: float, width: float, height: float) -> Camera:
        """Cameras of the part of the image that begins at (left, top)."""
        size = self.size.new_tensor([width, height]).expand_as(self.size)
        return Camera(size, self.f, self.c - self.c.new_tensor([left, top]))

    def project(self, points: Tensor) -> Tensor:
        """Pixels where points are seen.

        Args:
            points: (..., N, 3) in camera coordinates, in front of the camera.

        Returns:
            (..., N, 2) pixel coordinates.
        """
        return points[..., :2] / points[..., 2:] * self.f.unsqueeze(-2) + self.c.unsqueeze(-2)

    def unproject(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """Points that are seen at pixels.

        Args:
            pixels: (..., N, 2) pixel coordinates.
            depth: (..., N) distance along the optical axis, not along the ray.

        Returns:
            (..., N, 3) points in camera coordinates.
        """
        rays = (pixels - self.c.unsqueeze(-2)) / self.f.unsqueeze(-2)
        return torch.cat((rays, torch.ones_like(rays[..., :1])), dim=-1) * depth.unsqueeze(-1)


def _tensors(*values: Number) -> list[Tensor]:
    """Broadcast numbers and tensors to tensors of one shape, dtype and device."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    floating = [value.dtype for value in tensors if value.is_floating_point()]
    dtype = torch.float32 if not floating else floating[0]
    for other in floating[1:]:
        dtype = torch.promote_types(dtype, other)
    device = tensors[0].device if tensors else None
    cast = [torch.as_tensor(value, dtype=dtype, device=device) for value in values]
    return list(torch.broadcast_tensors(*cast))


def _focal_from_fov(name: str, fov: Number, extent: Number) -> Tensor:
    angle, pixels = _tensors(fov, extent)
    message = f"{name} must be in (0, π) radians (use math.radians for degrees)"
    _check(angle, (angle > 0) & (angle < math.pi), message)
    return pixels / (2 * torch.tan(angle / 2))


def _check(value: Tensor, holds: Tensor, message: str) -> None:
    """Raise a `ValueError` that shows the first value for which a condition does not hold."""
    if not bool(holds.all()):
        raise ValueError(f"{message}, got {value[~holds].flatten()[0].item():g}")
