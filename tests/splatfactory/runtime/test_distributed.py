"""Several processes give what one gives; killed ones are replaced and go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from splatfactory.runtime import checkpoints
from splatfactory.runtime.distributed import World, agree_on_prefix, mean_over_scenes
from splatfactory.training import trainer
from tests.splatfactory.conftest import start
from tests.splatfactory.training import keep_gradients

SAME_WORK = (
    "model.query_sample_ratio=[1,1]", "model.prior_probability=0", "data.batch_size=8",
    "data.image_num_range=[2,2]", "train.num_steps=1", "data.val_scenes=2",
)  # fmt: skip
WORKER = "tests.splatfactory.training.keep_gradients"


def finish(process, seconds: float = 300) -> str:
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    return output


def test_two_processes_give_the_gradients_of_one(workplace: Path, run_training, monkeypatch):
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", WORKER]
    command = [*torchrun, "two", "--conf", "conf.yaml", *SAME_WORK, "--distributed"]
    process = start(command, workplace, GRADIENTS="two.pt")
    monkeypatch.setattr(trainer, "gradient_norm", keep_gradients.keep)
    monkeypatch.setenv("GRADIENTS", "one.pt")
    assert run_training("one", *SAME_WORK) == 0
    monkeypatch.setenv("GRADIENTS", "parts.pt")
    halves = ("train.gradient_accumulation_steps=2", "data.batch_size=4")
    assert run_training("parts", *SAME_WORK, *halves) == 0
    finish(process)
    one, two, parts = (
        torch.load(f"{name}.pt", weights_only=True) for name in ("one", "two", "parts")
    )
    for others in (two, parts):
        difference = torch.cat([(a - b).flatten() for a, b in zip(one, others, strict=True)])
        total = torch.cat([value.flatten() for value in one])
        assert difference.norm() <= 1e-5 * total.norm()
    # Both write one set of files, made by the main process alone.
    lines = (workplace / "outputs/training/two/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 1]


def test_a_mean_over_scenes_is_right_for_uneven_processes():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    shares = [mean_over_scenes(part, 5, 2) for part in (values[:2], values[2:])]
    assert sum(shares) / 2 == values.mean()


def test_one_process_opens_no_port_and_needs_no_group():
    world = World(0, 1, 0, torch.device("cpu"))
    assert world.sum([1.0, 2.0]) == [1.0, 2.0]
    assert world.gather("a") == ["a"]
    assert not torch.distributed.is_initialized()


def test_a_new_attempt_does_not_take_the_keys_of_the_last_one_for_its_own():
    store = torch.distributed.HashStore()
    timeout = timedelta(seconds=20)

    def attempt() -> list[str]:
        with ThreadPoolExecutor(3) as pool:  # rank 0 last: the others first see the old keys
            waiting = [pool.submit(agree_on_prefix, store, r, 3, timeout) for r in (1, 2)]
            time.sleep(0.2)
            waiting.append(pool.submit(agree_on_prefix, store, 0, 3, timeout))
            return [future.result() for future in waiting]

    first, second = attempt(), attempt()
    assert len(set(first)) == len(set(second)) == 1
    assert first[0] != second[0]


def test_processes_that_do_not_come_are_not_waited_for_for_ever():
    with pytest.raises(RuntimeError):
        agree_on_prefix(torch.distributed.HashStore(), 1, 2, timedelta(seconds=0.2))


@pytest.mark.slow
def test_torchrun_restarts_killed_workers_and_changes_nothing(workplace: Path, started):
    """One of two workers is killed five times; nothing but `--max-restarts` is asked for."""
    common = ["--conf", "conf.yaml", "train.num_steps=60", "train.save_every_iter=2"]
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=9"]
    finish(start([*torchrun, "-m", "splatfactory.train", "whole", *common], workplace))
    process = start([*torchrun, "-m", "splatfactory.train", "broken", *common], workplace)
    started.append(process)
    folder = workplace / "outputs/training/broken"
    for _ in range(5):
        begun = newest(folder)
        wait_until(lambda begun=begun: newest(folder) > begun, 240)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(workers[-1]), signal.SIGKILL)
    finish(process, 400)
    first, second = (
        load_file(workplace / "outputs/training" / name / checkpoints.LAST)
        for name in ("whole", "broken")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_job_of_two_nodes_loses_one_is_queued_again_and_changes_nothing(workplace: Path, started):
    """Two nodes of two processes, started as `examples/cluster/slurm.sbatch` does."""
    common = ["--conf", "conf.yaml", "train.num_steps=20", "train.save_every_iter=2",
              "data.val_scenes=4", "data.batch_size=8", "data.image_num_range=[2,2]",
              "train.ddp_timeout_minutes=2", "--distributed", "--restore"]  # fmt: skip

    def submit(name: str) -> list:
        port = str(free_port())
        job = []
        for task in range(4):
            ranks = {"RANK": str(task), "LOCAL_RANK": str(task % 2), "WORLD_SIZE": "4"}
            place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
            command = ["splatfactory.train", name, *common]
            job.append(start(command, workplace, **ranks, **place))
        started.extend(job)
        return job

    for process in submit("whole"):
        finish(process, 600)
    job = submit("broken")
    wait_until(lambda: newest(workplace / "outputs/training/broken") >= 6, 600)
    for process in job[2:]:  # the second node
        process.send_signal(signal.SIGKILL)
    for process in job:
        process.communicate(timeout=300)
        assert process.returncode != 0
    for process in submit("broken"):
        finish(process, 600)
    first, second = (
        load_file(workplace / "outputs/training" / name / checkpoints.LAST)
        for name in ("whole", "broken")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def started():
    """Processes of a test; those that are left at its end are ended with their own children."""
    processes: list = []
    yield processes
    for process in processes:
        if process.poll() is None:
            kill_with_children(process.pid)
        if not process.stdout.closed:
            process.communicate()


@pytest.mark.slow
def test_ten_kills_change_nothing(workplace: Path):
    """kill -9 at random moments, resume each time: the weights are those of an unbroken run."""
    steps = "train.num_steps=200"  # more than ten kills can take, also on a fast machine
    common = ["--conf", "conf.yaml", steps, "train.save_every_iter=4", "train.eval_every_iter=50"]
    finish(start(["splatfactory.train", "whole", *common], workplace))
    generator = torch.Generator().manual_seed(0)
    kills = 0
    folder = workplace / "outputs/training/broken"
    process = start(["splatfactory.train", "broken", *common], workplace)
    while kills < 10:
        begun = newest(folder)
        while newest(folder) == begun and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.5 * float(torch.rand((), generator=generator)))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        process = start(["splatfactory.train", "broken", "--restore"], workplace)
    finish(process)
    assert kills == 10
    first, second = (
        load_file(workplace / "outputs/training" / name / checkpoints.LAST)
        for name in ("whole", "broken")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_host_that_dies_and_comes_back_continues_the_training(workplace: Path, started):
    """Two torchrun agents on loopback stand for two hosts; one is killed with its workers."""
    port = free_port()
    common = ["--conf", "conf.yaml", "train.num_steps=40", "train.save_every_iter=4",
              "data.batch_size=8", "data.image_num_range=[2,2]",
              "train.ddp_timeout_minutes=1"]  # fmt: skip

    def agent():
        """Start one host; every one is in `started`, for the cleanup."""
        command = [
            "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--max-restarts=5",
            "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--rdzv-id=test",
            "--local-addr=localhost",
            "-m", "splatfactory.train", "two", *common, "--restore",
        ]  # fmt: skip
        # With the shared store of torch 2.13 a returning agent waits for keys in the wrong place.
        process = start(command, workplace, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
        started.append(process)
        return process

    folder = workplace / "outputs/training/two"
    first = agent()  # the one that is there first keeps the rendezvous, so it must stay
    wait_until(lambda: is_open(port), 300)
    second = agent()
    wait_until(lambda: newest(folder) >= 8, 600)
    kill_with_children(second.pid)
    second.communicate()
    time.sleep(25)  # no host is back sooner than the rendezvous notices, after 15 s, that it left
    second = agent()
    finish(second, 400)
    output = finish(first, 400)
    assert "resuming from" in (folder / "log.log").read_text(), output
    steps = [json.loads(x)["step"] for x in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps.count(2) == 1, "the training began again instead of going on"
    assert newest(folder) == 40
    assert (folder / checkpoints.LAST).is_file()


def newest(folder: Path) -> int:
    found = checkpoints.full_checkpoints(folder) if folder.is_dir() else []
    return int(found[-1].stem.rpartition("_")[2]) if found else 0


def wait_until(is_true, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def kill_with_children(pid: int) -> None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for number in [str(pid), *children]:
        os.kill(int(number), signal.SIGKILL)
