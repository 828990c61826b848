"""Configuration: YAML groups and command-line overrides in, one typed `Config` out.

Hydra composes the groups (`model/backbone=da3s`), the result is merged into the schema of
`splatfactory.schema`, `a.b=c` overrides come last, and everything is checked: an unknown key or a
value of the wrong type is a `ConfigError` that names the nearest valid key. Nothing in a YAML
file is executed.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

from splatfactory import schema
from splatfactory.foreign_config import (
    check_composed,
    check_tree,
    check_yaml,
    command_line_tree,
    without_environment,
    yaml_problem,
)
from splatfactory.schema import Config
from zipsplat.files import write_atomically

CONFIG_DIR = Path(__file__).parent / "configs"
GROUPS = ("model", "data", "train", "benchmarks")
DATA_SET_KEYS = ("name", "dataset_dir", "childs")
"""Options that say which data set is meant, not how it is read."""


class ConfigError(ValueError):
    """A configuration that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Request:
    """What the user asked for, kept in the run's folder so that `--restore` can repeat it.

    Attributes:
        conf: Name of a shipped configuration, a path of one's own, or None.
        overrides: `key=value` texts in the order given.
    """

    conf: str | None
    overrides: tuple[str, ...]


def load(request: Request) -> Config:
    """Compose, merge and check a configuration.

    Raises:
        ConfigError: For unknown names, unknown keys and values of a wrong type.
    """
    groups, values = split_overrides(request.overrides)
    if groups and request.conf is None:
        raise ConfigError(f"{groups[0]} chooses a group of a configuration; --conf is missing")
    return merge([compose(request.conf, groups)] if request.conf else [], values)


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell group choices (`model/backbone=da3s`, `data=dl3dv`) from values (`data.seed=3`)."""
    groups: list[str] = []
    values: list[str] = []
    for text in overrides:
        key, separator, _ = text.partition("=")
        if not separator or not key:
            raise ConfigError(f"expected key=value, got {text!r}")
        is_group = "/" in key or key in GROUPS
        (groups if is_group else values).append(text)
    return groups, values


def merge(layers: Sequence[Mapping[str, Any]], values: Sequence[str]) -> Config:
    """Lay trees, the later over the earlier, and `a.b=c` texts over the schema's defaults.

    Args:
        layers: Nested dictionaries as YAML holds them.
        values: Overrides; they win.

    Raises:
        ConfigError: For unknown keys and values of a wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        for layer in layers:
            check_tree(layer, "a layer")
        trees = [OmegaConf.create(dict(layer)) for layer in layers]
        tree = OmegaConf.merge(OmegaConf.structured(Config), *trees)
        for text in sorted(values, key=lambda text: not _is_sampler_choice(text)):
            _forget_other_sampler(tree, text)
            tree = OmegaConf.merge(tree, command_line_tree(text))
        with without_environment():
            OmegaConf.resolve(tree)
        config = OmegaConf.to_object(tree)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(_explain(error)) from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(config, Config):
        raise ConfigError("a configuration is a mapping with model, data, train and eval")
    return config


_SAMPLER_CHOICE = ".view_sampler.name"


def _is_sampler_choice(text: str) -> bool:
    return text.partition("=")[0].endswith(_SAMPLER_CHOICE)


def _forget_other_sampler(tree: Any, text: str) -> None:
    """Before another view sampler is chosen, drop the options of the one before: it has others.

    Choices of samplers are laid first, so that what the user says of the new one stays.
    """
    from omegaconf import OmegaConf

    if not _is_sampler_choice(text):
        return
    key, _, name = text.partition("=")
    options = OmegaConf.select(tree, key.removesuffix(".name"))
    if options is not None and options.get("name") != name:
        options.clear()


def to_dict(config: Config) -> dict[str, Any]:
    """Plain nested dictionaries, lists, texts and numbers, as stored in YAML and checkpoints."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(config))
    return plain


def save_yaml(tree: dict[str, Any], path: Path) -> None:
    """Write a nested dictionary as YAML; the file is either the old one or the whole new one."""
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create(tree))

    def write(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(path, write)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: If the file is missing or holds no mapping.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        check_yaml(path)
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except YAMLError as error:
        raise ConfigError(yaml_problem(error, path)) from None
    except (OSError, ValueError, OmegaConfBaseException) as error:
        raise ConfigError(f"cannot read configuration {path}: {_first_line(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no mapping of options")
    return {str(key): value for key, value in tree.items()}


def available() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(path.stem for path in CONFIG_DIR.glob("*.yaml"))


def help_lines(kind: type = Config, prefix: str = "") -> Iterator[str]:
    """One line for every option: key, default and meaning."""
    for item in dataclasses.fields(kind):
        key = f"{prefix}{item.name}"
        default = _default(item)
        if dataclasses.is_dataclass(default):
            yield from help_lines(type(default), f"{key}.")
            continue
        value = _plain(default)
        shown = "null" if value is None else str(value).lower() if value in (True, False) else value
        yield f"  {key}={shown}\n      {item.metadata.get('help', '')}"


def known_keys(kind: type = Config, prefix: str = "") -> list[str]:
    """Dotted names of all options and sections."""
    keys = []
    for item in dataclasses.fields(kind):
        keys.append(f"{prefix}{item.name}")
        default = _default(item)
        if dataclasses.is_dataclass(default):
            keys += known_keys(type(default), f"{prefix}{item.name}.")
    return keys


def nearest(name: str, names: Sequence[str]) -> str:
    """`did you mean …?` with the closest known name, or the empty text."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not close:
        tail = name.rpartition(".")[2]
        close = [key for key in names if key.rpartition(".")[2] == tail][:1]
    return f"; did you mean {close[0]}?" if close else ""


def compose(conf: str, groups: Sequence[str]) -> dict[str, Any]:
    """The tree of a configuration file with its groups, not yet checked against the schema.

    Args:
        conf: Name of a shipped configuration, or a YAML file.
        groups: Chosen groups, as `model/backbone=da3s`.

    Raises:
        ConfigError: If there is no such file or group.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = _find(conf)
    search = [_search_path(CONFIG_DIR)] if path.parent != CONFIG_DIR else []
    GlobalHydra.instance().clear()
    try:
        if path.parent != CONFIG_DIR:
            check_composed(path, GROUPS, " ".join(groups))
        with initialize_config_dir(str(path.parent.resolve()), version_base=None):
            tree = compose(path.stem, overrides=[*groups, *search])
        plain = OmegaConf.to_container(tree, resolve=False)
    except YAMLError as error:
        raise ConfigError(yaml_problem(error, path)) from None
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        chosen = f" (with {', '.join(groups)})" if groups else ""
        raise ConfigError(_first_line(error) + chosen) from None
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} holds no mapping of options")
    sections = {str(key): value for key, value in plain.items()}
    for choice in groups:
        group, _, name = choice.partition("=")
        if group == "data":
            sections["data"] = _of_data_set(sections["data"], name, path.parent)
    return sections


def _of_data_set(section: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    """The section `data` with the identity of a data set that was chosen by name.

    Hydra lays a configuration's own values over its groups, so without this a folder that the
    configuration names would stay, and training would go on with other data than those asked for.
    """
    files = [place / "data" / f"{name}.yaml" for place in (folder, CONFIG_DIR)]
    chosen = read_yaml(next(file for file in files if file.is_file()))
    kept = {key: value for key, value in section.items() if key not in DATA_SET_KEYS}
    return kept | {key: chosen[key] for key in DATA_SET_KEYS if key in chosen}


def _search_path(folder: Path) -> str:
    """The override that adds a folder, quoted since its name may hold any character.

    Source: https://hydra.cc/docs/advanced/override_grammar/basic/#quoted-values
    """
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(folder))
    return f"hydra.searchpath=['file://{escaped}']"


def _find(conf: str) -> Path:
    shipped = CONFIG_DIR / f"{conf}.yaml"
    if shipped.is_file():
        return shipped
    path = Path(conf)
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return path.resolve()
    raise ConfigError(
        f"no configuration {conf!r}: neither a file nor one of {', '.join(available())}"
        + nearest(conf, available())
    )


def _explain(error: Exception) -> str:
    """The user's one line for an error of the configuration library."""
    key = getattr(error, "full_key", None) or ""
    message = str(getattr(error, "msg", None) or error).splitlines()[0].strip()
    if "not in" in message and key:
        return f"unknown option {key}{nearest(key, known_keys())}"
    return f"option {key}: {message}" if key else message


def _first_line(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:500]


def _default(item: dataclasses.Field[Any]) -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


__all__ = [
    "CONFIG_DIR",
    "Config",
    "ConfigError",
    "Request",
    "available",
    "compose",
    "help_lines",
    "known_keys",
    "load",
    "merge",
    "nearest",
    "read_yaml",
    "save_yaml",
    "schema",
    "split_overrides",
    "to_dict",
]
