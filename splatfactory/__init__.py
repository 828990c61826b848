"""Training and evaluation of feed-forward Gaussian splatting."""

from splatfactory._version import __version__

try:
    import splatscenes as _splatscenes  # noqa: F401
    import zipsplat as _zipsplat  # noqa: F401
except ImportError as error:
    raise ImportError(
        "splatfactory needs the packages zipsplat and splatscenes from the same repository:"
        " run `pip install -e . -e splatscenes/` in the repository root"
    ) from error

__all__ = ["__version__"]
