"""`python -m splatfactory.eval.compare A B … [-o PAGE]`: compare results side by side.

With `-o`, also writes a page with the images of the scenes that changed most.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from splatfactory.eval import results
from splatfactory.eval.compare_page import SceneImages, scene_figures
from splatfactory.eval.fingerprint import differences
from splatfactory.eval.report import Table, markdown_table, number
from splatfactory.eval.results import scene_mean, sheet_path
from splatfactory.eval.scoring import METRICS, SceneScores
from splatfactory.paths import outputs_root
from splatfactory.visualization import pages
from zipsplat.files import write_text
from zipsplat.terminal import EXPECTED_ERRORS, error_line

ROWS = ("target", "target_leak_free", "target_unaligned")
SHOWN_SCENES = 5


@dataclass(frozen=True)
class Result:
    """One result folder."""

    name: str
    folder: Path
    summary: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    scenes: Mapping[str, SceneScores]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m splatfactory.eval.compare")
    parser.description = "Compare two or more results of the same benchmark."
    parser.add_argument("folders", nargs="+", type=Path, help="folders below outputs/results/")
    parser.add_argument("-o", "--output", type=Path, help="also write a page with images (.html)")
    options = parser.parse_args(argv)
    if len(options.folders) < 2:
        parser.error("two or more result folders are needed")
    if options.output is not None and options.output.suffix != ".html":
        parser.error(f"the page must end in .html, got {options.output}")
    try:
        found = [read(folder) for folder in options.folders]
        text = compare(found)
        if options.output is not None:
            write_text(options.output, page(found))
            text += f"\npage: {options.output}\n"
    except EXPECTED_ERRORS as error:
        sys.stderr.write(f"error: {error_line(error)}\n")
        return 1
    sys.stdout.write(text)
    return 0


def read(folder: Path) -> Result:
    """Read a result folder, given as a path or relative to outputs/results.

    Raises:
        ValueError: if it does not hold a finished result.
    """
    for place in (folder, outputs_root() / "results" / folder):
        if (place / results.SUMMARY).is_file():
            break
    else:
        raise ValueError(f"{folder} holds no finished result ({results.SUMMARY} is missing)")
    names = sorted(path.stem for path in (place / results.SCENES).glob("*.json"))
    scenes = {name: results.read_scene(place, name) for name in names}
    return Result(
        name=str(folder),
        folder=place,
        summary=json.loads((place / results.SUMMARY).read_text(encoding="utf-8")),
        fingerprint=json.loads((place / results.FINGERPRINT).read_text(encoding="utf-8")),
        scenes={name: scores for name, scores in scenes.items() if scores is not None},
    )


def compare(found: Sequence[Result]) -> str:
    """Format the comparison as Markdown: means, paired differences, scenes that changed most."""
    parts = [markdown_table(_means(found))]
    for pair in _pairs(found):
        parts.append(f"## {pair.title}")
        parts += [*pair.notes, *(markdown_table(table) for table in pair.tables)]
    return "\n\n".join(parts) + "\n"


def page(found: Sequence[Result]) -> str:
    """Format the comparison as a self-contained page, with images of the most changed scenes."""
    body = [pages.table(_means(found))]
    shown: dict[str, str] = {}
    for pair in _pairs(found):
        notes = "".join(f"<p>{escape(note)}</p>" for note in pair.notes)
        body.append(pages.section(pair.title, notes, *map(pages.table, pair.tables)))
        for name, change in pair.extremes:
            shown[name] = f"{shown.get(name, name)}, {change:+.2f} dB in {pair.other.name}"
    figures = [
        scene_figures(SceneImages(title, [(r.name, r.folder / sheet_path(name)) for r in found]))
        for name, title in shown.items()
    ]
    if any(figures):
        body.append(pages.section("Scenes that changed most", *figures))
    else:
        body.append("<p>No images: eval.save_images was off.</p>")
    return pages.page(" and ".join(result.name for result in found), body)


@dataclass(frozen=True)
class _Pair:
    """A result against the first one: differing settings, tables, PSNR changes of some scenes."""

    title: str
    other: Result
    notes: Sequence[str]
    tables: Sequence[Table]
    extremes: Sequence[tuple[str, float]]


def _pairs(found: Sequence[Result]) -> list[_Pair]:
    first, *others = found
    pairs = []
    for other in others:
        changed = differences(first.fingerprint, other.fingerprint)
        notes = [f"They differ in: {', '.join(changed) or 'nothing'}."]
        shared = sorted(set(first.scenes) & set(other.scenes))
        alone = len(first.scenes) + len(other.scenes) - 2 * len(shared)
        if alone:
            notes.append(f"{alone} scenes are in only one of them and are left out below.")
        extremes = _extremes(first, other, shared)
        rows = [["Scene", "PSNR change"], *([name, f"{value:+.2f}"] for name, value in extremes)]
        tables = [_paired(first, other, shared), rows] if shared else []
        pairs.append(_Pair(f"{other.name} against {first.name}", other, notes, tables, extremes))
    return pairs


def _means(found: Sequence[Result]) -> Table:
    table = [["Result", "Views", *(metric.upper() for metric in METRICS), "Gaussians"]]
    for result in found:
        for kind in ROWS:
            if f"{kind}_psnr" in result.summary:
                cells = [number(result.summary.get(f"{kind}_{m}"), m) for m in METRICS]
                count = f"{float(result.summary['total_gaussians']):.0f}"
                table.append([result.name, kind, *cells, count])
    return table


def _paired(first: Result, other: Result, shared: Sequence[str]) -> Table:
    """Mean change per scene with its 95 % interval."""
    table = [["Change", "Mean", "± 95 %", "better in"]]
    for metric in METRICS:
        changes = _changes(first, other, shared, metric)
        if not changes:
            continue
        mean = math.fsum(changes) / len(changes)
        spread = math.fsum((change - mean) ** 2 for change in changes) / max(1, len(changes) - 1)
        margin = results.CONFIDENCE * math.sqrt(spread / len(changes))
        sign = -1 if metric == "lpips" else 1
        better = sum(sign * change > 0 for change in changes)
        table.append([metric.upper(), f"{mean:+.3f}", f"{margin:.3f}", f"{better}/{len(changes)}"])
    return table


def _extremes(first: Result, other: Result, shared: Sequence[str]) -> list[tuple[str, float]]:
    """Scenes with the largest drops and gains in PSNR, in ascending order of the change."""
    changes = _changes(first, other, shared, "psnr")
    ranked = sorted(zip(changes, shared, strict=True))
    if len(ranked) > 2 * SHOWN_SCENES:
        ranked = ranked[:SHOWN_SCENES] + ranked[-SHOWN_SCENES:]
    return [(name, change) for change, name in ranked]


def _changes(first: Result, other: Result, shared: Sequence[str], metric: str) -> list[float]:
    changes = []
    for name in shared:
        before = scene_mean(first.scenes[name].views, metric)
        after = scene_mean(other.scenes[name].views, metric)
        if before is not None and after is not None:
            changes.append(after - before)
    return changes


if __name__ == "__main__":
    sys.exit(main())
