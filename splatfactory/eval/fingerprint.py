"""Digests of everything a result depends on: a result is reused only if all of them match."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import splatfactory
import zipsplat
from splatfactory.config import to_dict
from splatfactory.datasets.multiview import MultiviewDataset
from splatfactory.datasets.store import ShardStore
from splatfactory.eval.benchmarks import Evaluation

IRRELEVANT = {
    "data": {"num_workers", "prefetch_factor", "batch_size", "val_batch_size", "val_scenes"},
    "eval": {"save_images", "save_gaussians", "num_worst", "index"},
}
"""Options that do not affect the scores."""


def fingerprint(evaluation: Evaluation, weights: str, dataset: MultiviewDataset) -> dict[str, str]:
    """Digests of settings, weights, index, data and code.

    Args:
        evaluation: the evaluation.
        weights: digest of the weights.
        dataset: the scenes.
    """
    return {
        "settings": digest_of(_settings(evaluation)),
        "weights": weights,
        "index": digest_of(json.loads(evaluation.index.read_text(encoding="utf-8"))),
        "data": _data_digest(dataset),
        "code": code_digest(),
    }


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Names of the digests that differ."""
    return [part for part in sorted({*first, *second}) if first.get(part) != second.get(part)]


def digest_of(value: Any) -> str:
    """SHA-256 of plain data, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_tensors(tensors: Mapping[str, Any]) -> str:
    """SHA-256 of named tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        array = tensors[name].detach().cpu().contiguous().flatten()
        digest.update(array.view(array.dtype).numpy().tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 of the source files of both packages."""
    roots = [Path(str(package.__file__)).parent for package in (zipsplat, splatfactory)]
    return _files_digest((root, path) for root in roots for path in sorted(root.rglob("*.py")))


def _settings(evaluation: Evaluation) -> dict[str, Any]:
    tree = to_dict(evaluation.config)
    kept = {key: tree[key] for key in ("model", "data", "eval")}
    for section, names in IRRELEVANT.items():
        kept[section] = {key: value for key, value in kept[section].items() if key not in names}
    kept["model"] = {key: value for key, value in kept["model"].items() if key != "weights"}
    return {**kept, "max_samples": tree["max_samples"]}


def _data_digest(dataset: MultiviewDataset) -> str:
    """Digest of the scenes' names and of the shards' names and sizes."""
    keys = [dataset.key(index) for index in range(len(dataset))]
    shards: list[tuple[str, int]] = []
    if isinstance(dataset.store, ShardStore):
        shards = dataset.store.shard_sizes
    return digest_of([dataset.name, keys, shards])


def _files_digest(files: Iterable[tuple[Path, Path]]) -> str:
    digest = hashlib.sha256()
    for root, path in files:
        digest.update(path.relative_to(root.parent).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
