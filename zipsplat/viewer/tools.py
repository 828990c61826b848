"""The viewer's sharpening tools: structure from motion and `zipsplat.refinement`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from zipsplat.camera import Camera
from zipsplat.camera_estimation import CameraEstimate, estimate_cameras
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages, SparsePoints
from zipsplat.predictor import ZipSplat
from zipsplat.refinement import OnStep, RefinedScene, RefinementSettings, refine
from zipsplat.refinement.informed_start import informed_start
from zipsplat.viewer.photo_source import MAX_SIDE
from zipsplat.viewer.reconstruction import Photos
from zipsplat.viewer.sharpening import FoundCameras, SharpeningTools

_DEFAULT = RefinementSettings()


def sharpening_tools() -> SharpeningTools:
    """The tools of this package; pycolmap is imported when cameras are first estimated."""
    return SharpeningTools(find_cameras, refine_informed)


def find_cameras(photos: Photos, on_stage: Callable[[str], object]) -> FoundCameras:
    """Estimate the cameras of photos by structure from motion.

    Args:
        photos: without cameras.
        on_stage: called with the name of each stage.

    Raises:
        ValueError: too few photos could be registered.
        ImportError: pycolmap is not installed.
    """

    def tell(stage: str) -> None:
        on_stage(f"Finding the cameras: {stage}")

    estimate = estimate_cameras(list(photos.images), max_side=MAX_SIDE, on_stage=tell)
    views = _views(estimate, len(photos.images))
    placed = replace(
        photos,
        images=estimate.images.images,
        cameras=estimate.images.cameras,
        poses=estimate.images.poses,
        names=tuple(photos.name(view) for view in views),
        points=estimate.images.points,
    )
    return FoundCameras(placed, views, (*_left_out(photos, views), *estimate.warnings))


def refine_informed(
    gaussians: Gaussians | None,
    images: Sequence[Tensor],
    cameras: Camera,
    poses: Pose,
    points: SparsePoints | None = None,
    settings: RefinementSettings = _DEFAULT,
    on_step: OnStep | None = None,
) -> RefinedScene:
    """As `refine`, but fewer than 8 photos also start from the scene of `zipsplat-tiny`.

    `zipsplat reconstruct --refine` starts the same way. The network is in the package, so nothing
    is downloaded.
    """
    if gaussians is None:
        names = tuple(f"image {index}" for index in range(len(images)))
        photos = PosedImages(tuple(images), cameras, poses, names, points)
        gaussians = informed_start(lambda _: ZipSplat("zipsplat-tiny", "cpu"), photos, settings)
    return refine(gaussians, images, cameras, poses, points, settings, on_step)


def _views(estimate: CameraEstimate, count: int) -> tuple[int, ...]:
    """Indices of the registered photos; tensors are named by their index."""
    left_out = {int(one.name.split(".")[0]) for one in estimate.left_out}
    return tuple(view for view in range(count) if view not in left_out)


def _left_out(photos: Photos, views: tuple[int, ...]) -> tuple[str, ...]:
    names = [photos.name(v) for v in range(len(photos.images)) if v not in views]
    if not names:
        return ()
    return (f"Could not be registered and left out: {', '.join(names)}.",)
