"""Results side by side as one page: tables, and the images of the scenes that changed most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splatfactory.visualization import pages

Pixels = npt.NDArray[np.uint8]

BANDS = ("photos", "renderings", "errors")
"""The rows of a comparison sheet, from the top; see `comparison_sheet`."""


@dataclass(frozen=True)
class SceneImages:
    """The comparison sheets of one scene.

    Attributes:
        title: name of the scene and change of its scores.
        sheets: result name and file, in the order of the results; files may be missing.
    """

    title: str
    sheets: Sequence[tuple[str, Path]]


def scene_figures(scene: SceneImages) -> str:
    """Photos once, then the renders of all results side by side, then their errors."""
    sheets = [(name, _bands(path)) for name, path in scene.sheets if path.is_file()]
    if not sheets:
        return ""
    rows = [pages.figure(pages.embedded(sheets[0][1][0]), BANDS[0])]
    for number, kind in enumerate(BANDS[1:], start=1):
        rows.append(
            "".join(
                pages.figure(pages.embedded(bands[number]), f"{name}: {kind}")
                for name, bands in sheets
            )
        )
    galleries = "".join(pages.gallery([row]) for row in rows)
    return f"<h3>{escape(scene.title)}</h3>{galleries}"


def _bands(path: Path) -> list[Pixels]:
    """The rows of a comparison sheet."""
    from PIL import Image

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    height = len(pixels) // len(BANDS)
    return [pixels[number * height : (number + 1) * height] for number in range(len(BANDS))]
