"""`report.md` and `report.html`: the result beside published numbers, and scene by scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from splatfactory.eval.benchmarks import Evaluation
from splatfactory.eval.results import scene_mean, sheet_path
from splatfactory.eval.scoring import METRICS, SceneScores
from splatfactory.visualization import pages
from zipsplat.files import write_text

Table = list[list[str]]

KINDS = {
    "target": "all targets, poses aligned (the protocol)",
    "target_leak_free": "targets that are not context views, poses aligned",
    "target_unaligned": "all targets, given poses",
    "target_refined": "all targets, scene refined against the context views",
    "context": "context views, poses aligned",
}


def write(
    evaluation: Evaluation, scenes: Sequence[SceneScores], summary: Mapping[str, Any], folder: Path
) -> None:
    """Write both reports into a result folder."""
    title = f"{evaluation.benchmark.name}, {evaluation.label}"
    notes = _notes(evaluation, summary)
    tables = {
        "Result": _result_table(evaluation, summary),
        "Beside published numbers": _published_table(evaluation, summary),
        "Cost": _cost_table(summary),
        "Worst scenes": _scene_table(worst(scenes, evaluation.config.eval.num_worst)),
        "All scenes": _scene_table(scenes),
    }
    tables = {name: table for name, table in tables.items() if len(table) > 1}
    images = [sheet_path(scene.name) for scene in worst(scenes, evaluation.config.eval.num_worst)]
    images = [image for image in images if (folder / image).is_file()]
    write_text(folder / "report.md", _markdown(title, notes, tables, images))
    write_text(folder / "report.html", _html(title, notes, tables, images))


def worst(scenes: Sequence[SceneScores], count: int) -> list[SceneScores]:
    """Scenes with the lowest PSNR, worst first."""
    return sorted(scenes, key=lambda scene: (scene_mean(scene.views, "psnr") or 0.0, scene.name))[
        :count
    ]


def markdown_table(table: Table) -> str:
    """A GitHub table; the first row is the header."""
    head, *rows = table
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: Any, metric: str) -> str:
    """Format a score: two digits for decibels, three for others, – if missing."""
    if value is None:
        return "–"
    return f"{float(value):.2f}" if metric == "psnr" else f"{float(value):.3f}"


def _notes(evaluation: Evaluation, summary: Mapping[str, Any]) -> list[str]:
    options = evaluation.config.eval
    estimator = options.pose_estimator
    lpips = "LPIPS-VGG v0.1" if options.lpips == "vgg" else "off (eval.lpips=none)"
    loss = "masked L1" + (" and LPIPS" if options.lpips == "vgg" else " without LPIPS")
    steps = "the fast settings" if estimator.fast else f"{estimator.num_steps} steps at most"
    aligned = f"{steps}, {loss}" if options.align_poses else "no"
    notes = [
        f"{summary['scenes']} scenes; camera priors: "
        + ("yes" if evaluation.config.model.eval_use_priors else "no"),
        f"Pose alignment: {aligned}",
        f"LPIPS: {lpips}",
    ]
    if summary["leaked_targets"]:
        notes.append(
            f"{summary['leaked_targets']} targets are context views of their scene too; the "
            "protocol counts them, the leak-free row does not"
        )
    if options.clip_metrics:
        notes.append("Renders were clipped before SSIM and LPIPS, unlike in the published tables")
    if options.render_resize:
        notes.append(f"Aligned, rendered and scored at {options.render_resize} pixels")
    return notes


def _result_table(evaluation: Evaluation, summary: Mapping[str, Any]) -> Table:
    table = [["Views", *(metric.upper() for metric in METRICS)]]
    kinds = dict(KINDS)
    if not evaluation.config.eval.align_poses:
        kinds = {
            "target": "all targets, given poses",
            "target_leak_free": "without leaked targets",
            "target_refined": KINDS["target_refined"],
        }
    if not summary["leaked_targets"]:
        kinds.pop("target_leak_free")
    for kind, text in kinds.items():
        if f"{kind}_psnr" not in summary:
            continue
        cells = []
        for metric in METRICS:
            value = summary.get(f"{kind}_{metric}")
            margin = summary.get(f"{kind}_{metric}_ci95")
            cells.append(number(value, metric) + (f" ± {number(margin, metric)}" if margin else ""))
        table.append([text, *cells])
    return table


def _published_table(evaluation: Evaluation, summary: Mapping[str, Any]) -> Table:
    views = evaluation.config.eval.num_views or min(evaluation.benchmark.view_counts, default=0)
    table = [["Method", *(metric.upper() for metric in METRICS)]]
    rows = {
        method: scores[views]
        for method, scores in evaluation.benchmark.published.items()
        if views in scores
    }
    if rows and evaluation.config.eval.index is None:
        own = [number(summary.get(f"target_{metric}"), metric) for metric in METRICS]
        table.append(["this result", *own])
        for method, values in rows.items():
            cells = [number(v, metric) for v, metric in zip(values, METRICS, strict=True)]
            table.append([f"{method} (published)", *cells])
    return table


def _cost_table(summary: Mapping[str, Any]) -> Table:
    names = {
        "total_gaussians": ("Gaussians per scene", "{:.0f}"),
        "activated_gaussians": ("of them blended at their own centre in a target", "{:.0f}"),
        "seconds_predict": ("seconds to predict a scene", "{:.3f}"),
        "seconds_align": ("seconds to align its poses", "{:.3f}"),
        "seconds_refine": ("seconds to refine a scene", "{:.1f}"),
        "seconds_render": ("seconds to render its targets", "{:.3f}"),
        "memory_gib": ("peak memory, GiB", "{:.2f}"),
    }
    rows = [
        [text, form.format(summary[key])] for key, (text, form) in names.items() if key in summary
    ]
    return [["Mean over scenes", "Value"], *rows]


def _scene_table(scenes: Sequence[SceneScores]) -> Table:
    table = [["Scene", *(metric.upper() for metric in METRICS), "PSNR at given poses", "Gaussians"]]
    for scene in scenes:
        cells = [number(scene_mean(scene.views, metric), metric) for metric in METRICS]
        plain = number(scene_mean(scene.views, "psnr", "unaligned"), "psnr")
        table.append([scene.name, *cells, plain, str(scene.total_gaussians)])
    return table


def _markdown(
    title: str, notes: Sequence[str], tables: Mapping[str, Table], images: Sequence[Path]
) -> str:
    parts = [f"# {title}", "\n".join(f"- {note}" for note in notes)]
    parts += [f"## {name}\n\n{markdown_table(table)}" for name, table in tables.items()]
    parts += [f"![{image.stem}]({image.as_posix()})" for image in images]
    return "\n\n".join(parts) + "\n"


def _html(
    title: str, notes: Sequence[str], tables: Mapping[str, Table], images: Sequence[Path]
) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    body = [f"<ul>{items}</ul>"]
    body += [pages.section(name, pages.table(table)) for name, table in tables.items()]
    figures = [
        pages.figure(image.as_posix(), f"{image.stem}: targets, renders, errors")
        for image in images
    ]
    body.append(pages.gallery(figures))
    return pages.page(title, body)
