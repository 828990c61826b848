"""Options that look into a run: profile, memory, medians."""

from __future__ import annotations

import gzip
import json
import statistics
from pathlib import Path

import pytest
import torch

from splatfactory.runtime.distributed import World
from splatfactory.training import validation
from splatfactory.training.diagnostics import StepTrace, memory_record
from splatfactory.training.objective import Objective
from tests.splatfactory.conftest import Train

CPU = World(0, 1, 0, torch.device("cpu"))
TRACE = "profile_rank0.pt.trace.json.gz"


def work(trace: StepTrace, num_steps: int) -> None:
    """Steps that are told apart by the size of what they multiply."""
    with trace:
        for step in range(num_steps):
            with torch.profiler.record_function(f"work {step}"):
                torch.ones(4).sum()
            trace.step()


def traced(folder: Path) -> list[str]:
    with gzip.open(folder / TRACE, "rt") as file:
        events = json.load(file)["traceEvents"]
    return sorted({e["name"] for e in events if str(e.get("name")).startswith("work")})


def test_a_trace_has_the_requested_steps_after_the_third(tmp_path: Path):
    work(StepTrace(2, CPU, tmp_path), 7)
    assert traced(tmp_path) == ["work 3", "work 4"]
    assert [path.name for path in tmp_path.iterdir()] == [TRACE]


def test_a_run_that_ends_early_leaves_what_was_traced(tmp_path: Path):
    work(StepTrace(5, CPU, tmp_path), 5)
    assert traced(tmp_path) == ["work 3", "work 4"]


def test_a_run_too_short_to_trace_says_so(tmp_path: Path, caplog):
    work(StepTrace(2, CPU, tmp_path), 2)
    assert "no trace" in caplog.text
    assert not list(tmp_path.iterdir())


def test_nothing_is_traced_unasked(tmp_path: Path, caplog):
    work(StepTrace(0, CPU, tmp_path), 7)
    assert not caplog.text
    assert not list(tmp_path.iterdir())


def test_profile_and_medians_of_a_run(run_training: Train, monkeypatch):
    seen: list[float] = []
    describe = Objective.describe

    def spy(self, supervision, terms):
        numbers = describe(self, supervision, terms)
        if not torch.is_grad_enabled():  # in validation
            seen.extend(numbers["psnr"].tolist())
        return numbers

    monkeypatch.setattr(Objective, "describe", spy)
    assert run_training("a", "train.num_steps=4", "train.profile=1", "data.val_scenes=3",
                        "train.median_metrics=[psnr]") == 0  # fmt: skip
    folder = Path("outputs/training/a")
    assert (folder / TRACE).stat().st_size > 1000
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (evaluated,) = [line for line in lines if "eval/psnr" in line]
    assert len(seen) == 3
    assert evaluated["eval/psnr_median"] == pytest.approx(statistics.median(seen))
    assert evaluated["eval/psnr"] == pytest.approx(statistics.mean(seen))
    assert evaluated["eval/psnr"] != pytest.approx(evaluated["eval/psnr_median"])


def test_medians_are_over_all_processes_and_skip_what_is_absent():
    parts = [{"psnr": [1.0, 9.0]}, {"psnr": [float("nan"), 2.0]}]
    assert validation._medians(parts, {"psnr": 4.0}) == {"psnr_median": 2.0}


def test_an_unknown_median_is_one_clear_line(run_training: Train, capsys):
    assert run_training("a", "train.num_steps=1", "train.median_metrics=[psnrr]") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: train.median_metrics: psnrr")
    assert "psnr," in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests what is said without a GPU")
def test_a_memory_record_without_a_gpu_is_one_clear_line(run_training: Train, capsys):
    assert run_training("a", "train.record_memory=true") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: train.record_memory=true needs a CUDA device")
    assert not Path("outputs/training/a").exists()


@pytest.mark.cuda
def test_a_memory_snapshot_is_written_when_memory_runs_out(tmp_path: Path):
    world = World(0, 1, 0, torch.device("cuda", 0))
    with pytest.raises(torch.OutOfMemoryError), memory_record(True, world, tmp_path):
        torch.empty(2**46, dtype=torch.uint8, device=world.device)
    assert (tmp_path / "memory_snapshot_rank0.pickle").stat().st_size > 100
