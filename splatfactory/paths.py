"""Where data, weights, results and downloads live.

Each place can be moved by an environment variable; by default all but the cache are folders of
the current directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from zipsplat.files import user_cache

DATA_VARIABLE = "SPLATFACTORY_DATA"
WEIGHTS_VARIABLE = "SPLATFACTORY_WEIGHTS"
OUTPUTS_VARIABLE = "SPLATFACTORY_OUTPUTS"
CACHE_VARIABLE = "SPLATFACTORY_CACHE"


def data_root() -> Path:
    """Converted and downloaded data sets: `$SPLATFACTORY_DATA`, or `data`."""
    return Path(os.environ.get(DATA_VARIABLE, "data"))


def weights_root() -> Path:
    """Weights to start training from: `$SPLATFACTORY_WEIGHTS`, or `weights`."""
    return Path(os.environ.get(WEIGHTS_VARIABLE, "weights"))


def outputs_root() -> Path:
    """Training runs and results: `$SPLATFACTORY_OUTPUTS`, or `outputs`."""
    return Path(os.environ.get(OUTPUTS_VARIABLE, "outputs"))


def cache_root() -> Path:
    """What can be fetched or made again: `$SPLATFACTORY_CACHE`, or the user's cache directory."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE])
    return user_cache() / "splatfactory"


def resolve(path: str | os.PathLike[str]) -> Path:
    """A path as configurations write it; a leading `data`, `weights` or `outputs` may be moved.

    Args:
        path: As `data/re10k/360x640`; absolute paths stay as they are.
    """
    given = Path(path)
    roots = {"data": data_root, "weights": weights_root, "outputs": outputs_root}
    if given.is_absolute() or not given.parts or given.parts[0] not in roots:
        return given.expanduser()
    return roots[given.parts[0]]().joinpath(*given.parts[1:])
