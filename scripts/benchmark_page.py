"""Writes the tables of `docs/benchmarks.md` from `benchmarks/results/*.json`; `--check` compares.

What stands before and after the two marks is written by hand.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from bench import GROUPS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
COLUMNS = ("what", "here", "peer", "its figure", "ratio", "wanted")
KEY_TITLE = "The figures people ask for"

Record = dict[str, Any]


def page(text: str, records: list[Record]) -> str:
    """The page with the tables of these records between its marks.

    Raises:
        ValueError: if a mark does not occur exactly once, or a record is of no listed benchmark.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{PAGE.name} must hold {BEGIN} and {END} once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    machines = {machine(record) for record in records}
    tells_machine = len(machines) > 1
    parts = [key_table(records)]
    if not tells_machine:
        parts.append(f"All of it was measured on: {machines.pop()}.")
    if missing := not_measured(records):
        parts.append(f"Not measured yet: {', '.join(f'`{command}`' for command in missing)}.")
    parts += [group(name, records, tells_machine) for name in GROUPS]
    tables = "\n\n".join(part for part in parts if part)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def not_measured(records: list[Record]) -> list[str]:
    """Commands of `make bench` without a record; how many rounds one had does not matter."""
    done = {re.sub(r" --rounds \d+", "", record["command"]) for record in records}
    listed = [f"benchmarks/{command}" for commands in GROUPS.values() for command in commands]
    return [command for command in listed if command not in done]


def key_table(records: list[Record]) -> str:
    """The promised figures of all records, each with a link to its own table."""
    rows = [
        line(record, row, f"[{row['key']}](#{anchor(record['title'])})")
        for name in GROUPS
        for record in of_group(name, records)
        for row in record["rows"]
        if "key" in row
    ]
    return "\n".join((f"## {KEY_TITLE}\n", head(), *rows)) if rows else ""


def group(name: str, records: list[Record], tells_machine: bool) -> str:
    """Heading and tables of one group of benchmarks."""
    tables = [table(record, tells_machine) for record in of_group(name, records)]
    return "\n\n".join((f"## {name}", *tables)) if tables else ""


def of_group(name: str, records: list[Record]) -> list[Record]:
    """The records of a group, in the order of its benchmarks."""
    scripts = list(dict.fromkeys(command.split()[0] for command in GROUPS[name]))
    return [record for script in scripts for record in records if script_of(record) == script]


def script_of(record: Record) -> str:
    """File of a benchmark.

    Raises:
        ValueError: if no group lists it.
    """
    script: str = record["command"].split()[0].removeprefix("benchmarks/")
    if not any(command.split()[0] == script for all_ in GROUPS.values() for command in all_):
        raise ValueError(f"{script} made {record['name']}.json, but scripts/bench.py lacks it")
    return script


def table(record: Record, tells_machine: bool) -> str:
    """Heading, conditions and rows of one run."""
    rows = "\n".join(line(record, row) for row in record["rows"])
    where = f", {machine(record)}" if tells_machine else ""
    return f"### {record['title']}\n\n{conditions(record)}{where}.\n\n{head()}\n{rows}"


def conditions(record: Record) -> str:
    """How and when it was measured."""
    before, after = record["load"]
    threads = record["threads"]
    return (
        f"`{record['command']}`, {record['date']}, {threads} thread{'s' * (threads > 1)},"
        f" load {before} to {after}"
    )


def machine(record: Record) -> str:
    """Where it was measured, and with which versions."""
    found = record["machine"]
    packages = ", ".join(
        f"{name} {version}"
        for name, version in record["versions"].items()
        if version and name in ("zipsplat", "torch", "numpy", "numba")
    )
    return (
        f"{found['processor']} ({', '.join(found['features']) or 'no vector extensions known'}),"
        f" {found['cores']} cores, {found['memory_gb']} GB; Python {found['python']}, {packages}"
    )


def head() -> str:
    """The first two lines of every table."""
    return f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def line(record: Record, row: dict[str, Any], name: str = "") -> str:
    """One row of a table; a peer that was not installed has no figure."""
    unit = row["unit"]
    peer = row.get("peer", "–")
    version = record["versions"].get(peer)
    cells = (
        name or row["what"],
        f"{row['value']:g} {unit}",
        f"{peer} {version}" if version else peer,
        f"{row['peer_value']:g} {unit}" if "peer_value" in row else "–",
        f"**{row['ratio']:.3g} ×**" if "ratio" in row else "–",
        wanted(record, row),
    )
    return f"| {' | '.join(cells)} |"


def wanted(record: Record, row: dict[str, Any]) -> str:
    """What is promised, and whether it is met; a promise for other processors is not judged."""
    more = row.get("more_is_better", False)
    goals = []
    if "wanted" in row:
        goals.append((f"≥ {row['wanted']:g} ×", row.get("ratio", 0) >= row["wanted"]))
    if "limit" in row:
        is_met = row["value"] >= row["limit"] if more else row["value"] <= row["limit"]
        goals.append((f"{'≥' if more else '≤'} {row['limit']:g} {row['unit']}", is_met))
    if not goals:
        return "–"
    text = " and ".join(goal for goal, _ in goals)
    needs = row.get("needs", "")
    if not set(needs.split()) <= set(record["machine"]["features"]):
        return f"{text} where there is {needs}"
    if "wanted" in row and "ratio" not in row:
        return text
    return f"{text}: {'met' if all(is_met for _, is_met in goals) else '**missed**'}"


def anchor(title: str) -> str:
    """What links to a heading, as the hosting site and MyST make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def records() -> list[Record]:
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
