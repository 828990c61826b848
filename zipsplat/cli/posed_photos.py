"""Photos with cameras, for the commands that refine."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zipsplat.cli.console import Console, Stages
from zipsplat.mask_options import mask_source

if TYPE_CHECKING:
    import torch

    from zipsplat.camera_estimation.capture import Lens
    from zipsplat.depth.predictor import DepthAnything
    from zipsplat.inputs import MaskedViews
    from zipsplat.posed_images import PosedImages
    from zipsplat.refinement import RefinedScene

AUTO = "auto"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PosedPhotos:
    """Undistorted images with cameras, and the lenses of the original photos.

    Args:
        images: V undistorted images.
        lenses: V lenses of the original photos.
    """

    images: PosedImages
    lenses: tuple[Lens, ...]

    def refined(self, result: RefinedScene) -> PosedPhotos:
        """The same photos with the refined cameras."""
        cameras, poses = result.cameras.cpu(), result.poses.cpu()
        return replace(self, images=replace(self.images, cameras=cameras, poses=poses))

    def write(self, path: Path) -> None:
        """Write the cameras of the original photos, for a later refinement."""
        from zipsplat.camera_estimation.write import write_cameras_json

        write_cameras_json(path, self.images, self.lenses)


def known_cameras(
    options: argparse.Namespace, photos: Sequence[str], console: Console
) -> PosedPhotos:
    """Photos with the cameras of the file of `--cameras`; see `load_cameras`."""
    from zipsplat.camera_estimation.load import read_capture, undistorted

    masks = mask_source(options)
    with console.stage("reading images and cameras"):
        capture = read_capture(Path(options.cameras), list(photos) or None)
        images = undistorted(capture, options.refine_size, masks)
    return PosedPhotos(images, tuple(photo.lens for photo in capture.photos))


def found_cameras(
    options: argparse.Namespace,
    photos: Sequence[str] | MaskedViews,
    console: Console,
    model: DepthAnything | None = None,
) -> PosedPhotos:
    """Photos with cameras from structure from motion, or from the model if that fails.

    See `estimate_cameras`.
    """
    from zipsplat.camera_estimation import estimate_cameras
    from zipsplat.inputs import MaskedViews

    with Stages(console) as stages:
        estimate = estimate_cameras(
            photos.images if isinstance(photos, MaskedViews) else photos,
            masks=photos.masks if isinstance(photos, MaskedViews) else mask_source(options),
            model=model,
            num_frames=options.num_frames,
            max_side=options.refine_size,
            on_stage=stages.begin,
        )
    for photo in estimate.left_out:
        logger.warning("left out %s: %s", photo.name, photo.reason)
    for warning in estimate.warnings:
        logger.warning("cameras: %s", warning)
    return PosedPhotos(estimate.images, estimate.lenses)


def on_device(photos: PosedImages, device: torch.device) -> PosedImages:
    """The same images on another device."""
    masks = photos.masks and tuple(mask.to(device) for mask in photos.masks)
    images = tuple(image.to(device) for image in photos.images)
    return replace(photos, images=images, masks=masks)


def photos_to_match(options: argparse.Namespace, console: Console) -> list[str] | MaskedViews:
    """The input of structure from motion: names, or loaded images if only some are used."""
    if options.stride is None and not options.skip_bad:
        inputs: list[str] = options.inputs
        return inputs
    from zipsplat.inputs import load_masked_views

    with console.stage("reading images", "frame") as report:
        return load_masked_views(
            options.inputs,
            mask_source(options),
            num_frames=options.num_frames,
            stride=options.stride,
            max_side=options.refine_size,
            background=options.background,
            skip_bad=options.skip_bad,
            report=report,
        )


def cameras_or_none(
    options: argparse.Namespace, console: Console, model: DepthAnything | None = None
) -> PosedPhotos | None:
    """The photos with cameras; None, with a warning, if no cameras are found."""
    from zipsplat.camera_estimation import CamerasNotFoundError

    if options.cameras != AUTO:
        return known_cameras(options, options.inputs, console)
    try:
        return found_cameras(options, photos_to_match(options, console), console, model)
    except (CamerasNotFoundError, ImportError) as error:
        logger.warning(
            "not refined, because no cameras were found: %s; give --cameras, or more images that"
            " overlap, or let Depth Anything 3 estimate them with --weights da3-small",
            " ".join(str(error).split()),
        )
        return None
