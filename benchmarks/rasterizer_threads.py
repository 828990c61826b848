"""What threads gain the CPU rasterizer, by the clock and stage by stage; see `rasterizer.py`."""

from __future__ import annotations

import functools
import time
import unittest.mock as mock
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rasterizer_scenes import Scene, title_of
from rasterizer_stages import Stages, plan_of
from records import Record, Row, in_turns, least_ms

from zipsplat.render import RenderSettings
from zipsplat.render.cpu import PLUGIN, set_num_threads
from zipsplat.render.cpu import view as stages

GAIN_BY_TWO = 1.8


def scaling(record: Record, scene: Scene, num_threads: int, rounds: int) -> None:
    """Rows of what threads gain, by the clock and by CPU times, which other load hardly changes.

    For the second, the call for several threads runs on one, part by part, and the smallest time of
    each part is taken. What lies outside of the parts is serial. Threads take the parts in order,
    as in `pool`.
    """
    parts = Stages(scene)
    num, what = len(parts.inputs.opacities), title_of(scene)
    ours = in_turns(
        {n: functools.partial(_render, scene, n) for n in (1, num_threads)},
        rounds,
        time.perf_counter,
    )
    one = least_ms(lambda: stages.render_view(parts.scene, parts.camera, parts.plan), rounds)
    smallest = _parts_alone(parts, scene, num_threads, rounds)
    paths = {name: _makespan(times, num_threads) for name, times in smallest.items()}
    is_large = num >= 1_000_000
    rows = (
        ("by the clock", 1e3 * ours[num_threads], 1e3 * ours[1]),
        ("longest path by CPU time", sum(paths.values()), one),
    )
    for how, value, alone in rows:
        row = Row(f"{what}: {num_threads} threads, {how}", value, "ms", "one thread", alone)
        wanted = GAIN_BY_TWO if is_large and num_threads == 2 else None
        record.add(replace(row, wanted=wanted, key=f"rasterizer, {row.what}" if is_large else ""))
    for name, path in paths.items() if is_large else ():
        row = Row(f"{what}: {name}, longest path", path, "ms", "its parts in a row")
        record.add(replace(row, peer_value=sum(smallest[name])))


def _render(scene: Scene, num_threads: int) -> None:
    set_num_threads(num_threads)
    with torch.no_grad():
        PLUGIN.render(scene.splats, scene.viewpoints, RenderSettings())
    set_num_threads(1)


def _parts_alone(
    parts: Stages, scene: Scene, num_threads: int, rounds: int
) -> dict[str, list[float]]:
    """Smallest milliseconds of each part of each stage, and of what is in none."""
    plan = plan_of(scene.viewpoints, num_threads)
    measured: list[list[list[float]]] = []  # by round and stage

    def run_alone(task: Callable[..., Any], ranges: Any, _num_threads: int) -> None:
        times = []
        for part in ranges:
            start = time.thread_time()
            task(*part)
            times.append(1e3 * (time.thread_time() - start))
        measured[-1].append(times)

    with mock.patch.object(stages, "run", run_alone):
        for _ in range(rounds):
            measured.append([])
            start = time.thread_time()
            stages.render_view(parts.scene, parts.camera, plan)
            whole = 1e3 * (time.thread_time() - start)
            measured[-1].append([whole - sum(map(sum, measured[-1]))])
    names = ("projection", "lists of tiles", "sort and fill", "blending", "serial rest")
    smallest = [np.min(stage, axis=0).tolist() for stage in zip(*measured, strict=True)]
    return dict(zip(names, smallest, strict=True))


def _makespan(times: list[float], num_threads: int) -> float:
    """When the last of some threads ends, each taking the next part when it is free."""
    ends = [0.0] * num_threads
    for part in times:
        ends[ends.index(min(ends))] += part
    return max(ends)
