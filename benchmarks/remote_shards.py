"""Loading shards from a web server with latency and errors, against the local disk.

    python benchmarks/remote_shards.py            # JPEG; both codecs: --codecs jpeg webp

The same shards are read from a folder and from a plain HTTP server in another process, which waits
before each response and fails some requests: half with status 503, half by breaking off midway. The
server has the last core to itself; both loaders share the others (Linux). Nothing is cached on
disk. Whole epochs of both alternate, after one warm-up epoch; views per second are wall-clock, from
the first request for a batch to the end of the epoch, and the ratio is the median over rounds. CPU
times are those of the loader's processes, without the server; on shared cores they are the better
figure. Bytes sent are those of all bodies from the server; bytes used are those of the tar members
that end up in a batch.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_loading import SAMPLER, SIZE, TARGETS, make_shards
from range_server import Behaviour, serve
from records import Record, Row

from splatfactory import paths
from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets import offsets
from splatfactory.datasets.loader import LoaderConfig, SceneLoader
from splatfactory.datasets.mixture import Member
from splatfactory.datasets.multiview import SampleConfig, open_shards


def run_server(folder: Path, behaviour: Behaviour, pipe: Connection) -> None:
    """Serve, and reply to each message with the bytes and requests served so far."""
    with serve(folder, behaviour) as url:
        pipe.send(url)
        while pipe.recv():
            failed = sum(status == 503 for _, _, status in behaviour.requests)
            pipe.send((behaviour.bytes_sent, len(behaviour.requests), failed))


def separate_cores(server_pid: int | None) -> None:
    """Pin the server to the last core and the loaders to the others, so they do not compete."""
    if server_pid is None or not hasattr(os, "sched_setaffinity"):
        return
    *others, last = sorted(os.sched_getaffinity(0))
    if others:
        os.sched_setaffinity(server_pid, {last})
        os.sched_setaffinity(0, others)


@contextmanager
def server(folder: Path, behaviour: Behaviour) -> Iterator[tuple[str, Connection]]:
    """Run a server in its own process, pinned to its own core on Linux."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=run_server, args=(folder, behaviour, there)
    )
    process.start()
    separate_cores(process.pid)
    try:
        yield here.recv(), here
    finally:
        here.send(None)
        process.join()


def open_loader(place: str | Path, num_workers: int, batch_size: int) -> SceneLoader:
    """Batches as in `data_loading.py`."""
    config = SampleConfig(num_target_views=TARGETS, preprocessing=PreprocessingConfig(SIZE, 14))
    dataset = open_shards("set", place, SAMPLER, config)
    return SceneLoader(
        [Member(dataset)],
        LoaderConfig(batch_size=batch_size, image_num_range=(2, 24), num_workers=num_workers),
    )


def cpu_seconds(loader: SceneLoader) -> float:
    """CPU time of this process and of the loader's workers so far."""
    iterator: Any = loader._loader._iterator
    workers = [] if iterator is None else iterator._workers
    total = time.process_time()
    for worker in workers:
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def epoch(loader: SceneLoader) -> tuple[float, float, list[tuple[tuple[str, ...], Any]]]:
    """Views per second of an epoch, CPU ms per view, and the views loaded."""
    begin, cpu, count, shown = time.perf_counter(), cpu_seconds(loader), 0, []
    for batch in loader:
        views = torch.cat([batch.context.indices, batch.target.indices], dim=1)
        count += views.numel()
        shown.append((batch.names, views))
    rate = count / (time.perf_counter() - begin)
    return rate, (cpu_seconds(loader) - cpu) * 1000 / count, shown


def bytes_of(folder: Path, shown: list[tuple[tuple[str, ...], Any]]) -> int:
    """Bytes of the tar members used by these views."""
    total = 0
    indices = [offsets.load(path) for path in sorted(folder.glob("*.tar"))]
    places = {key: (index, n) for index in indices for n, key in enumerate(index.keys)}
    for names, views in shown:
        for name, chosen in zip(names, views.tolist(), strict=True):
            index, scene = places[name.removeprefix("set-")]
            spans = [index.cameras(scene), index.poses(scene), index.depth_ranges(scene)]
            for view in set(chosen):
                spans += [index.image(scene, view), index.depth(scene, view)]
            total += sum(size for _, size in spans)
    return total


def measure(record: Record, codec: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Rows of one codec."""
    behaviour = Behaviour(arguments.latency_ms / 1000, arguments.errors / 100)
    with server(folder, behaviour) as (url, pipe):
        loaders = [
            open_loader(place, arguments.num_workers, arguments.batch_size)
            for place in (folder, url)
        ]
        for loader in loaders:
            epoch(loader)
        pipe.send(True)
        before = pipe.recv()
        rates, used = [], 0
        for _ in range(arguments.rounds):
            (local, cpu, shown), (remote, far_cpu, same) = (epoch(loader) for loader in loaders)
            assert [names for names, _ in shown] == [names for names, _ in same]
            rates.append((local, remote, cpu, far_cpu))
            used += bytes_of(folder, same)
        pipe.send(True)
        after = pipe.recv()
    sent, requests, failed = (new - old for new, old in zip(after, before, strict=True))
    table = np.array(rates)
    ratio = table[:, 1] / table[:, 0]
    print(
        f"{codec}: ratios {ratio.min():.2f} to {ratio.max():.2f}, {requests} requests,"
        f" {failed} of them refused"
    )
    local, remote, cpu, far_cpu = (float(value) for value in np.median(table, axis=0))
    what = f"{codec}, {arguments.latency_ms:g} ms latency, {arguments.errors:g} % errors"
    row = Row(f"{what}: views, by the clock", remote, "views/s", "the local disk", local)
    record.add(replace(row, more_is_better=True, wanted=0.8))
    record.add(Row(f"{what}: CPU time per view", far_cpu, "ms", "the local disk", cpu))
    what = f"{what}: sent for each byte that is used"
    record.add(Row(what, sent / used, "bytes", limit=1.1))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=48)
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-workers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--latency-ms", type=float, default=20)
    parser.add_argument("--errors", type=float, default=2, help="percent of requests that fail")
    parser.add_argument("--codecs", nargs="+", choices=("jpeg", "webp"), default=["jpeg"])
    arguments = parser.parse_args()
    os.environ[paths.CACHE_SIZE_VARIABLE] = "0"
    title = f"Training views from a web server, {arguments.num_workers} workers"
    record = Record("remote_shards", title, arguments.num_workers, ("obstore",))
    for codec in arguments.codecs:
        with tempfile.TemporaryDirectory() as name:
            os.environ[paths.CACHE_VARIABLE] = f"{name}/cache"
            folder = Path(name) / "shards"
            make_shards(folder, codec, arguments.scenes, arguments.views)
            measure(record, codec, folder, arguments)
    record.save()


if __name__ == "__main__":
    main()
