"""Training and evaluation of feed-forward Gaussian splatting."""

from splatfactory._version import __version__

try:
    import zipsplat as _zipsplat  # noqa: F401
except ImportError as error:
    raise ImportError(
        "splatfactory needs the package zipsplat from the same repository:"
        " run `pip install -e .` in the repository root"
    ) from error

__all__ = ["__version__"]
