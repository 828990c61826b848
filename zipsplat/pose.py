"""Camera poses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, overload

import numpy as np
import torch
from torch import Tensor

from zipsplat.rotations import look_at, quat_from_matrix
from zipsplat.structs import TensorStruct

ORTHONORMAL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Pose(TensorStruct):
    """Rigid transforms from camera to world coordinates: `p_world = R p_camera + t`.

    Args:
        R: (..., 3, 3) rotations; the columns are the camera's right, down and forward axes.
        t: (..., 3) camera centres in world units.
    """

    R: Tensor
    t: Tensor
    event_dims: ClassVar[Mapping[str, int]] = {"R": 2, "t": 1}

    def __post_init__(self) -> None:
        """Check the shapes."""
        super().__post_init__()
        if self.R.shape[-2:] != (3, 3) or self.t.shape[-1] != 3:
            raise ValueError(
                "a Pose needs R (..., 3, 3) and t (..., 3),"
                f" got {tuple(self.R.shape)} and {tuple(self.t.shape)}"
            )

    @classmethod
    def from_Rt(cls, R: Tensor, t: Tensor) -> Pose:
        """Poses from rotations and camera centres; their batch shapes broadcast.

        Args:
            R: (..., 3, 3) world-from-camera rotations.
            t: (..., 3) camera centres.

        Raises:
            ValueError: if R is not a rotation (RᵀR differs from the identity by more than 1e-3,
                or R is left-handed), or a value is not finite.
        """
        if R.shape[-2:] != (3, 3) or t.shape[-1:] != (3,):
            raise ValueError(
                f"R must be (..., 3, 3) and t (..., 3), got {tuple(R.shape)} and {tuple(t.shape)}"
            )
        dtype = torch.promote_types(R.dtype, t.dtype)
        dtype = dtype if dtype.is_floating_point else torch.float32
        R, t = R.to(dtype), t.to(dtype)
        shape = np.broadcast_shapes(R.shape[:-2], t.shape[:-1])
        pose = cls(R.expand(*shape, 3, 3), t.expand(*shape, 3))
        pose.check()
        return pose

    @classmethod
    def from_4x4mat(cls, matrix: Tensor) -> Pose:
        """Poses from homogeneous world-from-camera matrices (..., 4, 4).

        Raises:
            ValueError: as `from_Rt`, or if the last row is not 0, 0, 0, 1.
        """
        if matrix.shape[-2:] != (4, 4):
            raise ValueError(f"matrices must be (..., 4, 4), got {tuple(matrix.shape)}")
        last = matrix.new_tensor([0.0, 0.0, 0.0, 1.0])
        if not torch.allclose(matrix[..., 3, :], last.expand_as(matrix[..., 3, :]), atol=1e-5):
            raise ValueError("the last row of a pose must be 0, 0, 0, 1; is it transposed?")
        return cls.from_Rt(matrix[..., :3, :3], matrix[..., :3, 3])

    @classmethod
    def identity(
        cls,
        batch_shape: Sequence[int] = (),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Pose:
        """Cameras at the origin, looking along +z with y down."""
        R = torch.eye(3, device=device, dtype=dtype).repeat(*batch_shape, 1, 1)
        return cls(R, torch.zeros(*batch_shape, 3, device=device, dtype=dtype))

    @classmethod
    def from_packed(cls, packed: Tensor) -> Pose:
        """Poses from tensors (..., 12): nine entries of R row by row, then t; not checked."""
        if packed.shape[-1:] != (12,):
            raise ValueError(f"packed poses must be (..., 12), got {tuple(packed.shape)}")
        return cls(packed[..., :9].unflatten(-1, (3, 3)), packed[..., 9:])

    def packed(self) -> Tensor:
        """One tensor (..., 12): nine entries of R row by row, then t."""
        return torch.cat((self.R.flatten(-2), self.t), dim=-1)

    def check(self) -> None:
        """Raise a `ValueError` unless these are finite rotations and centres."""
        R, t = self.R.detach(), self.t.detach()
        if not (bool(R.isfinite().all()) and bool(t.isfinite().all())):
            raise ValueError("poses must be finite, got NaN or infinity")
        error = (R.mT @ R - torch.eye(3, dtype=R.dtype, device=R.device)).abs()
        if error.numel() and float(error.max()) > ORTHONORMAL_TOLERANCE:
            raise ValueError(
                f"R must be orthonormal: RᵀR may differ from the identity by"
                f" {ORTHONORMAL_TOLERANCE}, got {float(error.max()):.3g}"
            )
        if R.numel() and float(torch.linalg.det(R).min()) < 0:
            raise ValueError("R must be right-handed, got a reflection (determinant −1)")

    @property
    def quat(self) -> Tensor:
        """Quaternions (..., 4) wxyz of R, with w ≥ 0."""
        return quat_from_matrix(self.R)

    @property
    def Rt(self) -> Tensor:
        """World-from-camera matrices (..., 4, 4)."""
        top = torch.cat((self.R, self.t.unsqueeze(-1)), dim=-1)
        bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*self.shape, 1, 4)
        return torch.cat((top, bottom), dim=-2)

    @property
    def Rt_inv(self) -> Tensor:
        """Camera-from-world matrices (..., 4, 4)."""
        return self.inv().Rt

    def inv(self) -> Pose:
        """The inverse transforms."""
        R = self.R.mT
        return Pose(R, -(R @ self.t.unsqueeze(-1)).squeeze(-1))

    def compose(self, other: Pose) -> Pose:
        """First `other`, then this: `self.compose(other).transform(x) == self.transform(…)`."""
        return Pose(*_broadcast(self.R @ other.R, self.transform_vectors(other.t) + self.t))

    def transform_vectors(self, vectors: Tensor) -> Tensor:
        """Rotate one vector (..., 3) per pose."""
        return (self.R @ vectors.unsqueeze(-1)).squeeze(-1)

    def transform(self, points: Tensor) -> Tensor:
        """Take points from camera to world coordinates.

        Args:
            points: (..., N, 3), N points per pose, or (3,), one point for all poses.

        Returns:
            (..., N, 3), or (..., 3) for one point.
        """
        if points.ndim == 1:
            return self.transform_vectors(points) + self.t
        return points @ self.R.mT + self.t.unsqueeze(-2)

    @overload
    def __matmul__(self, other: Pose) -> Pose: ...

    @overload
    def __matmul__(self, other: Tensor) -> Tensor: ...

    def __matmul__(self, other: Pose | Tensor) -> Pose | Tensor:
        return self.compose(other) if isinstance(other, Pose) else self.transform(other)

    @staticmethod
    def matrix_to_quaternion(matrix: Tensor) -> Tensor:
        """Quaternions (..., 4) wxyz, w ≥ 0, of rotation matrices (..., 3, 3)."""
        return quat_from_matrix(matrix)

    @classmethod
    def orbit(
        cls,
        center: Tensor,
        radius: float | Tensor,
        azimuths: Tensor | Sequence[float],
        elevations: Tensor | Sequence[float] | float = 0.0,
    ) -> Pose:
        """Cameras on a sphere that look at its centre; up is −y.

        Args:
            center: (3,) centre in world units.
            radius: distance of the cameras, positive.
            azimuths: (V,) degrees; 0 is on the −z side, positive angles go towards +x.
            elevations: (V,) or one number, degrees in [−90, 90]; positive is above.

        Returns:
            (V,) poses.

        Raises:
            ValueError: if the radius is not positive or an elevation is outside [−90, 90].
        """
        distance = torch.as_tensor(radius).to(center)
        azimuth, elevation = torch.broadcast_tensors(
            torch.as_tensor(azimuths).to(center).deg2rad(), torch.as_tensor(elevations).to(center)
        )
        if not bool((distance > 0).all()):
            raise ValueError(f"radius must be positive, got {radius}")
        if bool((elevation.abs() > 90).any()):
            raise ValueError("elevations must be in [-90, 90] degrees; beyond, cameras would flip")
        elevation = elevation.deg2rad()
        offset = torch.stack(
            (
                elevation.cos() * azimuth.sin(),
                -elevation.sin(),
                -elevation.cos() * azimuth.cos(),
            ),
            dim=-1,
        )
        position = center + distance.unsqueeze(-1) * offset
        return cls(look_at(position, center.expand_as(position)), position)


def _broadcast(R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    shape = np.broadcast_shapes(R.shape[:-2], t.shape[:-1])
    return R.expand(*shape, 3, 3), t.expand(*shape, 3)
