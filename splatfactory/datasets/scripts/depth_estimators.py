"""Depth estimators for `extract_depth`: the interface, and Depth Anything 3."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from splatfactory.datasets.frames import Pixels
from zipsplat import Camera, DepthAnything, Pose

FloatArray = npt.NDArray[np.float32]

DEFAULT_NAME = "depth_anything_3"
DEFAULT_WEIGHTS = "da3nested-giant-large"


class DepthEstimator(Protocol):
    """Estimates depth maps of the views of one scene."""

    def estimate(
        self, images: Sequence[Pixels], K: FloatArray, camera_from_world: FloatArray
    ) -> FloatArray:
        """Estimate the depth of each view.

        Args:
            images: n images (H, W, 3).
            K: (n, 3, 3) intrinsics, pixels.
            camera_from_world: (n, 4, 4) poses.

        Returns:
            (n, h, w) z depth in the units of the poses, at any resolution; ≤ 0 where it
            is unknown.
        """


class DepthAnything3:
    """Depth Anything 3, conditioned on the given cameras and aligned to their scale.

    Args:
        model: network with a camera decoder.
    """

    def __init__(self, model: DepthAnything) -> None:
        self.model = model

    def estimate(
        self, images: Sequence[Pixels], K: FloatArray, camera_from_world: FloatArray
    ) -> FloatArray:
        """Estimate the depth of each view, at the network's resolution.

        Raises:
            ValueError: if images differ in shape, or all cameras are collinear.
        """
        sizes = {self.model.preprocessor.network_size(*image.shape[:2]) for image in images}
        if len(sizes) > 1:
            raise ValueError(f"images of one scene must have one shape, got {sorted(sizes)}")
        cameras = [
            Camera.from_K(torch.from_numpy(k), image.shape[1], image.shape[0])
            for k, image in zip(K, images, strict=True)
        ]
        poses = Pose.from_4x4mat(torch.from_numpy(camera_from_world)).inv()
        views = [torch.from_numpy(image).permute(2, 0, 1).float() / 255 for image in images]
        depth: FloatArray = self.model(views, cameras, poses).depth.cpu().numpy()
        return depth


def load(name: str, device: torch.device, weights: str = DEFAULT_WEIGHTS) -> DepthEstimator:
    """Load an estimator by name.

    Args:
        name: `depth_anything_3`, or `module:function` of your own; the function takes a device.
        device: device to run on.
        weights: weights of Depth Anything 3: a name, file, URL or repository.

    Raises:
        ValueError: if the function does not exist.
        OSError: if the weights cannot be loaded.
    """
    if name == DEFAULT_NAME:
        return DepthAnything3(DepthAnything(weights, device=device))
    module, _, function = name.partition(":")
    try:
        create = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--estimator must be {DEFAULT_NAME} or module:function, got {name!r} ({error})"
        ) from error
    return cast("Callable[[torch.device], DepthEstimator]", create)(device)
