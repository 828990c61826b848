"""Writes the tables of `docs/benchmarks.md` from `benchmarks/results/*.json`; `--check` compares.

What stands before and after the two marks is written by hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
HEAD = "| what | here | peer | its figure | ratio | wanted |\n|---|---|---|---|---|---|"


def page(text: str, records: list[dict[str, Any]]) -> str:
    """The page with the tables of these records between its marks.

    Raises:
        ValueError: if a mark does not occur exactly once.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{PAGE.name} must hold {BEGIN} and {END} once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    tables = "\n\n".join(table(record) for record in records)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def table(record: dict[str, Any]) -> str:
    """Heading, conditions and rows of one run."""
    rows = "\n".join(line(row) for row in record["rows"])
    return f"## {record['title']}\n\n{conditions(record)}\n\n{HEAD}\n{rows}"


def conditions(record: dict[str, Any]) -> str:
    """Where, when and how it was measured."""
    machine, threads = record["machine"], record["threads"]
    before, after = record["load"]
    packages = ", ".join(
        f"{name} {version}" for name, version in record["versions"].items() if version
    )
    return (
        f"`{record['command']}`, {record['date']}, {machine['processor']}"
        f" ({', '.join(machine['features']) or 'no vector extensions known'}),"
        f" {machine['cores']} cores, {machine['memory_gb']} GB, load {before} to {after};"
        f" {threads} thread{'s' * (threads > 1)}; Python {machine['python']}, {packages}."
    )


def line(row: dict[str, Any]) -> str:
    """One row of a table; a peer that was not installed has no figure."""
    unit = row["unit"]
    peer_value = f"{row['peer_value']:g} {unit}" if "peer_value" in row else "–"
    cells = (
        row["what"],
        f"{row['value']:g} {unit}",
        row.get("peer", "–"),
        peer_value,
        f"**{row['ratio']:.3g} ×**" if "ratio" in row else "–",
        f"≥ {row['wanted']:g} ×" if "wanted" in row else "–",
    )
    return f"| {' | '.join(cells)} |"


def records() -> list[dict[str, Any]]:
    """All committed runs, by name."""
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(RESULTS.glob("*.json"))]


def main() -> int:
    """Write or compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    check = parser.parse_args().check
    old = PAGE.read_text(encoding="utf-8")
    new = page(old, records())
    if new != old and not check:
        PAGE.write_text(new, encoding="utf-8")
    if new != old:
        print(f"{PAGE.name}: {'differs; run `make bench-page`' if check else 'updated'}")
    return int(check and new != old)


if __name__ == "__main__":
    sys.exit(main())
