"""The one place that holds the version of `zipsplat`."""

__version__ = "0.1.0"
