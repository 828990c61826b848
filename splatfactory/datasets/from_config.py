"""Builds the loaders of training and validation from the `data` section."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from splatfactory import paths
from splatfactory.data_schema import ChildConfig, DataConfig, SampleConfig
from splatfactory.datasets import samplers
from splatfactory.datasets.generated import GeneratedStore
from splatfactory.datasets.loader import SceneLoader
from splatfactory.datasets.mixture import Member
from splatfactory.datasets.multiview import MultiviewDataset, held_out
from splatfactory.datasets.remote_files import is_remote
from splatfactory.datasets.samplers import Split
from splatfactory.datasets.store import SceneStore, ShardStore


@dataclass(frozen=True)
class _Part:
    """One data set of a configuration."""

    name: str
    weight: float
    store: SceneStore
    view_sampler: Mapping[str, Any]
    config: SampleConfig


def training_loader(
    config: DataConfig, rank: int = 0, world_size: int = 1, *, pin_memory: bool = False
) -> SceneLoader:
    """Training batches, without the scenes held out for validation.

    Raises:
        ValueError: if an option does not match the data.
        FileNotFoundError: if the configured folder has no shards.
    """
    members = [
        Member(_dataset(part, Split.TRAIN, without=_held_out(part, config)), part.weight)
        for part in _parts(config, Split.TRAIN)
    ]
    return SceneLoader(members, config, rank, world_size, pin_memory=pin_memory)


def validation_loader(config: DataConfig, rank: int = 0, world_size: int = 1) -> SceneLoader | None:
    """Batches of the held-out training scenes, identical in every pass; None if there are none."""
    members = []
    for part in _parts(config, Split.TRAIN):
        keys = _held_out(part, config)
        if keys:
            members.append(Member(_dataset(part, Split.VAL, only=keys), part.weight))
    if not members:
        return None
    options = dataclasses.replace(
        config, batch_size=config.val_batch_size * world_size, num_workers=0, max_samples=None
    )
    return SceneLoader(members, options, rank, world_size, shuffle=False)


def evaluation_dataset(config: DataConfig, view_sampler: Mapping[str, Any]) -> MultiviewDataset:
    """The test scenes listed by a view sampler with a fixed index.

    Raises:
        ValueError: if one of them cannot be used, or the configuration names several data sets.
    """
    parts = _parts(config, Split.TEST)
    if len(parts) != 1:
        raise ValueError(f"evaluation takes one data set, data.childs names {len(parts)}")
    return _dataset(dataclasses.replace(parts[0], view_sampler=view_sampler), Split.TEST)


def _dataset(
    part: _Part, split: Split, only: Collection[str] | None = None, without: Collection[str] = ()
) -> MultiviewDataset:
    sampler = samplers.build(part.view_sampler)
    return MultiviewDataset(part.name, part.store, sampler, part.config, split, only, without)


def _parts(config: DataConfig, split: Split) -> list[_Part]:
    if config.childs:
        return [_child(name, child, config, split) for name, child in config.childs.items()]
    if config.name == "composed":
        raise ValueError("data.name=composed needs data sets under data.childs")
    return [
        _Part(
            config.name.removeprefix("dataset_"),
            1.0,
            _store(
                config, config.dataset_dir, config.train_shard_dir, config.test_shard_dir, split
            ),
            config.view_sampler,
            config,
        )
    ]


def _child(name: str, child: ChildConfig, config: DataConfig, split: Split) -> _Part:
    return _Part(
        child.dataset_name or name,
        child.weight,
        _store(config, child.dataset_dir, child.train_shard_dir, child.test_shard_dir, split),
        child.view_sampler,
        dataclasses.replace(
            config,
            preprocessing=child.preprocessing or config.preprocessing,
            augmentations=child.augmentations or config.augmentations,
        ),
    )


def _store(
    config: DataConfig, directory: str, train_dir: str, test_dir: str, split: Split
) -> SceneStore:
    if not directory and config.name == "synthetic":
        options = config.synthetic
        height, width = options.size
        kind = "test" if split is Split.TEST else "train"
        return GeneratedStore(
            kind, options.num_scenes, options.num_views, (height, width), options.seed
        )
    if not directory:
        raise ValueError(
            f"data.dataset_dir of {config.name} is empty; set it to the converted folder"
        )
    part = test_dir if split is Split.TEST else train_dir
    if is_remote(directory):
        return ShardStore(f"{directory.rstrip('/')}/{part}", show_progress=True)
    return ShardStore(paths.resolve(directory) / part, show_progress=True)


def _held_out(part: _Part, config: DataConfig) -> frozenset[str]:
    """Keys of one data set's validation scenes; each data set holds out equally many."""
    count = -(-config.val_scenes // max(1, len(config.childs)))
    return held_out([info.key for info in part.store.scenes], count)
