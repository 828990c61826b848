"""`python -m splatfactory.eval.compare A B …`: result folders side by side, and what differs."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatfactory.eval import results
from splatfactory.eval.fingerprint import differences
from splatfactory.eval.report import Table, markdown_table, number
from splatfactory.eval.results import scene_mean
from splatfactory.eval.scoring import METRICS, SceneScores
from splatfactory.paths import outputs_root
from zipsplat.terminal import EXPECTED_ERRORS, error_line

ROWS = ("target", "target_leak_free", "target_unaligned")
SHOWN_SCENES = 5


@dataclass(frozen=True)
class Result:
    """One result folder."""

    name: str
    summary: Mapping[str, Any]
    fingerprint: Mapping[str, str]
    scenes: Mapping[str, SceneScores]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; returns the exit status."""
    parser = argparse.ArgumentParser(prog="splatfactory.eval.compare")
    parser.description = "Compare two or more results of the same benchmark."
    parser.add_argument("folders", nargs="+", type=Path, help="folders below outputs/results/")
    options = parser.parse_args(argv)
    if len(options.folders) < 2:
        parser.error("two or more result folders are needed")
    try:
        text = compare([read(folder) for folder in options.folders])
    except EXPECTED_ERRORS as error:
        sys.stderr.write(f"error: {error_line(error)}\n")
        return 1
    sys.stdout.write(text)
    return 0


def read(folder: Path) -> Result:
    """Read a result folder, given as a path or by its name below outputs/results.

    Raises:
        ValueError: If it holds no finished result.
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
        summary=json.loads((place / results.SUMMARY).read_text(encoding="utf-8")),
        fingerprint=json.loads((place / results.FINGERPRINT).read_text(encoding="utf-8")),
        scenes={name: scores for name, scores in scenes.items() if scores is not None},
    )


def compare(found: Sequence[Result]) -> str:
    """The comparison as Markdown: means, paired differences, scenes that changed most."""
    first, *others = found
    parts = [markdown_table(_means(found))]
    for other in others:
        parts.append(f"## {other.name} against {first.name}")
        changed = differences(first.fingerprint, other.fingerprint)
        parts.append(f"They differ in: {', '.join(changed) or 'nothing'}.")
        shared = sorted(set(first.scenes) & set(other.scenes))
        alone = len(first.scenes) + len(other.scenes) - 2 * len(shared)
        if alone:
            parts.append(f"{alone} scenes are in one of them only and are left out below.")
        if shared:
            parts.append(markdown_table(_paired(first, other, shared)))
            parts.append(markdown_table(_extremes(first, other, shared)))
    return "\n\n".join(parts) + "\n"


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


def _extremes(first: Result, other: Result, shared: Sequence[str]) -> Table:
    ranked = sorted(zip(_changes(first, other, shared, "psnr"), shared, strict=True))
    chosen = ranked if len(ranked) <= 2 * SHOWN_SCENES else (
        ranked[:SHOWN_SCENES] + ranked[-SHOWN_SCENES:]
    )  # fmt: skip
    return [["Scene", "PSNR change"], *([name, f"{change:+.2f}"] for change, name in chosen)]


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
