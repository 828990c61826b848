"""The version of `splatfactory`, defined only here."""

__version__ = "0.1.0"
