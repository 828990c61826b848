"""Training and evaluation of feed-forward Gaussian splatting."""

from splatfactory._version import __version__

try:
    import splatscenes as _splatscenes  # noqa: F401
    import zipsplat as _zipsplat  # noqa: F401
except ImportError as error:
    raise ImportError(
        "splatfactory needs the packages zipsplat and splatscenes, which lie in the folder above"
        " it: run `pip install -e . -e splatscenes/` in the root of the repository"
    ) from error

__all__ = ["__version__"]
