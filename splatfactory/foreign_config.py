"""What a configuration from a file may hold: data, and nothing that reaches outside of it.

A file of others, or a checkpoint that carries one, could read a secret out of the environment into
an address or a result, and ten lines of references to references stand for more than any memory
holds. So the environment is read for the command line only, and trees have limits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_FILE_BYTES = 256 << 10
MAX_DEPTH, MAX_PARTS = 50, 10_000
MAX_REFERENCES = 30
"""Each may double what refers to it: with so many there are less than a million parts."""
_ENVIRONMENT = "oc.env"


def check_tree(tree: object, where: str) -> None:
    """Refuse a tree that is too large, once everything that it shares or refers to is written out.

    Args:
        tree: nested dictionaries, lists and texts.
        where: its file, for the error.

    Raises:
        ValueError: if it is.
    """
    references = 0
    for parts, (value, depth) in enumerate(_walk(tree), start=1):
        references += value.count("${") if isinstance(value, str) else 0
        if depth > MAX_DEPTH or parts > MAX_PARTS or references > MAX_REFERENCES:
            raise ValueError(
                f"{where} is no configuration: it is nested more than {MAX_DEPTH} deep, or holds"
                f" more than {MAX_PARTS} options or {MAX_REFERENCES} references"
            )


def check_yaml(path: Path) -> None:
    """Refuse a YAML file that cannot be meant as a configuration, before it is built.

    Raises:
        OSError: if it cannot be read.
        yaml.YAMLError: if it is no YAML.
        ValueError: if it is too large or not text.
    """
    import yaml  # type: ignore[import-untyped]

    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"{path} is no configuration: it has more than {MAX_FILE_BYTES} bytes")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error})") from None
    check_tree(node, str(path))


def check_composed(path: Path, groups: Sequence[str], chosen: str) -> None:
    """As `check_yaml`, also for the files beside that this one can name as its parts.

    Args:
        path: of the configuration.
        groups: folders beside it that hold parts.
        chosen: names of parts that the command line gives.
    """
    import yaml

    check_yaml(path)
    texts = chosen + path.read_text(encoding="utf-8")
    beside = [*path.parent.glob("*.yaml")]
    beside += [file for group in groups for file in (path.parent / group).rglob("*.yaml")]
    waiting = [file for file in beside if file != path]
    while found := [file for file in waiting if file.stem in texts]:
        waiting = [file for file in waiting if file not in found]
        for file in found:
            with contextlib.suppress(yaml.YAMLError):  # if it is used, that is told then
                check_yaml(file)
                texts += file.read_text(encoding="utf-8")


def yaml_problem(error: Exception, path: Path) -> str:
    """One line on a mistake in YAML, with file and line."""
    mark = getattr(error, "problem_mark", None)
    name = getattr(mark, "name", "")
    place = name if name and not name.startswith("<") else str(path)
    line = "" if mark is None else f", line {mark.line + 1}"
    reason = getattr(error, "problem", None) or str(error)
    return f"{place}{line}: {' '.join(str(reason).split())}"


@contextmanager
def without_environment() -> Iterator[None]:
    """In the block, nothing that is resolved can see the environment."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    def refuse(name: str, *_default: object) -> None:
        raise ValueError(
            f"${{{_ENVIRONMENT}:{name}}} is allowed on the command line only, as key=value"
        )

    OmegaConf.register_new_resolver(_ENVIRONMENT, refuse, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver(_ENVIRONMENT, oc.env, replace=True)


def command_line_tree(text: str) -> Any:
    """An override `key=value`; only here may a value name a variable of the environment."""
    from omegaconf import OmegaConf

    tree = OmegaConf.from_dotlist([text])
    if _ENVIRONMENT in text:
        OmegaConf.resolve(tree)
    return tree


def _walk(tree: object) -> Iterator[tuple[object, int]]:
    """All parts of a tree or of a YAML node with their depth, shared ones each time."""
    waiting = [(tree, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        value = getattr(value, "value", value)
        if isinstance(value, Mapping):
            waiting += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, depth + 1) for part in value]
