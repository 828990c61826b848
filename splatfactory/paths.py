"""Folders of data, weights, results and downloads.

An environment variable can move each; by default, all but the cache are in the current directory.
"""

from __future__ import annotations

import os
from pathlib import Path

from zipsplat.files import user_cache

DATA_VARIABLE = "SPLATFACTORY_DATA"
WEIGHTS_VARIABLE = "SPLATFACTORY_WEIGHTS"
OUTPUTS_VARIABLE = "SPLATFACTORY_OUTPUTS"
CACHE_VARIABLE = "SPLATFACTORY_CACHE"
CACHE_SIZE_VARIABLE = "SPLATFACTORY_REMOTE_CACHE_GB"


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
    """Reproducible files: `$SPLATFACTORY_CACHE`, or the user's cache directory."""
    if CACHE_VARIABLE in os.environ:
        return Path(os.environ[CACHE_VARIABLE])
    return user_cache() / "splatfactory"


def remote_cache_bytes() -> int:
    """Disk cache size of remote shards, in bytes: `$SPLATFACTORY_REMOTE_CACHE_GB`, or 20 GB.

    Raises:
        ValueError: if the variable is not a number ≥ 0.
    """
    text = os.environ.get(CACHE_SIZE_VARIABLE, "20")
    try:
        size = float(text)
    except ValueError:
        size = -1.0
    if not 0 <= size < 1e9:
        raise ValueError(f"{CACHE_SIZE_VARIABLE} must be gigabytes, at least 0, got {text!r}")
    return int(size * 1e9)


def resolve(path: str | os.PathLike[str]) -> Path:
    """Resolve a path of a configuration: a leading `data`, `weights` or `outputs` may be moved.

    Args:
        path: E.g. `data/re10k/360x640`; absolute paths are kept.
    """
    given = Path(path)
    roots = {"data": data_root, "weights": weights_root, "outputs": outputs_root}
    if given.is_absolute() or not given.parts or given.parts[0] not in roots:
        return given.expanduser()
    return roots[given.parts[0]]().joinpath(*given.parts[1:])
