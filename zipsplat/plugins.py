"""Objects found by the name of the module that defines them."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Plugins(Generic[T]):
    """The plug-ins of one kind: every public module of a package, each holding one `PLUGIN`.

    `Plugins("zipsplat.formats")["ply"]` imports `zipsplat.formats.ply` and returns its `PLUGIN`.
    A dotted name, as `my_lab.formats.obj`, reaches a module of somebody else's package. Nothing is
    imported before it is asked for.

    Args:
        package: import path of the package whose modules are the plug-ins.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    def names(self) -> list[str]:
        """Names of the plug-ins in the package, sorted."""
        path = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))

    def __getitem__(self, name: str) -> T:
        """Import the module called `name` and return its `PLUGIN`.

        Raises:
            KeyError: if there is no such module, or it has no `PLUGIN`.
        """
        module_name = name if "." in name else f"{self.package}.{name}"
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # the plug-in exists; something that it needs does not
            known = ", ".join(self.names())
            raise KeyError(f"no {self.package} plug-in named {name!r}; known: {known}") from error
        if not hasattr(module, "PLUGIN"):
            raise KeyError(f"module {module_name} defines no PLUGIN; see {self.package}")
        return cast(T, module.PLUGIN)
