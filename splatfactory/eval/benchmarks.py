"""Benchmarks as data, and the configuration of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatfactory.config import (
    CONFIG_DIR,
    Config,
    ConfigError,
    compose,
    merge,
    nearest,
    read_yaml,
    split_overrides,
)
from splatfactory.datasets.samplers.eval_sampler import load_index
from splatfactory.paths import resolve
from splatfactory.published_indices import PUBLISHED, published_index

FOLDER = CONFIG_DIR / "eval"
KEYS = ("data", "index", "index_set", "published")
USED = ("model", "data", "eval")
"""Sections of a `--conf` that an evaluation reads."""


@dataclass(frozen=True)
class Benchmark:
    """One protocol on one data set; `configs/eval/<name>.yaml`, or a YAML file of your own.

    Attributes:
        name: stem of the file.
        data: data options it overrides.
        index_set: name of its set of published indices, or None.
        index: an index file of its own, or None.
        published: method → context views → (PSNR, SSIM, LPIPS).
    """

    name: str
    data: Mapping[str, Any]
    index_set: str | None
    published: Mapping[str, Mapping[int, tuple[float, ...]]]
    index: Path | None = None

    @property
    def view_counts(self) -> list[int]:
        """Numbers of context views with a published index, ascending."""
        return sorted(views for name, views in PUBLISHED if name == self.index_set)


@dataclass(frozen=True)
class Evaluation:
    """One run of one benchmark.

    Attributes:
        benchmark: the benchmark.
        config: its configuration.
        index: file with the context and target frames of each scene.
        label: name of the result folder: view count or index name, and priors.
    """

    benchmark: Benchmark
    config: Config
    index: Path
    label: str


def names() -> list[str]:
    """Names of the shipped benchmarks."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_benchmark(name: str) -> Benchmark:
    """Read a benchmark.

    Args:
        name: a shipped benchmark, or a YAML file with the keys `data`, `index` (a file beside it)
            or `index_set`, and `published`.

    Raises:
        ConfigError: if it does not exist (the message suggests the nearest name) or has unknown
            keys.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no benchmark {name!r}; choose from {', '.join(names())}, or name a YAML file"
            + nearest(name, names())
        )
    tree = read_yaml(path)
    for key in tree:
        if key not in KEYS:
            raise ConfigError(
                f"{path}: unknown key {key}; known: {', '.join(KEYS)}{nearest(key, KEYS)}"
            )
    index = tree.get("index")
    return Benchmark(
        name=path.stem,
        data=tree.get("data") or {},
        index_set=tree.get("index_set"),
        index=None if index is None else path.parent / index,
        published={
            str(method): {int(views): tuple(scores) for views, scores in rows.items()}
            for method, rows in (tree.get("published") or {}).items()
        },
    )


def configure(
    benchmark: Benchmark,
    conf: str | None,
    model: Mapping[str, Any] | None,
    overrides: Sequence[str],
) -> Evaluation:
    """Configure an evaluation.

    Args:
        benchmark: the benchmark to run.
        conf: name of a shipped configuration, a file, or None.
        model: model section of a training run, or None.
        overrides: `key=value` strings. They take precedence over `conf`, which does over `model`.

    Raises:
        ConfigError: if options are invalid or the index does not exist.
    """
    groups, values = split_overrides(overrides)
    if groups and conf is None:
        raise ConfigError(f"{groups[0]} changes a configuration; name it with --conf")
    layers: list[Mapping[str, Any]] = [{"data": {"name": benchmark.name, **benchmark.data}}]
    if model is not None:
        layers.append({"model": dict(model)})
    if conf is not None:
        tree = compose(conf, groups)
        layers.append({key: value for key, value in tree.items() if key in USED})
    config = merge(layers, values)
    index, label = _index(benchmark, config)
    if config.model.eval_use_priors:
        label += "_priors"
    return Evaluation(benchmark, config, index, label)


def _index(benchmark: Benchmark, config: Config) -> tuple[Path, str]:
    """The index file, and the label of its results."""
    path = benchmark.index if config.eval.index is None else resolve(config.eval.index)
    if path is not None:
        if not path.is_file():
            raise ConfigError(f"index {path} does not exist")
        _check_views(path, config.eval.num_views)
        return path, path.stem
    if benchmark.index_set is None:
        raise ConfigError(f"{benchmark.name} needs eval.index=<file> and data.dataset_dir=<folder>")
    known = benchmark.view_counts
    views = config.eval.num_views or known[0]
    if views not in known:
        choices = ", ".join(str(number) for number in known)
        raise ConfigError(f"{benchmark.name} has eval.num_views {choices}, got {views}")
    return published_index(benchmark.index_set, views), f"{views}v"


def _check_views(index: Path, num_views: int | None) -> None:
    """Reject a number of context views that a custom index does not have."""
    found = {len(choice.context) for choice in load_index(index).values()}
    if num_views is not None and found != {num_views}:
        counts = " or ".join(str(count) for count in sorted(found))
        raise ConfigError(
            f"eval.num_views={num_views} cannot apply: {index} has {counts} context views per "
            "scene; leave the option out, or make another index"
        )
