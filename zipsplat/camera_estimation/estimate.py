"""Estimate the cameras of photos or a video."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zipsplat.camera_estimation.camera_checks import median_depth
from zipsplat.camera_estimation.capture import Capture, Lens
from zipsplat.camera_estimation.focal import Focal, noted_focal
from zipsplat.camera_estimation.from_depth_anything import cameras_from_depth_anything
from zipsplat.camera_estimation.from_network import cameras_from_network
from zipsplat.camera_estimation.structure_from_motion import (
    CamerasNotFoundError,
    Search,
    Solution,
    solve,
)
from zipsplat.camera_estimation.undistortion import Pixels, fitted, posed_images, shrunk, to_bytes
from zipsplat.depth.predictor import DepthAnything
from zipsplat.images import load_image
from zipsplat.inputs import DEFAULT_VIDEO_FRAMES, find_inputs
from zipsplat.masks import MaskSource, check_has_photos, load_masks, resized
from zipsplat.posed_images import PosedImages
from zipsplat.predictor import ZipSplat
from zipsplat.preprocess import check_image
from zipsplat.video import frame_indices, frame_name, numbered_frames

METHODS = ("auto", "sfm", "network")
ORDERS = ("any", "sequence")
LEAST_SIDE = (
    64  # pixels of the longer side; rounding changes the aspect ratio of smaller images too much
)
MATCHED_SIDE = (
    960  # pixels of the longer side for matching; smaller images give a less accurate focal length
)

Source = str | PathLike[str] | Sequence[str | PathLike[str]] | Sequence[Tensor]


@dataclass(frozen=True)
class LeftOut:
    """A photo that could not be registered.

    Args:
        name: of the photo.
        reason: why it could not.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class CameraEstimate:
    """Estimated cameras.

    The first registered camera is the identity, and the median depth of the points, over all
    photos that see them, is 1.

    Args:
        images: V registered photos, undistorted, with pinhole cameras, poses and sparse points.
        lenses: V intrinsics of the original upright photos, with distortion, at the size used for
            matching (longer side at most 960).
        files: V files, None for frames and tensors.
        left_out: photos that could not be registered.
        warnings: signs that the result may be wrong, one line each.
        method: "sfm" or "network".
        mapper: of structure from motion, "global" or "incremental"; None for a network.
        reprojection_error: mean, in pixels of the matched images; None for a network.
    """

    images: PosedImages
    lenses: tuple[Lens, ...]
    files: tuple[Path | None, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    method: str
    mapper: str | None = None
    reprojection_error: float | None = None


@dataclass(frozen=True)
class _View:
    """A photo with unknown camera."""

    name: str
    pixels: Pixels
    file: Path | None = None
    focal: Focal = field(default_factory=Focal)
    mask: Tensor | None = None


def estimate_cameras(
    source: Source,
    *,
    method: str = "auto",
    model: ZipSplat | DepthAnything | None = None,
    order: str = "any",
    focal_35mm: float | None = None,
    num_frames: int | None = None,
    max_side: int = MATCHED_SIDE,
    seed: int = 0,
    num_threads: int | None = None,
    on_stage: Callable[[str], None] | None = None,
    masks: MaskSource | Sequence[Tensor] | None = None,
) -> CameraEstimate:
    """Estimate the cameras of photos or a video, by structure from motion or by a network.

    Structure from motion needs the extra `zipsplat[cameras]`. Results are bit-identical for equal
    seeds and any number of threads.

    Args:
        source: photos, a folder, a pattern or a video as `zipsplat.inputs.find_inputs` takes them,
            or tensors (3, H, W) with RGB in [0, 1]. Sizes may differ; photos of equal size and EXIF
            focal length share a camera.
        method: "sfm"; "network" for the cameras predicted by `model`; "auto" for structure from
            motion, and `model`, if given, where that fails.
        model: Depth Anything 3 with a camera decoder, or a ZipSplat, whose predicted geometry
            must pass checks.
        order: "sequence" if neighbouring photos overlap; videos are always a sequence.
        focal_35mm: 35 mm equivalent focal length in mm, kept fixed. If not given, EXIF is the
            initial value.
        num_frames: number of video frames (default 24) or photos (default all) to use.
        max_side: the images of the result have at most this many pixels on their longer side.
        seed: of all random choices.
        num_threads: for features and matches; default is all processors.
        on_stage: called with a description of each stage.
        masks: where the masks of photos come from, or for tensors the masks (H, W) themselves:
            bool, True where a pixel counts. Features are extracted only there, and the images of
            the result carry the masks.

    Raises:
        CamerasNotFoundError: a `ValueError`; too few photos could be registered, or the network's
            cameras failed the checks.
        ValueError: an argument or a tensor is out of range, or a photo is unreadable.
        TypeError: a tensor is not floating point, or tensors and files are mixed.
        FileNotFoundError: a file does not exist.
        ImportError: without `pycolmap`.
    """
    _check_choice("method", method, METHODS)
    _check_choice("order", order, ORDERS)
    if max_side < LEAST_SIDE:
        raise ValueError(f"max_side must be at least {LEAST_SIDE} pixels, got {max_side}")
    on_stage = on_stage or _ignore
    on_stage("reading photos")
    given = None if focal_35mm is None else Focal.from_35mm(focal_35mm)
    views, is_video = _views(source, num_frames, max(max_side, MATCHED_SIDE), masks)
    if method == "network":
        if model is None:
            raise ValueError("method='network' needs a model")
        on_stage("predicting cameras")
        return _predicted(views, model, max_side)
    search = Search(is_video or order == "sequence", seed, num_threads or -1)
    focals = [given or view.focal for view in views]
    try:
        solution = _solved(views, focals, search, on_stage)
    except (CamerasNotFoundError, ImportError) as error:
        if method == "sfm" or model is None:
            raise
        on_stage("predicting cameras")
        estimate = _predicted(views, model, max_side)
        reason = f"structure from motion failed ({error}); these cameras are the network's"
        return replace(estimate, warnings=(reason, *estimate.warnings))
    on_stage("undistorting")
    return _estimate(views, solution, focals, max_side)


def _solved(
    views: Sequence[_View],
    focals: Sequence[Focal],
    search: Search,
    on_stage: Callable[[str], None],
) -> Solution:
    with tempfile.TemporaryDirectory(prefix="zipsplat-photos-") as folder:
        files = [_matched_copy(view, Path(folder) / f"{n:06d}.png") for n, view in enumerate(views)]
        masks = None
        if all(view.mask is not None for view in views):
            masks = Path(folder) / "masks"
            masks.mkdir()
            for view, file in zip(views, files, strict=True):
                _matched_mask(view, masks / f"{file.name}.png")
        return solve(files, focals, search, on_stage, masks)


def _predicted(
    views: Sequence[_View], model: ZipSplat | DepthAnything, max_side: int
) -> CameraEstimate:
    """Predict cameras with a network; the photos count as undistorted."""
    pixels = [torch.from_numpy(shrunk(view.pixels, max_side)) for view in views]
    images = tuple(one.permute(2, 0, 1).float() / 255 for one in pixels)
    names = tuple(view.name for view in views)
    warnings: tuple[str, ...] = ()
    if isinstance(model, DepthAnything):
        cameras, poses = cameras_from_depth_anything(model, images)
        photos = PosedImages(images, cameras.cpu(), poses.cpu(), names)
    else:
        found = cameras_from_network(model, images, names)
        photos, warnings = found.images, found.warnings
    masks = [
        resized(view.mask, *image.shape[1:])
        for view, image in zip(views, images, strict=True)
        if view.mask is not None
    ]
    photos = photos.masked(masks) if masks else photos
    packed = photos.cameras.packed().tolist()
    return CameraEstimate(
        images=photos,
        lenses=tuple(Lens("PINHOLE", round(w), round(h), tuple(rest)) for w, h, *rest in packed),
        files=tuple(view.file for view in views),
        left_out=(),
        warnings=warnings,
        method="network",
    )


def _estimate(
    views: Sequence[_View], solution: Solution, focals: Sequence[Focal], max_side: int
) -> CameraEstimate:
    placed = [views[view] for view in solution.views]
    capture = normalized(solution.capture)

    def load(view: int) -> tuple[Pixels, Lens]:
        pixels = shrunk(placed[view].pixels, max_side)
        lens = capture.photos[view].lens
        return pixels, fitted(lens, pixels, Path(placed[view].name))

    def load_mask(view: int, size: tuple[int, int]) -> Tensor:
        mask = placed[view].mask
        assert mask is not None
        return resized(mask, *size)

    has_masks = all(view.mask is not None for view in placed)
    names = [view.name for view in placed]
    return CameraEstimate(
        images=posed_images(capture, names, load, load_mask if has_masks else None),
        lenses=tuple(photo.lens for photo in capture.photos),
        files=tuple(view.file for view in placed),
        left_out=tuple(LeftOut(views[view].name, why) for view, why in solution.left_out),
        warnings=(*solution.warnings, *_two_photos(len(views), focals)),
        method="sfm",
        mapper=solution.mapper,
        reprojection_error=solution.mean_error,
    )


def _two_photos(count: int, focals: Sequence[Focal]) -> tuple[str, ...]:
    if count > 2:
        return ()
    known = "taken from EXIF" if all(focal.factor for focal in focals) else "assumed"
    return (f"two photos do not determine the focal length, so it is {known}; three or more do",)


def normalized(capture: Capture) -> Capture:
    """The capture with the first camera as identity and a median depth of 1."""
    first = np.linalg.inv(capture.photos[0].world_from_camera)
    scale = 1 / median_depth(capture)
    photos = []
    for photo in capture.photos:
        pose = first @ photo.world_from_camera
        pose[:3, 3] *= scale
        photos.append(replace(photo, world_from_camera=pose))
    photos[0] = replace(photos[0], world_from_camera=np.eye(4))
    points = capture.points
    if points is not None:
        positions = points.positions.astype(np.float64) @ first[:3, :3].T + first[:3, 3]
        points = replace(points, positions=(positions * scale).astype(np.float32))
    return replace(capture, photos=tuple(photos), points=points)


def _views(
    source: Source,
    num_frames: int | None,
    max_side: int,
    masks: MaskSource | Sequence[Tensor] | None,
) -> tuple[list[_View], bool]:
    """The photos, and whether they are frames of a video."""
    images = [] if isinstance(source, (str, PathLike)) else list(source)
    if any(isinstance(image, Tensor) for image in images):
        if isinstance(masks, MaskSource):
            raise TypeError("photos given as tensors need masks as tensors, got a MaskSource")
        return _tensor_views(images, masks, max_side), False
    if masks is not None and not isinstance(masks, MaskSource):
        raise TypeError("photos given as files need a MaskSource, got masks as tensors")
    files = find_inputs(source)  # type: ignore[arg-type]
    if masks is not None:
        check_has_photos(files.video)
    if files.video is not None:
        count = num_frames or DEFAULT_VIDEO_FRAMES
        frames = numbered_frames(files.video, count, max_side=max_side)
        return [_View(frame_name(n), to_bytes(frame)) for n, frame in frames.items()], True
    count = len(files.images)
    chosen = [files.images[n] for n in frame_indices(count, num_frames or count)]
    names = _distinct_names(chosen)
    views = [
        _View(name, to_bytes(load_image(path, max_side=max_side)), path, noted_focal(path))
        for name, path in zip(names, chosen, strict=True)
    ]
    if masks is None:
        return views, False
    found = load_masks(chosen, masks, [view.pixels.shape[:2] for view in views])
    return [replace(view, mask=mask) for view, mask in zip(views, found, strict=True)], False


def _tensor_views(
    images: Sequence[Any], masks: Sequence[Tensor] | None, max_side: int
) -> list[_View]:
    for index, image in enumerate(images):
        check_image(image, index)
    views = [
        _View(f"{n:06d}.png", shrunk(to_bytes(image), max_side)) for n, image in enumerate(images)
    ]
    if masks is None:
        return views
    return [
        replace(view, mask=resized(mask, *view.pixels.shape[:2]))
        for view, mask in zip(views, masks, strict=True)
    ]


def _distinct_names(paths: Sequence[Path]) -> list[str]:
    """File names, made unique by a number in front."""
    names = [path.name for path in paths]
    if len({name.casefold() for name in names}) == len(names):
        return names
    return [f"{number:04d}_{name}" for number, name in enumerate(names)]


def _matched_copy(view: _View, path: Path) -> Path:
    Image.fromarray(shrunk(view.pixels, MATCHED_SIDE)).save(path, compress_level=1)
    return path


def _matched_mask(view: _View, path: Path) -> None:
    """Write the mask for COLMAP, which extracts features where it is not black."""
    assert view.mask is not None
    size = shrunk(view.pixels, MATCHED_SIDE).shape[:2]
    levels = 255 * resized(view.mask, *size).cpu().numpy().astype(np.uint8)
    Image.fromarray(levels).save(path)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _ignore(stage: str) -> None:
    """The default `on_stage`: do nothing."""
