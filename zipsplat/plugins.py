"""Objects found by the name of the module that defines them."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class PluginError(KeyError, ValueError):
    """There is no such plug-in; the message is one line for the user."""

    def __str__(self) -> str:
        """The message as it is, without the quotes of a `KeyError`."""
        return str(self.args[0])


class Plugins(Generic[T]):
    """The plug-ins of one kind: every public module of a package, each holding one `PLUGIN`.

    `Plugins("zipsplat.formats")["ply"]` imports `zipsplat.formats.ply` and returns its `PLUGIN`.
    A dotted name, such as `my_lab.formats.obj`, names a module of another package. Modules are
    imported on demand.

    Args:
        package: import path of the package whose modules are the plug-ins.
        kind: name of the kind in messages, e.g. "scene format".
    """

    def __init__(self, package: str, kind: str = "") -> None:
        self.package = package
        self.kind = kind or f"{package} plug-in"

    def names(self) -> list[str]:
        """Names of the plug-ins in the package, sorted."""
        return list(_public_modules(tuple(importlib.import_module(self.package).__path__)))

    def __getitem__(self, name: str) -> T:
        """Import the module called `name` and return its `PLUGIN`.

        Raises:
            PluginError: if there is no such module, or it has no `PLUGIN`.
        """
        module_name = name if "." in name else f"{self.package}.{name}"
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise  # the plug-in exists, but something it imports does not
            raise PluginError(self._unknown(name, error.name)) from error
        except (TypeError, ValueError):  # names such as "" and "..x"
            raise PluginError(self._unknown(name, name)) from None
        if not hasattr(module, "PLUGIN"):
            raise PluginError(
                f"module {module_name} defines no PLUGIN, so it is not a {self.kind};"
                f" see {self.package} for examples"
            )
        return cast(T, module.PLUGIN)

    def check_trusted(self, name: str, source: str) -> None:
        """Reject a name from a data file that would import foreign code.

        Args:
            name: of a plug-in; modules of the package, and modules already imported, are trusted.
            source: where the name was found, for the message.

        Raises:
            PluginError: if the name is not trusted.
        """
        if "." in name and name not in sys.modules:
            raise PluginError(
                f"{source} needs the {self.kind} {name!r}, code that is not part of"
                f" {self.package.partition('.')[0]}; if you trust it, `import {name}` first"
            )

    def _unknown(self, name: str, missing: str) -> str:
        known = self.names()
        reason = f"no {self.kind} named {name!r}"
        if "." in name:
            reason += f" (no module {missing!r} can be imported)"
        tail = name.rpartition(".")[2]
        return f"{reason}; known: {', '.join(known)}{nearest(tail, known)}"


@functools.cache  # it reads folders, and renderers are looked up for every image
def _public_modules(path: tuple[str, ...]) -> tuple[str, ...]:
    names = (module.name for module in pkgutil.iter_modules(path))
    return tuple(sorted(name for name in names if not name.startswith("_")))


def nearest(name: str, known: Sequence[str], cutoff: float = 0.5) -> str:
    """`; did you mean …?` with the closest of the known names, or the empty text.

    Args:
        name: the misspelt name.
        known: the valid names.
        cutoff: least similarity in [0, 1], as in `difflib.get_close_matches`.
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else ""
