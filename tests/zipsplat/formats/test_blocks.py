"""Blocks and threads change nothing in a file."""

from __future__ import annotations

import io
import threading

import pytest

from tests.zipsplat.formats.scenes import scene
from zipsplat.formats import FORMATS, _blocks
from zipsplat.formats._blocks import BLOCK_ROWS, blocks, on_threads


@pytest.mark.parametrize("num", [0, 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS - 1])
def test_blocks_cover_every_row_once(num: int) -> None:
    rows = [row for block in blocks(num) for row in range(num)[block]]
    assert rows == list(range(num))
    assert len(blocks(num)) == max(1, -(-num // BLOCK_ROWS))


def test_results_keep_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    barrier = threading.Barrier(3, timeout=60)  # passes only with three threads at once

    def work(item: int) -> int:
        barrier.wait()
        return item * item

    assert on_threads(work, range(6)) == [0, 1, 4, 9, 16, 25]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert (
        on_threads(lambda _: threading.current_thread(), range(2)) == [threading.main_thread()] * 2
    )


@pytest.mark.parametrize("name", ["spz", "compressed_ply"])
@pytest.mark.parametrize("degree", [0, 3])
def test_files_do_not_depend_on_blocks_and_threads(
    name: str, degree: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    splats = scene(1500, degree, cells=12)
    files = []
    for block_rows, threads in ((1 << 20, "1"), (256, "3")):
        monkeypatch.setattr(_blocks, "BLOCK_ROWS", block_rows)
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        file = io.BytesIO()
        FORMATS[name].write(file, splats)
        files.append(file.getvalue())
    assert files[0] == files[1]
