"""Copies the facts of `owner.toml` into the files that must state them; `--check` only compares."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# File, key of `owner.toml`, and a pattern whose second group is the fact.
COPIES = (
    ("pyproject.toml", "repository", r'^(Repository = ")(.*)(")$'),
    ("splatfactory/pyproject.toml", "repository", r'^(Repository = ")(.*)(")$'),
    ("splatscenes/pyproject.toml", "repository", r'^(Repository = ")(.*)(")$'),
    ("CITATION.cff", "repository", r'^(repository-code: ")(.*)(")$'),
    ("CODE_OF_CONDUCT.md", "contact", r"(Write to <)([^>]*)(>)"),
    ("SECURITY.md", "contact", r"(write to <)([^>]*)(>)"),
)


def facts() -> dict[str, str]:
    """The values of `owner.toml`."""
    text = (ROOT / "owner.toml").read_text(encoding="utf-8")
    return dict(re.findall(r'^(\w+) = "(.*)"$', text, flags=re.MULTILINE))


def updated(text: str, pattern: str, value: str) -> str:
    """`text` with the fact set to `value`.

    Raises:
        ValueError: if the pattern does not occur exactly once.
    """
    new, count = re.subn(pattern, rf"\g<1>{value}\g<3>", text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"expected {pattern} once, found it {count} times")
    return new


def main() -> int:
    """Copy or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    check = parser.parse_args().check
    stale = []
    for name, key, pattern in COPIES:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = updated(text, pattern, facts()[key])
        if new != text:
            stale.append(name)
            if not check:
                path.write_text(new, encoding="utf-8")
    if stale:
        done = "differ from owner.toml; run `make owner`" if check else "updated"
        print(f"{', '.join(stale)}: {done}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
