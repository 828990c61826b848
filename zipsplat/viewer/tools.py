"""What the viewer sharpens with: structure from motion and the refinement of this package."""

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
    """The tools of this package; pycolmap is imported when cameras are first looked for."""
    return SharpeningTools(find_cameras, refine_informed)


def find_cameras(photos: Photos, on_stage: Callable[[str], object]) -> FoundCameras:
    """Find the cameras of photos by structure from motion.

    Args:
        photos: whose cameras are not known.
        on_stage: is told what is being done.

    Raises:
        ValueError: too few photos could be placed.
        ImportError: there is no pycolmap.
    """

    def tell(stage: str) -> None:
        on_stage(f"Finding the cameras: {stage}")

    estimate = estimate_cameras(list(photos.pictures), max_side=MAX_SIDE, on_stage=tell)
    views = _views(estimate, len(photos.pictures))
    placed = replace(
        photos,
        pictures=estimate.images.images,
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
    """As `refine`, but fewer than 8 photos start from what `zipsplat-tiny` makes of them, too.

    That is the start of `zipsplat reconstruct --refine`. The network is in the package, so nothing
    is fetched.
    """
    if gaussians is None:
        names = tuple(f"image {index}" for index in range(len(images)))
        photos = PosedImages(tuple(images), cameras, poses, names, points)
        gaussians = informed_start(lambda _: ZipSplat("zipsplat-tiny", "cpu"), photos, settings)
    return refine(gaussians, images, cameras, poses, points, settings, on_step)


def _views(estimate: CameraEstimate, count: int) -> tuple[int, ...]:
    """Which photos were placed; tensors are named by their numbers."""
    left_out = {int(one.name.split(".")[0]) for one in estimate.left_out}
    return tuple(view for view in range(count) if view not in left_out)


def _left_out(photos: Photos, views: tuple[int, ...]) -> tuple[str, ...]:
    names = [photos.name(v) for v in range(len(photos.pictures)) if v not in views]
    if not names:
        return ()
    return (f"Could not be placed and is left out: {', '.join(names)}.",)
