"""Images of evaluation reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from zipsplat.figures import contact_sheet, to_pixels

ERROR_GAIN = 3.0


def comparison_sheet(
    true: Tensor, rendered: Tensor, views: Sequence[int], psnrs: Sequence[float]
) -> npt.NDArray[np.uint8]:
    """Target images, renders and error maps, in rows.

    Args:
        true: (V, 3, H, W) in [0, 1].
        rendered: (V, 3, H, W).
        views: frame numbers.
        psnrs: PSNR per view, decibels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    error = ERROR_GAIN * (true - rendered).abs()
    cells = [*to_pixels(true), *to_pixels(rendered), *to_pixels(error)]
    labels = [f"view {view}" for view in views] + [f"PSNR {value:.2f}" for value in psnrs]
    labels += [f"{ERROR_GAIN:g} x error"] * len(views)
    return contact_sheet(cells, labels, columns=len(views))
