"""Limits on configurations from files: they hold data and cannot reach outside of themselves.

A file from others, or in a checkpoint, could copy a secret from the environment into a URL or a
result, and ten lines of nested references can expand to more than any memory holds. So only the
command line may read the environment, and trees have limits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zipsplat.files import open_file

MAX_FILE_BYTES = 256 << 10
MAX_DEPTH, MAX_PARTS = 50, 10_000
MAX_REFERENCES = 30
"""Nested references multiply: 30 can make at most 3 ** 10 = 59 049 copies of a part."""
_ENVIRONMENT = "oc.env"


def check_tree(tree: object, where: str) -> None:
    """Reject a tree that is too large once all shared parts and references are expanded.

    Args:
        tree: nested dictionaries, lists and strings.
        where: its file, for the message.

    Raises:
        ValueError: if the tree is too large.
    """
    references = 0
    for parts, (value, depth) in enumerate(_walk(tree), start=1):
        references += value.count("${") if isinstance(value, str) else 0
        if depth > MAX_DEPTH or parts > MAX_PARTS or references > MAX_REFERENCES:
            raise ValueError(
                f"{where} is not a configuration: it is nested more than {MAX_DEPTH} deep, or holds"
                f" more than {MAX_PARTS} options or {MAX_REFERENCES} references"
            )


def check_yaml(path: Path) -> None:
    """Reject a YAML file that cannot be a configuration, before building it.

    Raises:
        OSError: if it cannot be read.
        yaml.YAMLError: if it is not valid YAML.
        ValueError: if it is too large or not text.
    """
    import yaml  # type: ignore[import-untyped]

    with open_file(path) as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is not a configuration: it has more than {MAX_FILE_BYTES} bytes")
    try:
        node = yaml.compose(content.decode("utf-8"), Loader=yaml.SafeLoader)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file ({error})") from None
    check_tree(node, str(path))


def check_composed(path: Path, groups: Sequence[str], chosen: str) -> None:
    """Apply `check_yaml` to a file and to the group files beside it that it can include.

    Args:
        path: path of the configuration.
        groups: group folders beside it.
        chosen: group choices of the command line.
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
            with contextlib.suppress(yaml.YAMLError):  # reported later if the file is used
                check_yaml(file)
                texts += file.read_text(encoding="utf-8")


def yaml_problem(error: Exception, path: Path) -> str:
    """Describe a YAML error in one line, with file and line number."""
    mark = getattr(error, "problem_mark", None)
    name = getattr(mark, "name", "")
    place = name if name and not name.startswith("<") else str(path)
    line = "" if mark is None else f", line {mark.line + 1}"
    reason = getattr(error, "problem", None) or str(error)
    return f"{place}{line}: {' '.join(str(reason).split())}"


@contextmanager
def without_environment() -> Iterator[None]:
    """Inside the block, resolving a configuration cannot read the environment."""
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
    """Parse an override `key=value`; only here may a value read an environment variable."""
    from omegaconf import OmegaConf

    tree = OmegaConf.from_dotlist([text])
    if _ENVIRONMENT in text:
        OmegaConf.resolve(tree)
    return tree


def _walk(tree: object) -> Iterator[tuple[object, int]]:
    """Walk all parts of a tree or YAML node with their depth; shared parts are repeated."""
    waiting = [(tree, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        value = getattr(value, "value", value)
        if isinstance(value, Mapping):
            waiting += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += [(part, depth + 1) for part in value]
