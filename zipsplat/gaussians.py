"""Scenes of 3D Gaussians."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from zipsplat import harmonics
from zipsplat.camera import Camera
from zipsplat.formats import FORMATS, Array, SplatArrays
from zipsplat.pose import Pose
from zipsplat.render import Rendered, RenderMode, RenderSettings, Splats, Viewpoints, choose
from zipsplat.rotations import multiply_quats, quat_from_matrix
from zipsplat.scene_files import load_scene, write_scene
from zipsplat.sh_constants import degree_of, num_coeffs
from zipsplat.structs import TensorStruct

Path = str | PathLike[str]


@dataclass(frozen=True)
class Gaussians(TensorStruct):
    """Scenes of N Gaussians each; the batch shape includes N: (N,) for one scene, (B, N) for B.

    Indexing acts on batch dimensions, so `scenes[0]` of (B, N) is one scene, and `scene[mask]` of
    (N,) selects Gaussians. An integer index into N keeps that dimension.

    Args:
        means: (..., N, 3) world units.
        scales: (..., N, 3) standard deviations along the local axes, world units.
        quats: (..., N, 4) wxyz, of any non-zero length; normalised where used, stored as given.
        opacities: (..., N) in [0, 1].
        sh_coeffs: (..., N, S, 3) spherical harmonics, S = (degree + 1)², degree 0 to 3.
        antialiased: whether `render` compensates the blur of small Gaussians by lower opacities, as
            scenes of Mip-Splatting and gsplat's "antialiased" mode need; stored in files.
    """

    means: Tensor
    scales: Tensor
    quats: Tensor
    opacities: Tensor
    sh_coeffs: Tensor
    antialiased: bool = field(default=False, kw_only=True)
    event_dims: ClassVar[Mapping[str, int]] = {
        "means": 1, "scales": 1, "quats": 1, "opacities": 0, "sh_coeffs": 2
    }  # fmt: skip

    def __post_init__(self) -> None:
        """Check the shapes."""
        super().__post_init__()
        widths = {"means": (3,), "scales": (3,), "quats": (4,)}
        for key, width in widths.items():
            value = getattr(self, key)
            if value.shape[-1:] != width:
                raise ValueError(
                    f"Gaussians.{key} must be (..., N, {width[0]}), got {tuple(value.shape)}"
                )
        if self.sh_coeffs.shape[-1] != 3:
            raise ValueError(
                f"Gaussians.sh_coeffs must be (..., N, S, 3), got {tuple(self.sh_coeffs.shape)}"
            )
        degree_of(self.sh_coeffs.shape[-2])
        if not self.shape:
            raise ValueError("Gaussians need a dimension N; index with a slice to keep it")

    @classmethod
    def from_parameters(
        cls, means: Tensor, scales: Tensor, quats: Tensor, opacities: Tensor, sh_coeffs: Tensor
    ) -> Gaussians:
        """Make a scene; all tensors are converted to the dtype and device of `means`.

        Raises:
            ValueError: if shapes do not match, or a value is not finite or out of range.
        """
        others = [value.to(means) for value in (scales, quats, opacities, sh_coeffs)]
        scene = cls(means, *others)
        scene.check()
        return scene

    @classmethod
    def from_packed(cls, packed: Tensor) -> Gaussians:
        """Make scenes from tensors (..., N, 11 + 3S), without range checks.

        The order is mean, scale, quaternion wxyz, opacity, then for each harmonic its RGB.
        """
        num = (packed.shape[-1] - 11) // 3
        if packed.shape[-1] not in (14, 23, 38, 59):
            raise ValueError(
                "packed Gaussians must be (..., N, 14 | 23 | 38 | 59) for degrees 0 to 3,"
                f" got {tuple(packed.shape)}"
            )
        means, scales, quats, opacities, rest = packed.split([3, 3, 4, 1, 3 * num], dim=-1)
        return cls(means, scales, quats, opacities.squeeze(-1), rest.unflatten(-1, (num, 3)))

    def packed(self) -> Tensor:
        """One tensor (..., N, 11 + 3S); see `from_packed`."""
        parts = (self.means, self.scales, self.quats, self.opacities.unsqueeze(-1))
        return torch.cat((*parts, self.sh_coeffs.flatten(-2)), dim=-1)

    def check(self) -> None:
        """Raise a `ValueError` if a value is not finite or out of range."""
        if not self.means.numel():
            return
        for key, value in self._tensors().items():
            if not bool(value.detach().sum().isfinite()):  # much cheaper than checking each value
                num = int((~value.isfinite()).sum())
                if num:
                    raise ValueError(f"{key} must be finite, got {num} values that are not")
        low, high = (bound.item() for bound in self.opacities.detach().aminmax())
        if low < 0 or high > 1:
            raise ValueError(
                f"opacities must be in [0, 1], got {low:g} to {high:g}; are these logits?"
            )
        if bool(self.scales.amin() < 0):
            raise ValueError("scales must not be negative; are these logarithms?")
        if bool(self.quats.square().sum(dim=-1).amin() == 0):
            raise ValueError("quats must not be zero")

    def __repr__(self) -> str:
        """One line: number, SH degree, device."""
        scenes = f"{tuple(self.shape[:-1])} scenes of " if self.ndim > 1 else ""
        flag = ", antialiased" if self.antialiased else ""
        return (
            f"Gaussians({scenes}{self.num_gaussians}, SH degree {self.max_sh_degree},"
            f" {str(self.dtype).removeprefix('torch.')} on {self.device}{flag})"
        )

    def __getitem__(self, index: Any) -> Gaussians:
        """Index batch dimensions; an integer index into N keeps that dimension."""
        parts = index if isinstance(index, tuple) else (index,)
        dims = sum(part is not None and part is not Ellipsis for part in parts)
        last = parts[-1]
        if dims == self.ndim and isinstance(last, int) and not isinstance(last, bool):
            num = self.num_gaussians
            if not -num <= last < num:
                raise IndexError(f"index {last} is out of range for {num} Gaussians")
            parts = (*parts[:-1], slice(last % num, last % num + 1))
        return super().__getitem__(parts)

    @property
    def num_gaussians(self) -> int:
        """Number of Gaussians in each scene, N."""
        return self.shape[-1]

    @property
    def max_sh_degree(self) -> int:
        """Degree of the harmonics, 0 to 3."""
        return degree_of(self.sh_coeffs.shape[-2])

    @property
    def sh0(self) -> Tensor:
        """Coefficients of degree 0, (..., N, 1, 3)."""
        return self.sh_coeffs[..., :1, :]

    @property
    def shN(self) -> Tensor:
        """Coefficients of the higher degrees, (..., N, S − 1, 3)."""
        return self.sh_coeffs[..., 1:, :]

    @property
    def rgb(self) -> Tensor:
        """View-independent colours (..., N, 3), not clamped."""
        return harmonics.rgb_from_dc(self.sh_coeffs[..., 0, :])

    def select(self, which: Tensor) -> Gaussians:
        """Select Gaussians of one scene.

        Args:
            which: (N,) bool, or indices.
        """
        if self.ndim != 1:
            raise ValueError(f"select works on one scene (N,), got {tuple(self.shape)}")
        return self[which]

    def with_sh_degree(self, degree: int) -> Gaussians:
        """Truncate the harmonics to a degree, or pad them with zeros."""
        num, have = num_coeffs(degree), self.sh_coeffs.shape[-2]
        degree_of(num)
        if num <= have:
            return replace(self, sh_coeffs=self.sh_coeffs[..., :num, :])
        zeros = self.sh_coeffs.new_zeros(*self.shape, num - have, 3)
        return replace(self, sh_coeffs=torch.cat((self.sh_coeffs, zeros), dim=-2))

    def scale(self, factor: float | Tensor) -> Gaussians:
        """Scale the scene around the origin.

        Args:
            factor: positive; one number, or (B,) for a batch of scenes.

        Raises:
            ValueError: if a factor is not positive and finite.
        """
        factor = torch.as_tensor(factor, dtype=self.dtype, device=self.device)
        if not bool(((factor > 0) & factor.isfinite()).all()):
            raise ValueError(f"factor must be positive and finite, got {factor.tolist()}")
        factor = factor.reshape(*factor.shape, *[1] * (self.ndim + 1 - factor.ndim))
        return replace(self, means=self.means * factor, scales=self.scales * factor)

    def transform(self, pose: Pose, scale: float = 1.0) -> Gaussians:
        """Scale around the origin, then transform rigidly, including view-dependent colours.

        Args:
            pose: one rigid transform, new world from old world.
            scale: positive factor.
        """
        if pose.shape:
            raise ValueError(f"transform takes one pose, got a batch {tuple(pose.shape)}")
        pose = pose.to(self.means)
        scene = self.scale(scale)
        turn = quat_from_matrix(pose.R).expand_as(self.quats)
        return replace(
            scene,
            means=pose.transform(scene.means),
            quats=multiply_quats(turn, self.quats),
            sh_coeffs=harmonics.rotate(self.sh_coeffs, pose.R),
        )

    def color_by_group(self, group_size: int, seed: int = 0) -> Gaussians:
        """Colour each run of consecutive Gaussians (e.g. one scene token) differently.

        Args:
            group_size: number of consecutive Gaussians that share a colour; the last group may be
                smaller.
            seed: of the colours.

        Returns:
            the same Gaussians with harmonics of degree 0.
        """
        if group_size < 1:
            raise ValueError(f"group_size must be at least 1, got {group_size}")
        num_groups = math.ceil(self.num_gaussians / group_size)
        colors = _distinct_colors(num_groups, seed).to(self.means)
        colors = colors.repeat_interleave(group_size, dim=0)[: self.num_gaussians]
        sh0 = harmonics.dc_from_rgb(colors).unsqueeze(-2)
        return replace(self, sh_coeffs=sh0.expand(*self.shape, 1, 3))

    def splats(self) -> Splats:
        """One scene as plain tensors for renderers."""
        if self.ndim != 1:
            raise ValueError(f"one scene (N,) is needed, got {tuple(self.shape)}; index it first")
        return Splats(self.means, self.quats, self.scales, self.opacities, self.sh_coeffs)

    def render(
        self,
        cameras: Camera,
        poses: Pose,
        mode: str = "RGB",
        sh_degree: int | None = None,
        *,
        backgrounds: Tensor | None = None,
        renderer: str = "auto",
        **settings: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Render the scene; differentiable in the Gaussians, the poses and the backgrounds.

        Args:
            cameras: () or (V,) for one scene, (B, V) for a batch; one size for all.
            poses: camera-to-world, of the same batch shape; either may be () and is broadcast.
            mode: "RGB", "D" (accumulated depth), "ED" (expected depth), "RGB+D" or "RGB+ED".
            sh_degree: SH degree to use, at most `max_sh_degree`, the default.
            backgrounds: (3,), (V, 3) or (B, V, 3) colours behind the scene; black by default.
            renderer: "auto", "cuda", "cpu" or "reference".
            settings: other fields of `RenderSettings`.

        Returns:
            images (V, C, H, W) or (B, V, C, H, W), with depth in the last channel and no upper
            clamp; and a dictionary with "alphas" (V, 1, H, W) or (B, V, 1, H, W) and, if `masks` is
            set, "contributed" and "centred" (V, N) or (B, V, N).

        Raises:
            ValueError: if shapes or sizes do not match, or the mode is unknown.
            RuntimeError: if the renderer is not available.
        """
        if mode not in {m.value for m in RenderMode}:
            raise ValueError(f"mode must be one of {[m.value for m in RenderMode]}, got {mode!r}")
        if sh_degree is not None and not 0 <= sh_degree <= self.max_sh_degree:
            raise ValueError(f"sh_degree must be in 0..{self.max_sh_degree}, got {sh_degree}")
        cameras, poses = _views_of(self, cameras, poses)
        if backgrounds is not None:
            backgrounds = backgrounds.to(self.means).expand(*cameras.shape, 3)
        settings = {"antialiased": self.antialiased, **settings}
        chosen = RenderSettings(mode=RenderMode(mode), sh_degree=sh_degree, **settings)
        render_views = choose(renderer, self.device).render
        if self.ndim == 1:
            return _result(
                render_views(self.splats(), _viewpoints(cameras, poses, backgrounds), chosen)
            )
        rendered = []
        for i in range(len(self)):
            background = None if backgrounds is None else backgrounds[i]
            viewpoints = _viewpoints(cameras[i], poses[i], background)
            rendered.append(_result(render_views(self[i].splats(), viewpoints, chosen)))
        info = {key: torch.stack([one[1][key] for one in rendered]) for key in rendered[0][1]}
        return torch.stack([one[0] for one in rendered]), info

    def save(self, path: Path, format: str | None = None, *, note: str = "") -> None:
        """Write one scene to a file, atomically; creates the folder.

        Args:
            path: its suffix selects the format, e.g. `.ply`.
            format: name of the format, which overrides the suffix.
            note: a licence note, for formats that store one; see `SplatArrays`.

        Raises:
            ValueError: if a value is not finite or out of range, or the format is unknown.
        """
        write_scene(path, replace(self.arrays(), note=note), format)

    def save_ply(self, path: Path) -> None:
        """Write one scene as a standard 3DGS `.ply`, regardless of the suffix."""
        self.save(path, format="ply")

    @classmethod
    def load(cls, path: Path, format: str | None = None) -> Gaussians:
        """Read one scene from a file of any known format, which is detected from its content.

        Gaussians that cannot be rendered are left out. This, and anything else that could not be
        read as intended, is logged as a warning.

        Raises:
            ValueError: if the file is damaged, or contains no usable Gaussian; the message names
                it.
            OSError: if it cannot be opened.
        """
        return cls.load_with_note(path, format)[0]

    @classmethod
    def load_with_note(cls, path: Path, format: str | None = None) -> tuple[Gaussians, str]:
        """Read one scene and its note, empty if there is none; see `load`."""
        arrays = load_scene(path, format)
        return cls.from_arrays(arrays), arrays.note

    def arrays(self) -> SplatArrays:
        """One scene as float32 arrays, checked."""
        splats = self.detach().cpu().to(torch.float32).splats()
        self.check()
        return SplatArrays(
            means=splats.means.numpy(),
            scales=splats.scales.numpy(),
            quats=splats.quats.numpy(),
            opacities=splats.opacities.numpy(),
            sh_coeffs=splats.sh_coeffs.numpy(),
            antialiased=self.antialiased,
            log=_torch_log,
        )

    @classmethod
    def from_arrays(cls, arrays: SplatArrays) -> Gaussians:
        """Make a scene from float32 arrays, sharing their memory where possible."""
        values = (arrays.means, arrays.scales, arrays.quats, arrays.opacities, arrays.sh_coeffs)
        tensors = (torch.from_numpy(np.require(value, requirements=["C", "W"])) for value in values)
        return cls(*tensors, antialiased=arrays.antialiased)

    def to_bytes(self, format: str, *, note: str = "") -> bytes:
        """The file contents that `save` would write."""
        buffer = io.BytesIO()
        FORMATS[format].write(buffer, replace(self.arrays(), note=note))
        return buffer.getvalue()


def _views_of(scene: Gaussians, cameras: Camera, poses: Pose) -> tuple[Camera, Pose]:
    """Expand cameras and poses to (V,) or (B, V), on the device and in the dtype of the scene."""
    given = f"{tuple(cameras.shape)} and {tuple(poses.shape)}"
    cameras, poses = cameras.to(scene.means), poses.to(scene.means)
    if scene.ndim == 1:
        cameras = cameras if cameras.ndim else cameras[None]
        poses = poses if poses.ndim else poses[None]
    try:
        shape = np.broadcast_shapes(cameras.shape, poses.shape)  # PyTorch's imports sympy
    except ValueError:
        shape = ()
    if len(shape) != scene.ndim or shape[:-1] != scene.shape[:-1]:
        wanted = "() or (V,)" if scene.ndim == 1 else f"({scene.shape[0]}, V)"
        raise ValueError(
            f"cameras and poses for Gaussians {tuple(scene.shape)} must both be {wanted},"
            f" got {given}"
        )

    def expand(value: Tensor, dims: int) -> Tensor:
        return value.expand(*shape, *value.shape[value.ndim - dims :])

    return cameras.map_with_dims(expand), poses.map_with_dims(expand)


def _viewpoints(cameras: Camera, poses: Pose, backgrounds: Tensor | None) -> Viewpoints:
    sizes = cameras.size.detach().round().to("cpu", torch.int64).unique(dim=0)
    if len(sizes) != 1:
        raise ValueError(f"all cameras must have one size, got {sizes.tolist()}")
    width, height = sizes[0].tolist()
    if min(width, height) < 1:
        raise ValueError(f"images must have at least one pixel, got {width}×{height}")
    return Viewpoints(poses.Rt, cameras.K, width, height, backgrounds)


def _torch_log(values: Array) -> Array:
    """Logarithm rounded as in the released model's own files."""
    return torch.log(torch.from_numpy(np.require(values, requirements="W"))).numpy()


def _result(rendered: Rendered) -> tuple[Tensor, dict[str, Tensor]]:
    """Colour and depth in one tensor, and the rest."""
    parts = [part for part in (rendered.color, rendered.depth) if part is not None]
    info = {
        "alphas": rendered.alpha,
        "contributed": rendered.contributed,
        "centred": rendered.centred,
    }
    present = {key: value for key, value in info.items() if value is not None}
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1), present


def _distinct_colors(num: int, seed: int) -> Tensor:
    """Saturated colours (num, 3) whose hues advance by the golden angle, from a random start."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(num, generator=generator).double()
    hue = (order * 0.6180339887498949) % 1.0
    value = 0.65 + 0.35 * ((order * 0.7548776662466927) % 1.0)
    channels = (hue.unsqueeze(-1) * 6 + torch.tensor([5.0, 3.0, 1.0])) % 6
    ramp = torch.minimum(channels, 4 - channels).clamp(0, 1)
    return value.unsqueeze(-1) * (1 - 0.75 * ramp)
