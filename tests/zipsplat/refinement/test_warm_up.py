"""Kernels of refinement are compiled ahead, once, where they can be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from zipsplat.kernel_folder import CACHE_VARIABLE
from zipsplat.refinement import warm_up
from zipsplat.refinement.warm_up import refinement_kernels


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, also for other processes."""
    folder = tmp_path / "kernels"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


def test_kernels_that_are_cached_are_not_compiled_again(cache: Path):
    cache.mkdir()
    for num_photos in (5, 30):
        refinement_kernels(num_photos).marker.touch()
        with refinement_kernels(num_photos) as kernels:
            assert not kernels.is_running


def test_nothing_is_started_without_a_cache(cache: Path):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file in its place")
    with refinement_kernels(30) as kernels:
        assert not kernels.is_running
        kernels.wait()


def test_the_process_ends_with_the_block(cache: Path):
    with refinement_kernels(30) as kernels:
        assert kernels.is_running
        (process,) = kernels._processes
    assert process.returncode is not None
    assert not kernels.marker.exists()


@pytest.mark.slow
def test_all_kernels_are_in_the_cache_afterwards(cache: Path):
    for num_photos in (5, 30):
        with refinement_kernels(num_photos) as kernels:
            assert kernels.is_running
            kernels.wait()
    stored = {path for path in cache.rglob("*") if path.is_file()}
    for num_views in (4, 14):
        warm_up.compile_kernels(num_views)
    assert {path for path in cache.rglob("*") if path.is_file()} == stored
