"""Maps this folder to the package `splatfactory`; all else is in `pyproject.toml`."""

from setuptools import find_packages, setup

setup(
    package_dir={"splatfactory": "."},
    packages=["splatfactory", *(f"splatfactory.{name}" for name in find_packages())],
)
