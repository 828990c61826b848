"""Maps this folder to the package `splatfactory`; everything else is in `pyproject.toml`."""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class BuildWithoutSetup(build_py):  # type: ignore[misc]  # setuptools has no types
    """Keeps this file, which is inside the package folder, out of the wheel."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """List the modules of a package as (package, module, file)."""
        modules = super().find_package_modules(package, package_dir)
        return [entry for entry in modules if entry[:2] != ("splatfactory", "setup")]


setup(
    cmdclass={"build_py": BuildWithoutSetup},
    package_dir={"splatfactory": "."},
    packages=["splatfactory", *(f"splatfactory.{name}" for name in find_packages())],
)
