"""Numbers and pictures arranged for the eye: depth in colours with a legend, contact sheets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL.ImageDraw import ImageDraw

_GAP = 6  # pixels between the pictures of a contact sheet
_TEXT_HEIGHT = 14
_LEGEND_HEIGHT = 26


def to_pixels(pictures: Tensor) -> np.ndarray:
    """Pictures (..., 3, H, W) with RGB in [0, 1] as rounded bytes (..., H, W, 3)."""
    *leading, _, height, width = pictures.shape
    pixels = torch.empty(
        (math.prod(leading), height, width, 3), dtype=torch.uint8, device=pictures.device
    )
    planes = pictures.detach().reshape(-1, 3, height, width)
    for image, target in zip(planes, pixels, strict=True):
        for channel in range(3):  # one by one they stay in a CPU's cache
            target[..., channel] = image[channel].clamp(0, 1).mul_(255).round_()
    return pixels.cpu().numpy().reshape(*leading, height, width, 3)


def color_ramp(values: Tensor) -> Tensor:
    """Colours for numbers in [0, 1] from near (bright) to far (dark), readable in grey as well.

    The colours are a cubehelix (D. A. Green, "A colour scheme for the display of astronomical
    intensity images", 2011): brightness falls evenly while the hue turns.

    Args:
        values: (...) numbers; those outside [0, 1] are clamped.

    Returns:
        (..., 3) RGB in [0, 1].
    """
    light = 0.86 - 0.80 * values.clamp(0, 1)
    angle = 2 * math.pi * (0.5 / 3 + 1 + 1.2 * (1 - light))
    amplitude = 1.3 * light * (1 - light) / 2
    cos, sin = torch.cos(angle), torch.sin(angle)
    channels = (
        light + amplitude * (-0.14861 * cos + 1.78277 * sin),
        light + amplitude * (-0.29227 * cos - 0.90649 * sin),
        light + amplitude * (1.97294 * cos),
    )
    return torch.stack(channels, dim=-1).clamp(0, 1)


def color_depth(
    depth: Tensor,
    near: float,
    far: float,
    alpha: Tensor | None = None,
    background: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Depth as colours: near is bright, far is dark.

    Args:
        depth: (..., H, W) distances in world units.
        near: distance of the brightest colour.
        far: distance of the darkest colour, more than `near`.
        alpha: (..., H, W) opacity; what is not covered shows the background.
        background: RGB in [0, 1].

    Returns:
        (..., 3, H, W) RGB in [0, 1].
    """
    if not near < far:
        raise ValueError(f"near must be less than far, got {near} and {far}")
    colors = color_ramp((depth - near) / (far - near)).movedim(-1, -3)
    if alpha is None:
        return colors
    under = torch.tensor(background, dtype=colors.dtype, device=colors.device)[:, None, None]
    cover = alpha.unsqueeze(-3).clamp(0, 1)
    return colors * cover + under * (1 - cover)


def depth_legend(near: float, far: float, width: int) -> np.ndarray:
    """A bar (height, width, 3) of bytes that says which colour is which distance."""
    ramp = to_pixels(color_ramp(torch.linspace(0, 1, width)).T[:, None, :])
    legend = np.full((_LEGEND_HEIGHT, width, 3), 255, np.uint8)
    legend[: _LEGEND_HEIGHT - _TEXT_HEIGHT] = ramp
    canvas, draw = _canvas(legend)
    top = _LEGEND_HEIGHT - _TEXT_HEIGHT + 1
    draw.text((2, top), f"{near:.3g}", fill=(0, 0, 0))
    text = f"{far:.3g}"
    draw.text((width - 2 - draw.textlength(text), top), text, fill=(0, 0, 0))
    return np.asarray(canvas)


def contact_sheet(
    pictures: Sequence[np.ndarray],
    labels: Sequence[str] = (),
    *,
    columns: int | None = None,
    cell_width: int = 192,
) -> np.ndarray:
    """Small pictures side by side in rows, each with its label above.

    Args:
        pictures: (H, W, 3) uint8 RGB, sizes may differ; at least one.
        labels: one for each picture, or none.
        columns: pictures in a row; about as many as rows if not given.
        cell_width: width of each picture on the sheet in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    if not pictures or (labels and len(labels) != len(pictures)):
        raise ValueError(
            f"a sheet needs pictures and as many labels, got {len(pictures)} and {len(labels)}"
        )
    from PIL import Image

    if columns is None:
        columns = math.ceil(math.sqrt(len(pictures)))
    header = _TEXT_HEIGHT if labels else 0
    small = []
    for picture in pictures:
        height = max(1, round(cell_width * picture.shape[0] / picture.shape[1]))
        small.append(Image.fromarray(picture).resize((cell_width, height)))
    cell_height = max(cell.height for cell in small) + header
    rows = math.ceil(len(small) / columns)
    shape = (rows * (cell_height + _GAP) + _GAP, columns * (cell_width + _GAP) + _GAP, 3)
    sheet, draw = _canvas(np.full(shape, 255, np.uint8))
    for index, cell in enumerate(small):
        left = _GAP + index % columns * (cell_width + _GAP)
        top = _GAP + index // columns * (cell_height + _GAP)
        sheet.paste(cell, (left, top + header))
        if labels:
            draw.text((left, top), labels[index], fill=(0, 0, 0))
    return np.asarray(sheet)


def _canvas(pixels: np.ndarray) -> tuple[PillowImage.Image, ImageDraw]:
    """A picture to draw on."""
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(pixels)
    return canvas, ImageDraw.Draw(canvas)
