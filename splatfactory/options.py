"""How options are declared, and how a plug-in with options is built from what a user wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from zipsplat.plugins import nearest

T = TypeVar("T")


def option(default: Any, text: str) -> Any:
    """A field with a default and the line `--help` shows."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def section(kind: Callable[[], Any], text: str) -> Any:
    """A nested group of options."""
    return field(default_factory=kind, metadata={"help": text})


def one_of(value: str | None, choices: Sequence[str], name: str) -> None:
    """Refuse a text that is none of the choices; None is always one.

    Raises:
        ValueError: Naming the nearest choice.
    """
    if value is not None and value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(choices)}, got {value!r}{nearest(value, choices)}"
        )


def pair(values: Sequence[Any], name: str) -> tuple[Any, Any]:
    """Two numbers.

    Raises:
        ValueError: If there are more or fewer.
    """
    if len(values) != 2:
        raise ValueError(f"{name} must be two numbers, got {values}")
    return values[0], values[1]


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What the module of a loss or a view sampler offers as its `PLUGIN`.

    Attributes:
        config: Dataclass of its options, each with a default.
        create: Makes the object from such options.
    """

    config: type[Any]
    create: Callable[[Any], T]

    def build(self, options: Mapping[str, Any], where: str, name: str) -> T:
        """The object that some options describe.

        Args:
            options: By name, as YAML holds them.
            where: The section they are written in, for messages.
            name: Of the plug-in, for messages.

        Raises:
            ValueError: If an option is unknown, or its value is of a wrong type or impossible.
        """
        known = [entry.name for entry in fields(self.config)]
        for key in options:
            if key not in known:
                listing = ", ".join(known) or "there is none"
                raise ValueError(
                    f"unknown option {where}.{key} of {name}; known: {listing}{nearest(key, known)}"
                )
        return self.create(self._typed(options, where))

    def _typed(self, options: Mapping[str, Any], where: str) -> Any:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        tree = OmegaConf.structured(self.config)
        OmegaConf.set_readonly(tree, False)  # frozen dataclasses begin as read-only
        try:
            return OmegaConf.to_object(OmegaConf.merge(tree, OmegaConf.create(dict(options))))
        except OmegaConfBaseException as error:
            message = str(getattr(error, "msg", None) or error).splitlines()[0]
            raise ValueError(f"{where}.{getattr(error, 'full_key', '')}: {message}") from None
