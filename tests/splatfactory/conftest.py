"""A very small training set-up that several tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from splatfactory import train
from tests.splatfactory.rendered_scenes import write_shards

ROOT = Path(__file__).parents[2]

CONF = """
defaults:
  - model: zipsplat
  - data: synthetic
  - train: zipsplat
  - override model/backbone: smallest
  - _self_
model:
  img_size: 28
  gaussians_per_prototype: 8
  color_skip_dim: 32
  color_heads: 1
  fuse_layer_scale: 1.0
  gaussian_head: {lpips_weight: 0.0}
data:
  name: rendered
  dataset_dir: data/rendered
  batch_size: 4
  val_scenes: 2
  num_workers: 0
  image_num_range: [2, 3]
  num_target_views: 2
  view_sampler:
    name: bounded
    min_distance_between_context_views: 1
    gap_multiplier: 3
    max_distance_between_consecutive_views: 5
  preprocessing: {resize: 28}
train:
  num_steps: 6
  lr: 1e-3
  lr_scaling: {backbone: 1.0}
  mixed_precision: float32
  renderer: reference
  log_every_iter: 2
  plot_every_iter: null
  num_eval_plots: 0
  eval_every_epoch: 0
  save_every_iter: 3
  run_benchmarks: []
  num_threads: 1
eval:
  renderer: reference
  lpips: none
  pose_estimator: {num_steps: 3}
"""


@pytest.fixture(scope="session")
def rendered_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train-scenes` and `test-scenes` of small rendered scenes."""
    return write_shards(tmp_path_factory.mktemp("data") / "rendered")


@pytest.fixture
def workplace(tmp_path: Path, rendered_shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory with the rendered scenes as `data/rendered` and `conf.yaml`."""
    (tmp_path / "conf.yaml").write_text(CONF)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLATFACTORY_DATA", str(rendered_shards.parent))
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))
    return tmp_path


Train = Callable[..., int]


@pytest.fixture
def run_training(workplace: Path) -> Train:
    """Run `splatfactory.train <name> --conf conf.yaml …` in this process."""

    def run(name: str, *arguments: str, conf: str | None = "conf.yaml") -> int:
        chosen = [] if conf is None else ["--conf", conf]
        return train.main([name, *chosen, *arguments])

    return run


def start(arguments: list[str], folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a Python module in another process."""
    import os

    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
