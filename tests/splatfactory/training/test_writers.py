"""Writers: curves only move forward, and unmeasured values are not written."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from splatfactory.datasets.loader import SceneLoader
from splatfactory.training import trainer
from tests.splatfactory.conftest import Train

OUTPUTS = Path("outputs/training")


def lines_of(name: str) -> list[dict]:
    text = (OUTPUTS / name / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_curves_of_a_resumed_run_do_not_go_back(run_training: Train):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    common = ("train.writer=tensorboard", "train.log_every_iter=1", "train.num_steps=6")
    assert run_training("a", *common) == 0
    for path in (OUTPUTS / "a").glob("checkpoint_*"):  # as if killed between steps 3 and 6
        if "00000003" not in path.name:
            path.unlink()
    assert run_training("a", "--restore", "train.num_steps=5") == 0
    events = accumulator.EventAccumulator(str(OUTPUTS / "a"))
    events.Reload()
    steps = [event.step for event in events.Scalars("training/loss/total")]
    assert steps == [1, 2, 3, 4, 5]


def test_what_is_not_measured_is_not_logged(run_training: Train):
    assert run_training("a", "train.num_steps=2", "train.eval_every_iter=2") == 0
    keys = {key for line in lines_of("a") for key in line}
    assert {"training/psnr", "training/loss/mse_loss", "eval/psnr", "eval/loss/total"} <= keys
    assert not any("lpips" in key for key in keys)


def test_a_bad_gradient_has_one_step_number(run_training: Train, monkeypatch, capsys):
    norms = iter([1.0, float("nan"), 1.0])
    monkeypatch.setattr(trainer, "gradient_norm", lambda _: torch.tensor(next(norms)))
    assert run_training("a", "train.num_steps=3", "train.log_every_iter=1") == 0
    assert "step 2: the gradient is not finite" in capsys.readouterr().err
    counts = {
        line["step"]: line["training/nonfinite_steps"]
        for line in lines_of("a")
        if "training/nonfinite_steps" in line
    }
    assert counts == {1: 0, 2: 1, 3: 1}


def test_a_killed_data_worker_is_one_line_with_advice(run_training: Train, monkeypatch, capsys):
    count = SceneLoader._count

    def kill_workers(self: SceneLoader, loaded: object) -> None:
        count(self, loaded)
        for worker in self._loader._iterator._workers:
            os.kill(worker.pid, signal.SIGKILL)

    monkeypatch.setattr(SceneLoader, "_count", kill_workers)
    assert run_training("a", "data.num_workers=1", "data.prefetch_factor=1") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: a data worker died")
    assert "data.num_workers" in lines[-1]
    assert not any("Traceback" in line for line in lines)
    shutil.rmtree(OUTPUTS / "a")
