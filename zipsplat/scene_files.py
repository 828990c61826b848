"""Read and write scene files of any format; unusable Gaussians are left out.

Remarks tell what a reader left out, converted or ignored; `Gaussians.load` logs them, the command
`info` and the viewer show them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike, fspath

import numpy as np
from numpy.typing import NDArray

from zipsplat.files import open_file, write_atomically
from zipsplat.formats import (
    FORMATS,
    HEAD_BYTES,
    Array,
    Format,
    SplatArrays,
    by_content,
    by_suffix,
)

logger = logging.getLogger(__name__)

Path = str | PathLike[str]
Mask = NDArray[np.bool_]
_ROWS_NAMED = 5


@dataclass(frozen=True)
class SceneFile:
    """The content of a scene file.

    Args:
        arrays: the usable Gaussians, with all remarks.
        format: the format it was read as.
        left_out: number of unusable Gaussians by reason.
    """

    arrays: SplatArrays
    format: Format
    left_out: dict[str, int]


def read_scene(path: Path, format: str | None = None) -> SceneFile:
    """Read a scene file.

    Args:
        path: of the file.
        format: name of its format; by default detected from the content, or else the suffix.

    Raises:
        ValueError: if the file is damaged, or none of its Gaussians is usable; the message names
            it.
        OSError: if it cannot be opened.
    """
    chosen = find_format(path) if format is None else format_named(format)
    with open_file(path) as file:
        try:
            arrays = chosen.read(file)
            wrong = unusable(arrays)
            return SceneFile(_without(arrays, wrong), chosen, _counts(wrong))
        except ValueError as error:
            raise ValueError(f"{fspath(path)}: {error}") from error


def load_scene(path: Path, format: str | None = None) -> SplatArrays:
    """Read a scene file and log the remarks as warnings; arguments and errors as `read_scene`."""
    arrays = read_scene(path, format).arrays
    for remark in arrays.remarks:
        logger.warning("%s: %s", fspath(path), remark)
    return arrays


def write_scene(path: Path, arrays: SplatArrays, format: str | None = None) -> None:
    """Write a scene file, atomically; creates its folder.

    A warning tells what the format cannot store.

    Args:
        path: its suffix selects the format, e.g. `.ply`.
        arrays: finite values in range.
        format: name of the format, which overrides the suffix.

    Raises:
        ValueError: if the format is unknown.
        OSError: if it cannot be written.
    """
    chosen = by_suffix(path) if format is None else format_named(format)
    suffix, limit = chosen.suffixes[0], chosen.tolerance.max_sh_degree
    if arrays.sh_degree > limit:
        logger.warning(
            "%s stores spherical harmonics up to degree %d only; this scene has degree %d",
            suffix,
            limit,
            arrays.sh_degree,
        )
    if arrays.antialiased and not chosen.has_antialiased:
        logger.warning("%s cannot store that this scene should be rendered antialiased", suffix)
    write_atomically(path, lambda file: chosen.write(file, arrays))


def find_format(path: Path) -> Format:
    """The format of a file, from its content, or else from its suffix.

    Raises:
        ValueError: if neither is known.
        OSError: if the file cannot be opened.
    """
    with open_file(path) as file:
        return by_content(file.read(HEAD_BYTES)) or by_suffix(path)


def is_scene_file(path: Path) -> bool:
    """Whether a file is a scene, by its content, or else by its suffix.

    Raises:
        OSError: if the file cannot be opened.
    """
    try:
        find_format(path)
    except ValueError:
        return False
    return True


def format_named(name: str) -> Format:
    """The format of this name.

    Raises:
        ValueError: if there is none.
    """
    return FORMATS[name]


def unusable(arrays: SplatArrays) -> dict[str, Mask]:
    """Masks (N,) of Gaussians that cannot be rendered, by reason.

    Opacities of 0 and 1 and scales of 0 are valid: their logits and logarithms are ±inf.
    """
    checks: dict[str, Mask] = {
        "a position that is not finite": _not_finite(arrays.means),
        "a scale that is not finite": _not_finite(arrays.scales),
        "a negative scale": _rows_where(arrays.scales, below=0),
        "a rotation that is not finite": _not_finite(arrays.quats),
        "a rotation of length zero": _zero(arrays.quats),
        "an opacity that is not finite": _not_finite(arrays.opacities),
        "an opacity outside [0, 1]": _rows_where(arrays.opacities, below=0, above=1),
        "colours that are not finite": _not_finite(arrays.sh_coeffs),
    }
    return {what: mask for what, mask in checks.items() if mask.any()}


def _not_finite(values: Array) -> Mask:
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):  # much cheaper than checking each value
            return np.zeros(len(values), bool)
    return np.asarray(~np.isfinite(values).reshape(len(values), -1).all(axis=1), bool)


def _rows_where(values: Array, below: float, above: float = np.inf) -> Mask:
    if not values.size or (values.min() >= below and values.max() <= above):
        return np.zeros(len(values), bool)
    wrong = (values < below) | ((values > above) & np.isfinite(values))
    return np.asarray(wrong.reshape(len(values), -1).any(axis=1), bool)


def _zero(quats: Array) -> Mask:
    """Quaternions so short that their squared length underflows, as in `Gaussians.check`."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.einsum("ni,ni->n", quats, quats) == 0)


def _without(arrays: SplatArrays, wrong: dict[str, Mask]) -> SplatArrays:
    """The usable Gaussians, with a remark on those left out."""
    if not wrong:
        return arrays
    bad = np.logical_or.reduce(list(wrong.values()))
    num, total = int(bad.sum()), len(bad)
    listing = "; ".join(_descriptions(wrong))
    if num == total:
        raise ValueError(f"none of the {total} Gaussians in this file is usable: {listing}")
    return arrays.select(~bad).remarked(f"left out {num} of {total} Gaussians: {listing}")


def _descriptions(wrong: dict[str, Mask]) -> Iterator[str]:
    for what, mask in wrong.items():
        rows = np.flatnonzero(mask)
        first = ", ".join(str(row) for row in rows[:_ROWS_NAMED])
        more = ", …" if len(rows) > _ROWS_NAMED else ""
        yield f"{len(rows)} with {what} (row{'s' * (len(rows) > 1)} {first}{more})"


def _counts(wrong: dict[str, Mask]) -> dict[str, int]:
    return {what: int(mask.sum()) for what, mask in wrong.items()}
