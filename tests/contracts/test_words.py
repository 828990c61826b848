"""The field's words: names and texts of the clean folders hold none of `private_words.txt`."""

from __future__ import annotations

import configparser
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def sections() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(allow_no_value=True, delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(Path(__file__).with_name("private_words.txt"), encoding="utf-8")
    return parser


LISTS = sections()
EXCEPTIONS = frozenset(LISTS["exceptions"])
PATH = re.compile(r"[\w./]+/[\w.]+\.\w+")


def clean_files(section: str = "clean", suffix: str = ".py") -> list[Path]:
    """Files of a section; this one quotes the words that it looks for."""
    paths = (ROOT / name for name in LISTS[section])
    files = {p for path in paths for p in ([path] if path.is_file() else path.rglob(f"*{suffix}"))}
    return sorted(files - {Path(__file__)})


def words_of(name: str) -> str:
    """`_numHits2` as "num hits 2"."""
    return " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)).lower()


def exceptions_of(path: Path) -> frozenset[str]:
    """Words that a file may use; in tests also those of their own section."""
    is_test = path.is_relative_to(ROOT / "tests")
    return EXCEPTIONS.union(LISTS["exceptions in tests"] if is_test else ())


def is_text(token: tokenize.TokenInfo) -> bool:
    kind = tokenize.tok_name[token.type]  # Python 3.12 has names of its own for parts of f-strings
    return kind in ("STRING", "COMMENT") or kind.startswith("FSTRING")


def texts_of(source: str, exceptions: frozenset[str] = EXCEPTIONS) -> Iterator[tuple[int, str]]:
    """Line and text of each name, string and comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string not in exceptions:
            yield token.start[0], words_of(token.string)
        elif is_text(token):
            yield token.start[0], " ".join(token.string.split())


def prose_of(page: str) -> Iterator[tuple[int, str]]:
    """Line and text of a Markdown page outside of code, links and quoted tags."""
    is_code = False
    for number, line in enumerate(page.split("\n"), start=1):
        is_fence = line.lstrip().startswith("```")
        is_code ^= is_fence
        if not (is_code or is_fence or line.startswith("    ")):
            yield number, re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", line)


def private_words_in(
    texts: Iterator[tuple[int, str]], exceptions: frozenset[str] = EXCEPTIONS
) -> list[str]:
    """One line for each word that should be another; paths of files are not prose."""
    return [
        f"line {line}: {match[0]!r}; say {better}"
        for line, text in texts
        for pattern, better in LISTS["words"].items()
        for match in re.finditer(rf"\b(?:{pattern})\b", PATH.sub(" ", text), re.IGNORECASE)
        if match[0].lower() not in exceptions
    ]


@pytest.mark.parametrize("path", clean_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_clean_files_speak_the_language_of_the_field(path: Path) -> None:
    exceptions = exceptions_of(path)
    texts = texts_of(path.read_text(encoding="utf-8"), exceptions)
    assert private_words_in(texts, exceptions) == []


@pytest.mark.parametrize(
    "path", clean_files("pages", ".md"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_pages_speak_it_too(path: Path) -> None:
    assert private_words_in(prose_of(path.read_text(encoding="utf-8"))) == []


FOUND = (
    "numHits = 1", "def _unblend(): ...", '"""What is no number."""', "# a picture", "HIT = 2",
    'f"{x} is no mask"',
)  # fmt: skip
NOT_FOUND = (
    "drawer = white", "# which is no longer there", '"there is no x"', "# see benchmarks/films.md",
)  # fmt: skip


@pytest.mark.parametrize("source", FOUND)
def test_private_words_are_found(source: str) -> None:
    assert private_words_in(texts_of(source + "\n"))


@pytest.mark.parametrize("source", NOT_FOUND)
def test_other_words_are_not(source: str) -> None:
    assert private_words_in(texts_of(source + "\n")) == []


def test_pages_are_read_outside_of_code() -> None:
    code = "```\nfilm = 1\n```\n    film\n`film` [text](film.md#film)\n<!-- film -->"
    page = f"A film.\n{code}\nThe film"
    assert [found[:6] for found in private_words_in(prose_of(page))] == ["line 1", "line 8"]
