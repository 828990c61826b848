"""What a cached kernel depends on: its file, all that it imports of this package, the mode."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[2]
# Whether addresses are checked; read once, so that all kernels of a process agree.
DEBUG = os.environ.get("ZIPSPLAT_KERNEL_DEBUG", "") not in ("", "0")
_COMPILER = Path(__file__).with_name("compiler.py")


def import_pattern(package: str) -> re.Pattern[str]:
    """Matches the one form that all imports of this package have."""
    return re.compile(rf"^from ({package}[\w.]*) import (\([^)]*\)|[^\n(#]*)", re.MULTILINE)


_IMPORT = import_pattern(PACKAGE.name)


@functools.lru_cache(maxsize=64)
def sources_digest(*paths: Path) -> str:
    """Digest of some files and of all files of this package that they import, recursively.

    A change to anything that a kernel calls changes its digest, since its file has to import it;
    editing one stage leaves the other stages' kernels valid. Kernels that check addresses have
    digests of their own.
    """
    digest = hashlib.sha256(b"debug" if DEBUG else b"")
    for path in sorted(files_of(*paths)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def code_digest(*paths: Path) -> str:
    """Digest of the same files without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for path in sorted(files_of(*paths)):
        digest.update(_code_of(path))
    return digest.hexdigest()


@functools.cache
def _code_of(path: Path) -> bytes:
    """The tokens of a file, but for comments and strings that are whole lines."""
    lines: list[list[str]] = [[]]
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NEWLINE:
            lines.append([])
        elif token.type in (tokenize.INDENT, tokenize.DEDENT):
            lines[-1:] = [["in" if token.type == tokenize.INDENT else "out"], []]
        elif token.type not in (tokenize.COMMENT, tokenize.NL):
            lines[-1].append(token.string)
    code = ["".join(line) for line in lines if not _is_docstring(line)]
    return "\n".join(code).encode()


def _is_docstring(line: list[str]) -> bool:
    return len(line) == 1 and line[0].startswith(('"', "'", 'r"'))


def files_of(*paths: Path) -> set[Path]:
    """Some files, and all of this package that they import, directly or not."""
    found: set[Path] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path)
    return found


@functools.cache
def _imported(path: Path) -> list[Path]:
    """The files of this package that a file imports."""
    if path == _COMPILER:  # its options matter, not how it finds the cache
        return []
    found = []
    for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
        for name in re.findall(r"\w+", names):
            file = _file_of(f"{module}.{name}") or _file_of(module)
            if file is not None:
                found.append(file)
    return found


def _file_of(module: str) -> Path | None:
    """Where a module of this package is defined; None if there is none of that name."""
    base = PACKAGE.joinpath(*module.split(".")[1:])
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None
