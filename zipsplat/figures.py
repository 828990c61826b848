"""Depth maps in colour, with a legend, and contact sheets."""

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

_GAP = 6  # pixels between the images of a contact sheet
_TEXT_HEIGHT = 14
_LEGEND_HEIGHT = 26


def to_pixels(images: Tensor) -> np.ndarray:
    """Images (..., 3, H, W) with RGB in [0, 1] as rounded bytes (..., H, W, 3)."""
    *leading, _, height, width = images.shape
    pixels = torch.empty(
        (math.prod(leading), height, width, 3), dtype=torch.uint8, device=images.device
    )
    planes = images.detach().reshape(-1, 3, height, width)
    for plane, target in zip(planes, pixels, strict=True):
        for channel in range(3):  # one at a time, so that it stays in the CPU's cache
            target[..., channel] = plane[channel].clamp(0, 1).mul_(255).round_()
    return pixels.cpu().numpy().reshape(*leading, height, width, 3)


def color_ramp(values: Tensor) -> Tensor:
    """Map [0, 1] to colours from bright (near) to dark (far), also readable in greyscale.

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
        alpha: (..., H, W) opacity; the background shows through where it is below 1.
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
    """A colour bar (height, width, 3) uint8 with the near and far distances below it."""
    ramp = to_pixels(color_ramp(torch.linspace(0, 1, width)).T[:, None, :])
    legend = np.full((_LEGEND_HEIGHT, width, 3), 255, np.uint8)
    legend[: _LEGEND_HEIGHT - _TEXT_HEIGHT] = ramp
    sheet, pen = _with_pen(legend)
    top = _LEGEND_HEIGHT - _TEXT_HEIGHT + 1
    pen.text((2, top), f"{near:.3g}", fill=(0, 0, 0))
    text = f"{far:.3g}"
    pen.text((width - 2 - pen.textlength(text), top), text, fill=(0, 0, 0))
    return np.asarray(sheet)


def contact_sheet(
    images: Sequence[np.ndarray],
    labels: Sequence[str] = (),
    *,
    columns: int | None = None,
    cell_width: int = 192,
) -> np.ndarray:
    """Thumbnails in rows, each with its label above.

    Args:
        images: (H, W, 3) uint8 RGB, sizes may differ; at least one.
        labels: one for each image, or none.
        columns: images per row; default is a roughly square sheet.
        cell_width: width of each thumbnail in pixels.

    Returns:
        (height, width, 3) uint8 RGB.
    """
    if not images or (labels and len(labels) != len(images)):
        raise ValueError(
            f"a sheet needs images and as many labels, got {len(images)} and {len(labels)}"
        )
    from PIL import Image

    if columns is None:
        columns = math.ceil(math.sqrt(len(images)))
    header = _TEXT_HEIGHT if labels else 0
    small = []
    for image in images:
        height = max(1, round(cell_width * image.shape[0] / image.shape[1]))
        small.append(Image.fromarray(image).resize((cell_width, height)))
    cell_height = max(cell.height for cell in small) + header
    rows = math.ceil(len(small) / columns)
    shape = (rows * (cell_height + _GAP) + _GAP, columns * (cell_width + _GAP) + _GAP, 3)
    sheet, pen = _with_pen(np.full(shape, 255, np.uint8))
    for index, cell in enumerate(small):
        left = _GAP + index % columns * (cell_width + _GAP)
        top = _GAP + index // columns * (cell_height + _GAP)
        sheet.paste(cell, (left, top + header))
        if labels:
            pen.text((left, top), labels[index], fill=(0, 0, 0))
    return np.asarray(sheet)


def _with_pen(pixels: np.ndarray) -> tuple[PillowImage.Image, ImageDraw]:
    """A Pillow image, and the pen that writes on it."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    return image, ImageDraw.Draw(image)
