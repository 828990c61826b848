"""Depth estimators for `extract_depth`: the interface, and Depth Anything 3 behind it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch

from splatfactory.datasets.frames import Pixels

FloatArray = npt.NDArray[np.float32]

MODEL_NAME = "depth-anything/DA3NESTED-GIANT-LARGE"

_INSTALL_ADVICE = (
    "Depth Anything 3 is not installed. Its package pins versions that do not fit ours, so give it"
    " an environment of its own: python -m venv da3 && da3/bin/pip install depth-anything-3,"
    " then install this repository there without dependencies (pip install --no-deps -e . -e"
    " splatfactory/) and run the command with da3/bin/python"
)


class DepthEstimator(Protocol):
    """Depth maps of the views of one scene."""

    def estimate(
        self, images: Sequence[Pixels], K: FloatArray, camera_from_world: FloatArray
    ) -> FloatArray:
        """Depth of each view.

        Args:
            images: n pictures (H, W, 3).
            K: (n, 3, 3) intrinsics, pixels.
            camera_from_world: (n, 4, 4) poses.

        Returns:
            (n, h, w) z depth in the units of the poses, at any resolution; not positive where it
            is unknown.
        """


class DepthAnything3:
    """The published package, conditioned on the given cameras and aligned to their scale.

    Args:
        device: where to run.

    Raises:
        ImportError: if the package is not installed.
    """

    def __init__(self, device: torch.device) -> None:
        try:
            api: Any = importlib.import_module("depth_anything_3.api")
        except ImportError as error:
            raise ImportError(_INSTALL_ADVICE) from error
        self._model = api.DepthAnything3.from_pretrained(MODEL_NAME).to(device).eval()

    def estimate(
        self, images: Sequence[Pixels], K: FloatArray, camera_from_world: FloatArray
    ) -> FloatArray:
        """Depth of each view, about 504 pixels long."""
        prediction = self._model.inference(
            list(images),
            extrinsics=camera_from_world,
            intrinsics=K,
            align_to_input_ext_scale=True,
        )
        return np.asarray(prediction.depth, dtype=np.float32)


def load(name: str, device: torch.device) -> DepthEstimator:
    """An estimator by name.

    Args:
        name: `depth_anything_3`, or `module:function` of one's own; the function takes a device.
        device: where to run.

    Raises:
        ValueError: if there is no such function.
    """
    if name == "depth_anything_3":
        return DepthAnything3(device)
    module, _, function = name.partition(":")
    try:
        create = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--estimator must be depth_anything_3 or module:function, got {name!r} ({error})"
        ) from error
    return cast("Callable[[torch.device], DepthEstimator]", create)(device)
