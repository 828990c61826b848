"""Training and evaluation of feed-forward Gaussian splatting."""

from splatfactory._version import __version__

try:
    import zipsplat as _zipsplat  # noqa: F401
except ImportError as error:
    raise ImportError(
        "splatfactory needs the package zipsplat, which lies in the folder above it:"
        " run `pip install -e .` in the root of the repository"
    ) from error

__all__ = ["__version__"]
