"""Configuration: turns YAML groups and command-line overrides into one typed `Config`.

Hydra composes the groups (`model/backbone=da3s`), the result is merged into the schema of
`splatfactory.schema`, `a.b=c` overrides come last, and everything is checked: an unknown key or a
value of the wrong type is a `ConfigError` that names the nearest valid key. Nothing in a YAML
file is executed.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from splatfactory.foreign_config import (
    check_composed,
    check_tree,
    check_yaml,
    command_line_tree,
    without_environment,
    yaml_problem,
)
from splatfactory.schema import Config
from zipsplat import plugins
from zipsplat.files import write_text

CONFIG_DIR = Path(__file__).parent / "configs"
GROUPS = ("model", "data", "train", "benchmarks")
DATA_SET_KEYS = ("name", "dataset_dir", "childs")
"""Options that identify a data set, as opposed to how it is read."""


class ConfigError(ValueError):
    """An invalid configuration; the message is one line for the user."""


@dataclass(frozen=True)
class Request:
    """The user's request, saved in the run's folder so that `--restore` can repeat it.

    Attributes:
        conf: name of a shipped configuration, the path of a YAML file, or None.
        overrides: `key=value` strings in the order given.
    """

    conf: str | None
    overrides: tuple[str, ...]


def load(request: Request) -> Config:
    """Compose, merge and check a configuration.

    Raises:
        ConfigError: for unknown names, unknown keys and values of a wrong type.
    """
    groups, values = split_overrides(request.overrides)
    if groups and request.conf is None:
        raise ConfigError(f"{groups[0]} changes a configuration; name it with --conf")
    return merge([compose(request.conf, groups)] if request.conf else [], values)


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate group choices (`model/backbone=da3s`, `data=dl3dv`) from values (`data.seed=3`)."""
    groups: list[str] = []
    values: list[str] = []
    for text in overrides:
        key, separator, value = text.partition("=")
        if text.startswith(("+", "~")):
            raise ConfigError(_without_sign(key, value if separator else None))
        if not separator or not key:
            raise ConfigError(f"expected key=value, got {text!r}")
        is_group = "/" in key or (key in GROUPS and not value.startswith("{"))
        (groups if is_group else values).append(text)
    return groups, values


def _without_sign(key: str, value: str | None) -> str:
    """Error message for Hydra overrides that add or remove a key, with what to write instead."""
    sign, name = key[0], key[1:].lstrip("+~")
    is_group = "/" in name or name in GROUPS
    if not is_group and name not in known_keys():
        return f"unknown option {name}{nearest(name, known_keys())}"
    if sign == "~" and is_group:
        return f"{key}: a group cannot be removed; choose another with {name}=<name>"
    if sign == "~":
        return f"{key}: options cannot be removed; set a value instead, {name}=null if allowed"
    value = "<value>" if value is None else value
    return f"{key}: every option exists already; drop the {sign}: {name}={value}"


def merge(layers: Sequence[Mapping[str, Any]], values: Sequence[str]) -> Config:
    """Merge trees, later over earlier, and then `a.b=c` overrides into the schema's defaults.

    Args:
        layers: nested dictionaries, as read from YAML.
        values: overrides; they take precedence.

    Raises:
        ConfigError: for unknown keys and values of a wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]

    try:
        for layer in layers:
            check_tree(layer, "a layer")
        trees = [OmegaConf.create(dict(layer)) for layer in layers]
        tree = OmegaConf.merge(_schema(), *trees)
        for number, text in enumerate(values):
            again = _forget_other_sampler(tree, text, values[:number])
            tree = OmegaConf.merge(tree, *map(_parsed, [*again, text]))
        with without_environment():
            OmegaConf.resolve(tree)
        config = OmegaConf.to_object(tree)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(_explain(error, values)) from None
    except (ValueError, OverflowError) as error:  # a number of 400 digits for a float
        raise ConfigError(_first_line(error)) from None
    if not isinstance(config, Config):
        raise ConfigError("a configuration is a mapping with model, data, train and eval")
    return config


@cache
def _schema() -> Any:
    """The defaults with their types; `OmegaConf.merge` copies them."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(Config)


def _parsed(text: str) -> Any:
    """The tree of one override."""
    from omegaconf import OmegaConf

    tree = command_line_tree(text)
    glued = _glued(OmegaConf.to_container(tree))
    if glued is not None:
        key, _, value = glued.partition(":")
        raise ConfigError(
            f"{text}: a colon needs a space after it, {{{key}: {value}}} instead of {{{glued}}}"
        )
    return tree


def _glued(tree: Any) -> str | None:
    """The first key that was meant as key and value, e.g. in `{a:1}`."""
    if not isinstance(tree, dict):
        return None
    for key, value in tree.items():
        if value is None and ":" in str(key):
            return str(key)
        found = _glued(value)
        if found is not None:
            return found
    return None


def _sampler_choice(text: str) -> tuple[str, Any] | None:
    """Section and name of the view sampler that an override selects, if any."""
    from omegaconf import OmegaConf

    key = text.partition("=")[0]
    section = key.removesuffix(".name")
    if not section.endswith(".view_sampler"):
        return None
    given = OmegaConf.select(OmegaConf.from_dotlist([text]), section)
    name = given.get("name") if OmegaConf.is_dict(given) else None
    return None if name is None else (section, name)


def _forget_other_sampler(tree: Any, text: str, earlier: Sequence[str]) -> list[str]:
    """Drop the options of the previous view sampler when an override selects another.

    Returns:
        Earlier overrides of options of the new sampler, to apply again.
    """
    from omegaconf import OmegaConf

    section, name = _sampler_choice(text) or ("", None)
    options = OmegaConf.select(tree, section) if section else None
    if options is None or options.get("name") == name:
        return []
    options.clear()
    return [given for given in earlier if given.startswith(f"{section}.")]


def to_dict(config: Config) -> dict[str, Any]:
    """Nested dictionaries, lists, strings and numbers, as stored in YAML and checkpoints."""
    plain: dict[str, Any] = _plain(dataclasses.asdict(config))
    return plain


def save_yaml(tree: dict[str, Any], path: Path) -> None:
    """Write a nested dictionary as YAML, atomically."""
    from omegaconf import OmegaConf

    write_text(path, OmegaConf.to_yaml(OmegaConf.create(tree)))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: if the file is missing or is not a mapping.
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
        raise ConfigError(f"{path} is not a mapping of options")
    return {str(key): value for key, value in tree.items()}


def available() -> list[str]:
    """Names of the shipped configurations."""
    return sorted(path.stem for path in CONFIG_DIR.glob("*.yaml"))


def help_lines(kind: type = Config, prefix: str = "") -> Iterator[str]:
    """One entry per option: key, default and meaning."""
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
    """A hint `did you mean …?` with a name of the same ending, else the closest, or ""."""
    tail = name.rpartition(".")[2]
    of_equal_end = [key for key in names if key.rpartition(".")[2] == tail]
    return plugins.nearest(name, of_equal_end, cutoff=0.0) or plugins.nearest(name, names)


def compose(conf: str, groups: Sequence[str]) -> dict[str, Any]:
    """Compose a configuration file with its groups; not yet checked against the schema.

    Args:
        conf: name of a shipped configuration, or a YAML file.
        groups: chosen groups, as `model/backbone=da3s`, or `data=my_lab/scans.yaml` for a file of
            your own.

    Raises:
        ConfigError: if there is no such file or group.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = _find(conf)
    GlobalHydra.instance().clear()
    try:
        if path.parent != CONFIG_DIR:
            check_composed(path, GROUPS, " ".join(groups))
        with (
            _own_groups(groups, (path.parent, CONFIG_DIR)) as (names, own_folder),
            initialize_config_dir(str(path.parent.resolve()), version_base=None),
            without_environment(),  # Hydra resolves the names of groups in `defaults`
        ):
            folders = [own_folder, CONFIG_DIR if path.parent != CONFIG_DIR else None]
            tree = compose(path.stem, overrides=[*names, *_search_path(folders)])
        plain = OmegaConf.to_container(tree, resolve=False)
    except ConfigError:
        raise
    except YAMLError as error:
        raise ConfigError(yaml_problem(error, path)) from None
    except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
        chosen = f" (with {', '.join(groups)})" if groups else ""
        raise ConfigError(_first_line(error) + chosen) from None
    except (AssertionError, AttributeError, KeyError, TypeError) as error:  # Hydra checks little
        raise ConfigError(f"{path}: `defaults` must list `group: name` ({error!r})") from None
    if not isinstance(plain, dict):
        raise ConfigError(f"{path} is not a mapping of options")
    sections = {str(key): value for key, value in plain.items()}
    for choice in groups:
        group, _, name = choice.partition("=")
        if group == "data":
            files = [place / "data" / f"{name}.yaml" for place in (path.parent, CONFIG_DIR)]
            file = Path(name) if _is_file(name) else next(file for file in files if file.is_file())
            sections["data"] = _of_data_set(sections["data"], file)
    return sections


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


@contextmanager
def _own_groups(
    groups: Sequence[str], folders: Sequence[Path]
) -> Iterator[tuple[list[str], Path | None]]:
    """Translate group choices for Hydra: custom files become names in a temporary folder.

    Args:
        groups: group choices, as the user wrote them.
        folders: folders in which Hydra looks up groups.

    Yields:
        The choices, and the temporary folder, or None if not needed.
    """
    with TemporaryDirectory(prefix="splatfactory-") as folder:
        names = []
        for number, text in enumerate(groups):
            group, _, choice = text.partition("=")
            if not _is_file(choice):
                _check_choice(group, choice, folders)
                names.append(text)
                continue
            if not Path(choice).is_file():
                raise ConfigError(f"{text}: file {choice} does not exist")
            check_yaml(Path(choice))
            copy = Path(folder, group, f"own_{number}.yaml")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(choice, copy)
            names.append(f"{group}={copy.stem}")
        yield names, Path(folder) if names != list(groups) else None


def _check_choice(group: str, choice: str, folders: Sequence[Path]) -> None:
    """Reject an unknown group, or an unknown name in a group."""
    if not any((folder / group).is_dir() for folder in folders):
        known = sorted({str(path.parent.relative_to(folder)) for folder in folders
                        for path in folder.glob("*/**/*.yaml")})  # fmt: skip
        raise ConfigError(f"unknown group {group}{nearest(group, known)}")
    names = sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
    if choice not in names:
        raise ConfigError(
            f"{group} has no {choice!r}; choose from {', '.join(names)}, or name a YAML file"
            + plugins.nearest(choice, names)
        )


def _of_data_set(section: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The section `data`, with the identity options of a data set selected by name.

    Hydra applies a configuration's own values after its groups, so without this a folder that the
    configuration names would win, and training would use other data than requested.
    """
    chosen = read_yaml(file)
    kept = {key: value for key, value in section.items() if key not in DATA_SET_KEYS}
    return kept | {key: chosen[key] for key in DATA_SET_KEYS if key in chosen}


def _search_path(folders: Sequence[Path | None]) -> list[str]:
    """The override that adds folders, quoted because their names may contain any character.

    Source: https://hydra.cc/docs/advanced/override_grammar/basic/#quoted-values
    """
    escaped = [re.sub(r"(\\*)'", r"\1\1\\'", str(folder)) for folder in folders if folder]
    quoted = ",".join(f"'file://{folder}'" for folder in escaped)
    return [f"hydra.searchpath=[{quoted}]"] if quoted else []


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


def _explain(error: Exception, values: Sequence[str] = ()) -> str:
    """Turn an error of the configuration library into one line for the user."""
    key = getattr(error, "full_key", None) or ""
    message = str(getattr(error, "msg", None) or error).splitlines()[0].strip()
    if "not in" in message and key:
        return f"unknown option {key}{nearest(key, known_keys())}"
    if "is not a ListConfig" in message:
        given = [text.partition("=")[2] for text in values if text.startswith(f"{key}=")]
        return f"option {key} is a list" + (f"; write {key}=[{given[-1]}]" if given else "")
    if "Incompatible value 'None'" in message:
        return f"option {key} needs a value; write {key}='' for an empty string"
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
    "split_overrides",
    "to_dict",
]
