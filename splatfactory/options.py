"""Declaration of options, and construction of plug-ins from the options in a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from zipsplat.plugins import nearest

T = TypeVar("T")


def option(default: Any, text: str) -> Any:
    """A dataclass field with a default and its `--help` text."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def section(kind: Callable[[], Any], text: str) -> Any:
    """A dataclass field for a nested group of options."""
    return field(default_factory=kind, metadata={"help": text})


def one_of(value: str | None, choices: Sequence[str], name: str) -> None:
    """Reject a value that is not one of the choices; None is always valid.

    Raises:
        ValueError: if it is not; suggests the nearest choice.
    """
    if value is not None and value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(choices)}, got {value!r}{nearest(value, choices)}"
        )


def pair(values: Sequence[Any], name: str) -> tuple[Any, Any]:
    """Convert a sequence to two numbers.

    Raises:
        ValueError: if it does not have two entries.
    """
    if len(values) != 2:
        raise ValueError(f"{name} must be two numbers, got {values}")
    return values[0], values[1]


@dataclass(frozen=True)
class Kind(Generic[T]):
    """The `PLUGIN` of a module that implements a loss or a view sampler.

    Attributes:
        config: dataclass of its options, all with defaults.
        create: builds the object from these options.
    """

    config: type[Any]
    create: Callable[[Any], T]

    def build(self, options: Mapping[str, Any], where: str, name: str) -> T:
        """Build the object from options.

        Args:
            options: options by name, as read from YAML.
            where: section of the options, for messages.
            name: name of the plug-in, for messages.

        Raises:
            ValueError: if an option is unknown, or its value has a wrong type or is out of range.
        """
        known = [entry.name for entry in fields(self.config)]
        for key in options:
            if key not in known:
                listing = ", ".join(known) or "none"
                raise ValueError(
                    f"unknown option {where}.{key} of {name}; known: {listing}{nearest(key, known)}"
                )
        return self.create(self._typed(options, where))

    def _typed(self, options: Mapping[str, Any], where: str) -> Any:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        tree = OmegaConf.structured(self.config)
        OmegaConf.set_readonly(tree, False)  # frozen dataclasses start read-only
        try:
            return OmegaConf.to_object(OmegaConf.merge(tree, OmegaConf.create(dict(options))))
        except OmegaConfBaseException as error:
            message = str(getattr(error, "msg", None) or error).splitlines()[0]
            raise ValueError(f"{where}.{getattr(error, 'full_key', '')}: {message}") from None
