"""A result folder: one file per finished scene, the summary and tables at the end."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from splatfactory.config import ConfigError
from splatfactory.eval.fingerprint import differences
from splatfactory.eval.scoring import METRICS, SceneScores, ViewScores
from zipsplat.files import put_aside, write_text

FINGERPRINT, SUMMARY, CONFIG = "fingerprint.json", "results.json", "conf.yaml"
SCENES, TABLE, EVERYTHING = "scenes", "scenes.csv", "scenes.json"
CONFIDENCE = 1.96
"""Half width of a 95 % confidence interval of a normal distribution, in standard errors."""


def open_results(
    folder: Path, fingerprint: Mapping[str, str], *, overwrite: bool, overwrite_eval: bool
) -> None:
    """Create a result folder, or continue one with the same fingerprint.

    Raises:
        ConfigError: if it holds results with another fingerprint that may not be replaced.
    """
    path = folder / FINGERPRINT
    if path.is_file():
        changed = differences(json.loads(path.read_text(encoding="utf-8")), fingerprint)
        only_settings = set(changed) <= {"settings", "code"}
        if changed and not overwrite and not (overwrite_eval and only_settings):
            raise ConfigError(
                f"{folder} holds results with different {' and '.join(changed)}; add "
                "--overwrite to evaluate again (the old folder is kept as <name>.old-1, …), "
                "or --tag NAME"
            )
        if changed or overwrite or overwrite_eval:
            put_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(dict(fingerprint), indent=1))


def scene_path(folder: Path, name: str) -> Path:
    """File with the scores of a scene."""
    return folder / SCENES / f"{name}.json"


def sheet_path(name: str) -> Path:
    """File with the images of a scene, relative to the result folder."""
    return Path("images") / f"{name}.png"


def write_scene(folder: Path, scores: SceneScores) -> None:
    """Save the scores of one scene; a killed run resumes after it."""
    text = json.dumps(_finite(dataclasses.asdict(scores)))
    write_text(scene_path(folder, scores.name), text)


def read_scene(folder: Path, name: str) -> SceneScores | None:
    """Scores of a scene, or None if it is not finished."""
    path = scene_path(folder, name)
    if not path.is_file():
        return None
    tree = json.loads(path.read_text(encoding="utf-8"))
    for part in ("views", "context"):
        tree[part] = [ViewScores(**_restored(view)) for view in tree[part]]
    return SceneScores(**tree)


def summarise(scenes: Sequence[SceneScores]) -> dict[str, Any]:
    """Means over scenes of per-scene means over targets, not rounded.

    Besides the protocol's numbers: those without targets that the model saw as context, and
    those at the given poses. `ci95` is the half width of the 95 % confidence interval.
    """
    summary: dict[str, Any] = {"scenes": len(scenes)}
    kinds = {
        "target": [scene.views for scene in scenes],
        "target_leak_free": [[v for v in s.views if not v.is_context] for s in scenes],
        "context": [scene.context for scene in scenes],
    }
    for kind, groups in kinds.items():
        summary |= _means(kind, groups, "aligned")
    summary |= _means("target_unaligned", kinds["target"], "unaligned")
    summary |= _means("target_refined", kinds["target"], "refined")
    summary["leaked_targets"] = sum(view.is_context for s in scenes for view in s.views)
    for key in ("total_gaussians", "activated_gaussians", "memory_gib"):
        summary[key] = _mean([float(getattr(scene, key)) for scene in scenes])
    for part in ("predict", "align", "render", "refine"):
        values = [scene.seconds[part] for scene in scenes if part in scene.seconds]
        if values:
            summary[f"seconds_{part}"] = _mean(values)
    return summary | _by_overlap(scenes)


def overlap_class(overlap: float) -> str:
    """Overlap class: small from 0.05, medium above 0.3, large above 0.55 up to 0.8."""
    if not 0.05 <= overlap <= 0.8:
        return "ignore"
    return "small" if overlap <= 0.3 else "medium" if overlap <= 0.55 else "large"


def write_tables(folder: Path, scenes: Sequence[SceneScores], summary: Mapping[str, Any]) -> None:
    """Write `results.json`, `scenes.json` and `scenes.csv`."""
    write_text(folder / SUMMARY, json.dumps(_finite(dict(summary)), indent=1))
    everything = [_finite(dataclasses.asdict(scene)) for scene in scenes]
    write_text(folder / EVERYTHING, json.dumps(everything, indent=1))
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    has_refined = any(view.refined for scene in scenes for view in scene.views)
    kinds = ("aligned", "unaligned", *(["refined"] if has_refined else []))
    columns = [f"{kind}_{metric}" for kind in kinds for metric in METRICS]
    writer.writerow(["scene", *columns, "total_gaussians", "activated_gaussians", "leaked_targets"])
    for scene in scenes:
        values = [scene_mean(scene.views, metric, kind) for kind in kinds for metric in METRICS]
        leaked = sum(view.is_context for view in scene.views)
        counts = [scene.total_gaussians, scene.activated_gaussians, leaked]
        writer.writerow([scene.name, *("" if v is None else v for v in values), *counts])
    write_text(folder / TABLE, buffer.getvalue())


def scene_mean(views: Iterable[ViewScores], metric: str, kind: str = "aligned") -> float | None:
    """Mean of a metric over views; None if it was not measured."""
    values = [getattr(view, kind)[metric] for view in views if metric in getattr(view, kind)]
    return _mean(values) if values else None


def _means(kind: str, groups: Sequence[Sequence[ViewScores]], which: str) -> dict[str, float]:
    numbers = {}
    for metric in METRICS:
        means = [scene_mean(views, metric, which) for views in groups]
        values = [value for value in means if value is not None and not math.isnan(value)]
        if values:
            numbers[f"{kind}_{metric}"] = _mean(values)
            numbers[f"{kind}_{metric}_ci95"] = _half_width(values)
    return numbers


def _by_overlap(scenes: Sequence[SceneScores]) -> dict[str, float]:
    """Means by overlap class, if the index has overlaps."""
    numbers: dict[str, float] = {}
    classes = {overlap_class(scene.overlap) for scene in scenes if scene.overlap >= 0}
    for kind in sorted(classes):
        members = [s.views for s in scenes if s.overlap >= 0 and overlap_class(s.overlap) == kind]
        means = _means(f"target_{kind}_overlap", members, "aligned")
        numbers |= {key: value for key, value in means.items() if not key.endswith("ci95")}
    return numbers


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _half_width(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = _mean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return CONFIDENCE * math.sqrt(variance / len(values))


def _finite(value: Any) -> Any:
    """Plain data that JSON can hold; infinities and NaN become strings."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _restored(view: Mapping[str, Any]) -> dict[str, Any]:
    scores = {
        kind: {key: float(value) for key, value in view.get(kind, {}).items()}
        for kind in ("aligned", "unaligned", "refined")
    }
    return {**view, **scores}
