"""Pictures with cameras, as the commands that refine get them."""

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
class PosedPictures:
    """Pictures with cameras.

    Args:
        images: V undistorted ones.
        lenses: V of the pictures as they were given.
    """

    images: PosedImages
    lenses: tuple[Lens, ...]

    def refined(self, result: RefinedScene) -> PosedPictures:
        """With the cameras that a refinement gave back."""
        cameras, poses = result.cameras.cpu(), result.poses.cpu()
        return replace(self, images=replace(self.images, cameras=cameras, poses=poses))

    def write(self, path: Path) -> None:
        """Write the cameras of the pictures as they were given, for the next refinement."""
        from zipsplat.camera_estimation.write import write_cameras_json

        write_cameras_json(path, self.images, self.lenses)


def known_cameras(
    options: argparse.Namespace, photos: Sequence[str], console: Console
) -> PosedPictures:
    """Pictures with the cameras of the file that was named; as `load_cameras`."""
    from zipsplat.camera_estimation.load import read_capture, straightened

    masks = mask_source(options)
    with console.stage("reading pictures and cameras"):
        capture = read_capture(Path(options.cameras), list(photos) or None)
        images = straightened(capture, options.refine_size, masks)
    return PosedPictures(images, tuple(photo.lens for photo in capture.photos))


def found_cameras(
    options: argparse.Namespace,
    photos: Sequence[str] | MaskedViews,
    console: Console,
    model: DepthAnything | None = None,
) -> PosedPictures:
    """Pictures with the cameras that structure from motion finds, or else the model.

    As `estimate_cameras`.
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
    return PosedPictures(estimate.images, estimate.lenses)


def on_device(photos: PosedImages, device: torch.device) -> PosedImages:
    """The same pictures elsewhere."""
    masks = photos.masks and tuple(mask.to(device) for mask in photos.masks)
    images = tuple(image.to(device) for image in photos.images)
    return replace(photos, images=images, masks=masks)


def pictures_to_match(options: argparse.Namespace, console: Console) -> list[str] | MaskedViews:
    """What structure from motion is given: names, or pictures where only some are used."""
    if options.stride is None and not options.skip_bad:
        inputs: list[str] = options.inputs
        return inputs
    from zipsplat.inputs import load_masked_views

    with console.stage("reading pictures", "frame") as report:
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
) -> PosedPictures | None:
    """The pictures with cameras; None, after a warning, if none are found."""
    from zipsplat.camera_estimation import CamerasNotFoundError

    if options.cameras != AUTO:
        return known_cameras(options, options.inputs, console)
    try:
        return found_cameras(options, pictures_to_match(options, console), console, model)
    except (CamerasNotFoundError, ImportError) as error:
        logger.warning(
            "not refined, as no cameras were found: %s; give --cameras, or more pictures that"
            " overlap, or let Depth Anything 3 estimate them with --weights da3-small",
            " ".join(str(error).split()),
        )
        return None
