"""The CPU rasterizer beside forks, fresh processes, other threads, and odd cache directories."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from zipsplat.refinement import semi_global
from zipsplat.render import RenderSettings, Splats, Viewpoints
from zipsplat.render.cpu import (
    PLUGIN,
    bitcode,
    get_num_threads,
    set_num_threads,
    torch_on_one_thread,
    view,
)
from zipsplat.render.cpu.bin import number_intersections
from zipsplat.render.cpu.compiler import kernel
from zipsplat.render.cpu.num_threads import THREADS_VARIABLE
from zipsplat.render.cpu.pool import run
from zipsplat.render.cpu.sources import sources_digest

ROOT = Path(__file__).parents[3]
CHECKS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _default_threads() -> None:
    yield
    set_num_threads(None)


def image_of(seed: int = 0) -> Tensor:
    """A small image of many tiles."""
    generator = torch.Generator().manual_seed(seed)
    num = 500
    means = torch.rand(num, 3, generator=generator) * torch.tensor([4.0, 4.0, 4.0]) - 2
    means[:, 2] += 6
    splats = Splats(
        means=means,
        quats=torch.randn(num, 4, generator=generator),
        scales=torch.full((num, 3), 0.05),
        opacities=torch.rand(num, generator=generator),
        sh_coeffs=torch.randn(num, 1, 3, generator=generator),
    )
    K = torch.tensor([[[80.0, 0, 48], [0, 80, 48], [0, 0, 1]]])
    color = PLUGIN.render(splats, Viewpoints(torch.eye(4)[None], K, 96, 96), RenderSettings()).color
    assert color is not None
    return color


class Images(Dataset[Tensor]):
    """A dataset that renders, in any process."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return image_of(index)[0], get_num_threads()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loading_workers(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    set_num_threads(3)
    wanted = [image_of(i)[0] for i in range(4)]  # the pool of the parent has threads by now
    set_num_threads(None)
    loader = DataLoader(
        Images(), batch_size=None, num_workers=2, multiprocessing_context=method, timeout=300
    )
    for (image, num_threads), expected in zip(loader, wanted, strict=True):
        assert torch.equal(image, expected)
        assert num_threads == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_makes_its_own_threads() -> None:
    set_num_threads(3)
    wanted = image_of()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, pickle.dumps(bool(torch.equal(image_of(), wanted))))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        same = pickle.loads(pipe.read())
    assert os.waitpid(child, 0)[1] == 0
    assert same


def test_concurrent_callers() -> None:
    set_num_threads(2)
    wanted = [image_of(i) for i in range(6)]
    with ThreadPoolExecutor(6) as callers:
        rendered = list(callers.map(image_of, range(6)))
    for ours, expected in zip(rendered, wanted, strict=True):
        assert torch.equal(ours, expected)


def test_run_does_everything_once_and_raises_errors() -> None:
    done: list[int] = []
    run(
        lambda first, last: done.extend(range(first, last)),
        [(i, i + 3) for i in range(0, 99, 3)],
        4,
    )
    assert sorted(done) == list(range(99))

    def fail(first: int, _last: int) -> None:
        if first == 1:
            raise ArithmeticError("part 1")

    with pytest.raises(ArithmeticError, match="part 1"):
        run(fail, [(0, 1), (1, 2), (2, 3)], 3)
    run(fail, [], 3)


def test_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert get_num_threads() == torch.get_num_threads()
    monkeypatch.setenv(THREADS_VARIABLE, "7")
    assert get_num_threads() == 7
    set_num_threads(2)
    assert get_num_threads() == 2
    set_num_threads(None)
    monkeypatch.setattr("zipsplat.render.cpu.num_threads.get_worker_info", lambda: object())
    assert get_num_threads() == 7
    monkeypatch.delenv(THREADS_VARIABLE)
    assert get_num_threads() == 1
    monkeypatch.setenv(THREADS_VARIABLE, "many")
    with pytest.raises(ValueError, match="must be a positive number, got 'many'"):
        get_num_threads()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        set_num_threads(0)


def test_one_thread_for_pytorch_leaves_the_kernels_theirs() -> None:
    def used() -> tuple[int, int]:
        return torch.get_num_threads(), get_num_threads()

    def fail() -> None:
        with torch_on_one_thread():
            raise RuntimeError("stop")

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with torch_on_one_thread():
            assert used() == (1, 3)
            with torch_on_one_thread():
                assert used() == (1, 3)
            assert used() == (1, 3)
        assert used() == (3, 3)
        with pytest.raises(RuntimeError, match="stop"):
            fail()
        assert used() == (3, 3)
        set_num_threads(2)
        with torch_on_one_thread():
            set_num_threads(4)
            assert used() == (1, 2)
            with ThreadPoolExecutor(1) as other:
                assert other.submit(get_num_threads).result() == 4
        assert used() == (3, 4)
    finally:
        torch.set_num_threads(before)


SMALL = """
import sys, torch
from pathlib import Path
from zipsplat.render.cpu import bitcode
bitcode.ARCHIVE = Path("none")  # numba compiles
sys.path.insert(0, sys.argv[1])
from test_cpu_processes import image_of
print(float(image_of().sum()))
"""


def fresh_process(cache: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Render in a new process that keeps its compiled kernels in `cache`."""
    return subprocess.run(
        [sys.executable, "-c", SMALL, str(CHECKS)],
        cwd=ROOT,
        env={**os.environ, "ZIPSPLAT_KERNEL_CACHE": cache, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )


@pytest.mark.slow
def test_the_cache_is_used_damaged_and_not_writable(tmp_path: Path) -> None:
    cache = tmp_path / "kernels"
    first = fresh_process(str(cache))
    assert "compiling the CPU renderer" in first.stderr
    assert str(cache) in first.stderr
    second = fresh_process(str(cache))
    assert second.stderr == ""
    for file in cache.rglob("*.nb*"):
        file.write_bytes(b"no such thing")
    third = fresh_process(str(cache))
    assert "damaged cache file" in third.stderr
    assert fresh_process(str(cache)).stderr == ""
    nowhere = tmp_path / "a file"
    nowhere.write_text("not a directory")
    fourth = fresh_process(str(nowhere / "kernels"))
    assert "stored in nowhere" in fourth.stderr
    assert first.stdout == second.stdout == third.stdout == fourth.stdout


def test_only_kernels_of_the_package_are_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark's own kernel would be found again by programs that cannot read it."""
    monkeypatch.setenv("ZIPSPLAT_KERNEL_CACHE", str(tmp_path))

    @kernel
    def double(number: int) -> int:
        return 2 * number

    assert double(21) == 42
    assert list(tmp_path.rglob("*")) == []
    monkeypatch.setattr(bitcode, "ARCHIVE", tmp_path / "none.zip")
    ours = kernel(number_intersections.py_func)  # type: ignore[attr-defined]
    assert ours(view.Slots(*(np.zeros(4, t) for t in "fiiiiiii"))) == (0, 0)
    assert {path.suffix for path in tmp_path.rglob("*.nb*")} == {".nbc"}


def test_kernels_are_cached_by_what_their_files_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Editing one stage leaves the kernels of the others, and of stereo, valid."""
    monkeypatch.setenv("ZIPSPLAT_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(bitcode, "ARCHIVE", tmp_path / "none.zip")
    file = Path(semi_global.__file__)
    floats = [np.zeros(1, np.float32)] * 4
    volume = semi_global.Volume(0, 0, 0, 16, floats[0], 0, 0, *floats)
    kernel(semi_global.pick_planes.py_func)(0, 0, volume, *floats[:2])  # type: ignore[attr-defined]
    folders = {path.parent.name for path in tmp_path.rglob("*.nbc")}
    assert folders == {sources_digest(file)[:16]}


TARGETS = {
    "avx2": (
        "haswell",
        "+avx2,+fma,+bmi,+bmi2,+avx,+sse4.2,-avx512f,-avx512vl,-avx512bw,-avx512dq",
    ),
    "sse4.2": ("nehalem", "+sse4.2,+popcnt,-avx,-avx2,-fma,-avx512f,-avx512vl,-avx512bw"),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="targets of x86-64")
@pytest.mark.parametrize("target", list(TARGETS))
def test_other_instruction_sets(target: str, tmp_path: Path) -> None:
    """Golden images and gradients, compiled for older processors."""
    name, features = TARGETS[target]
    tests = ["test_golden.py", "test_simd.py", "test_cpu.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-k", "not reference", *(str(CHECKS / test) for test in tests)],
        cwd=ROOT,
        env={
            **os.environ,
            "ZIPSPLAT_KERNEL_CACHE": str(tmp_path),
            "NUMBA_CPU_NAME": name,
            "NUMBA_CPU_FEATURES": features,
        },
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
