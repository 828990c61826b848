"""Cameras from the network's own geometry, where structure from motion fails.

The network reconstructs photos without knowing their cameras, and at compression 1 each scene token
belongs to one patch of one photo. So the mean of a token's Gaussians, in the frame of the first
camera, corresponds to the centre of that patch. These correspondences determine a pose for every
photo and a common focal length. Poses that pass the checks are then refined photometrically; the
checks come first, because refinement improves the PSNR at wrong poses, too.

The checks need no ground truth: they use the inlier share of the tokens, the photos, and a second
reconstruction from the photos in reverse order, which makes different errors. The bounds were
chosen on 40 generated scenes with `zipsplat-tiny` (`benchmarks/network_cameras.py`, figures in
docs/network_cameras.md): nine scenes in ten are rejected, and one of the eight accepted was wrong
by 13°. The released weights were not tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zipsplat.alignment import FAST, refine_poses
from zipsplat.camera import Camera
from zipsplat.camera_estimation.absolute_pose import Correspondences, estimate_views
from zipsplat.camera_estimation.structure_from_motion import CamerasNotFoundError
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages
from zipsplat.predictor import ZipSplat

MIN_INLIER_SHARE = 0.75
MAX_DISAGREEMENT = 3.0  # degrees
MIN_GAIN = 0.2  # dB


@dataclass(frozen=True)
class NetworkCameras:
    """Cameras fitted to the network's own reconstruction.

    The first camera is the identity, in the scale of the scene.

    Args:
        images: V input photos with poses and with cameras of one common focal length, relative to
            the longer side.
        gaussians: (N,) the reconstruction at compression 1 that they belong to.
        inlier_shares: V shares of the tokens of a photo that project into their own patch.
        gain: PSNR gain in dB of the scene rendered at the poses over the better of the scene
            rendered at the first pose and the mean colour; of the worst photo after the first.
        disagreement: largest difference in degrees of the rotations relative to the first photo
            from a second reconstruction, from the photos in reverse order.
        method: how they were estimated.
    """

    images: PosedImages
    gaussians: Gaussians
    inlier_shares: tuple[float, ...]
    gain: float
    disagreement: float
    method: str = "network"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings to the user of these cameras, one line each."""
        return (
            "the cameras come from the network's own geometry and are approximate; let refinement"
            " move the poses and the focal length",
        )

    @property
    def rejection(self) -> str | None:
        """Why these cameras should not be used, in one line; None if they pass the checks."""
        share = min(self.inlier_shares)
        if share < MIN_INLIER_SHARE:
            worst = self.images.names[self.inlier_shares.index(share)]
            return f"{share:.0%} of it fits photo {worst}, wanted at least {MIN_INLIER_SHARE:.0%}"
        if self.disagreement > MAX_DISAGREEMENT:
            return (
                f"the photos in reverse order give rotations that differ by {self.disagreement:.1f}"
                f" degrees, wanted at most {MAX_DISAGREEMENT:.1f}"
            )
        if self.gain < MIN_GAIN:
            return (
                f"rendering at its poses gains {self.gain:+.2f} dB over rendering at one pose,"
                f" wanted at least {MIN_GAIN:+.2f}"
            )
        return None


def cameras_from_network(
    model: ZipSplat,
    images: Sequence[Tensor],
    names: Sequence[str] | None = None,
    *,
    renderer: str = "auto",
    seed: int = 0,
) -> NetworkCameras:
    """Cameras from the network's own geometry, checked and refined.

    Arguments as for `fit_cameras`.

    Raises:
        CamerasNotFoundError: if a check fails; the message says which.
        ValueError: if there are fewer than two photos.
    """
    found = fit_cameras(model, images, names, renderer=renderer, seed=seed)
    if found.rejection is not None:
        raise CamerasNotFoundError(
            0, len(images), f"the network's own geometry is not reliable: {found.rejection}"
        )
    return refined(model, found, renderer)


def fit_cameras(
    model: ZipSplat,
    images: Sequence[Tensor],
    names: Sequence[str] | None = None,
    *,
    renderer: str = "auto",
    seed: int = 0,
) -> NetworkCameras:
    """Fit cameras to the network's own geometry, and measure how reliable they are.

    Args:
        model: reconstructs the photos.
        images: V ≥ 2 photos (3, H, W), RGB in [0, 1], of any sizes, from one camera at one zoom,
            uncropped.
        names: of the photos; default are numbers.
        renderer: for the comparison with the photos.
        seed: of the random samples.

    Raises:
        ValueError: if there are fewer than two photos.
    """
    if len(images) < 2:
        raise ValueError(f"cameras need at least two photos, got {len(images)}")
    units = _unit_cameras(images)
    photos, prepared = _prepared(model, images, units)
    gaussians, focal, poses, shares = _fit(model, photos, prepared, seed)
    back = _fit(model, photos.flip(0), prepared.map(lambda value: value.flip(0)), seed)[2]
    cameras = _with_focal(prepared, focal)
    posed = PosedImages(
        tuple(images),
        _with_focal(units, focal),
        poses.to("cpu", torch.float32),
        tuple(names) if names is not None else tuple(str(n) for n in range(len(images))),
    )
    return NetworkCameras(
        posed,
        gaussians,
        tuple(shares.tolist()),
        _gain(gaussians, photos, cameras, poses, renderer),
        _disagreement(poses, back),
    )


def refined(model: ZipSplat, found: NetworkCameras, renderer: str = "auto") -> NetworkCameras:
    """Refine all poses except the first photometrically."""
    posed = found.images
    photos, cameras = _prepared(model, posed.images, posed.cameras)
    moved = refine_poses(
        found.gaussians,
        photos[1:],
        cameras[1:],
        posed.poses[1:],
        loss=_whole_error,
        settings=FAST,
        renderer=renderer,
        background=_mean_color(photos),
    ).poses.to("cpu")
    R, t = (torch.cat((getattr(posed.poses, key)[:1], getattr(moved, key))) for key in ("R", "t"))
    poses = Pose(R, t)
    gain = _gain(found.gaussians, photos, cameras, poses, renderer)
    return replace(found, images=replace(posed, poses=poses), gain=gain)


def _prepared(model: ZipSplat, images: Sequence[Tensor], cameras: Camera) -> tuple[Tensor, Camera]:
    """Preprocessed photos (V, 3, H, W) and their cameras (V,)."""
    inputs = model.preprocessor(images, cameras)
    assert inputs.cameras is not None, "cameras were given"
    return inputs.images[0], inputs.cameras[0]


def _unit_cameras(images: Sequence[Tensor]) -> Camera:
    """Cameras (V,) with a focal length equal to the longer side."""
    sides = [(image.shape[-1], image.shape[-2]) for image in images]
    width, height = torch.tensor(sides, dtype=torch.float32).unbind(-1)
    return Camera.from_focal(torch.maximum(width, height), w=width, h=height)


def _with_focal(cameras: Camera, focal: float) -> Camera:
    return replace(cameras, f=cameras.f * focal)


def _fit(
    model: ZipSplat, photos: Tensor, cameras: Camera, seed: int
) -> tuple[Gaussians, float, Pose, Tensor]:
    """Reconstruct preprocessed photos: scene, focal length, poses, inlier shares (V,)."""
    features = model.encode(photos)
    gaussians = model.decode(features)[0]
    correspondences = _correspondences(gaussians, cameras, features.grid)
    views, shares = estimate_views(correspondences, seed)
    return gaussians, float(views.focal), views.poses().to(gaussians.means), shares


def _correspondences(
    gaussians: Gaussians, cameras: Camera, grid: tuple[int, int]
) -> Correspondences:
    """Correspondences between the means of the tokens' Gaussians and the patch centres.

    Args:
        gaussians: (N,) at compression 1: V·T tokens in the order of views, rows and columns, with
            the Gaussians of a token adjacent.
        cameras: (V,) of the preprocessed photos, with a focal length equal to the longer side.
        grid: rows and columns of patches.
    """
    (rows, columns), V = grid, len(cameras)
    opacities = gaussians.opacities.cpu().double().reshape(V, rows * columns, -1)
    means = gaussians.means.cpu().double().reshape(V, rows * columns, -1, 3)
    opacity = opacities.sum(-1).clamp_min(1e-12)
    points = (opacities.unsqueeze(-1) * means).sum(-2) / opacity.unsqueeze(-1)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centers = torch.stack((x, y), dim=-1).flatten(0, 1).double() + 0.5
    size, f, c = (value.cpu().double() for value in (cameras.size, cameras.f, cameras.c))
    patch = size / size.new_tensor([columns, rows])
    image_points = (centers * patch[:, None] - c[:, None]) / f[:, None]
    tolerance = 0.5 * (patch / f).mean(-1)
    return Correspondences(points, image_points, opacity / opacities.shape[-1], tolerance)


def _whole_error(rendered: Tensor, _: Tensor, true: Tensor) -> Tensor:
    """Absolute error over whole images, so that looking past the scene is not rewarded."""
    return (rendered - true).abs().flatten(1).mean(dim=1)


def _mean_color(photos: Tensor) -> Tensor:
    return photos.mean(dim=(0, 2, 3))


def _gain(
    gaussians: Gaussians, photos: Tensor, cameras: Camera, poses: Pose, renderer: str
) -> float:
    """See `NetworkCameras.gain`."""
    photos = photos.to(gaussians.device)
    background = _mean_color(photos)
    still = Pose.identity((len(photos),))
    at_poses, at_first = (
        gaussians.render(cameras, where, backgrounds=background, renderer=renderer)[0]
        for where in (poses, still)
    )
    plain = photos.mean(dim=(2, 3), keepdim=True)
    best = torch.maximum(_psnr(photos, at_first), _psnr(photos, plain))
    return float((_psnr(photos, at_poses) - best)[1:].min())


def _psnr(true: Tensor, rendered: Tensor) -> Tensor:
    error = (rendered.clamp(0, 1) - true).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error.clamp_min(1e-10))


def _disagreement(poses: Pose, back: Pose) -> float:
    """Largest angle in degrees between rotations relative to the first view; `back` is reversed."""
    turned = back.map(lambda value: value.flip(0))
    other = turned.R[:1].mT @ turned.R
    cosines = ((poses.R.mT @ other).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return float(cosines.clamp(-1, 1).acos().rad2deg().max())
