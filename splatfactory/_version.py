"""The one place that holds the version of `splatfactory`."""

__version__ = "0.1.0"
