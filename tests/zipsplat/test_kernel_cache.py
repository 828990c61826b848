"""Compiled kernels: only the user's own are read, and only as they were written."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from zipsplat.kernel_cache import KernelFiles
from zipsplat.kernel_folder import cache_directory, make_own_folder
from zipsplat.render.cpu import bitcode, view
from zipsplat.render.cpu.bin import number_intersections
from zipsplat.render.cpu.compiler import kernel


class Intruder:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def test_a_flipped_bit_costs_time_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = KernelFiles(tmp_path, "x-1.py311")
    files.save("key", b"machine code")
    assert files.load("key") == b"machine code"
    assert files.load("other") is None
    (path,) = tmp_path.iterdir()
    good = path.read_bytes()
    for bit in range(0, 8 * len(good), 7):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        assert files.load("key") is None
    assert "replaced a damaged cache file" in caplog.text
    for bad in (b"", good[:40], good + b"x", os.urandom(500)):
        path.write_bytes(bad)
        assert files.load("key") is None
    path.write_bytes(good)
    files._path("other").write_bytes(good)  # exchanged files
    assert files.load("other") is None
    files.flush()
    assert list(tmp_path.iterdir()) == []


def test_folders_that_others_can_write_to(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    make_own_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    for mode in (0o777, 0o770, 0o702):
        folder.chmod(mode)
        with pytest.raises(OSError, match=r"others than you .*kernels"):
            make_own_folder(folder)
    folder.chmod(0o755)
    make_own_folder(folder)
    open_parent = tmp_path / "open"
    open_parent.mkdir()
    open_parent.chmod(0o777)
    with pytest.raises(OSError, match=r"others than you .*open"):
        make_own_folder(open_parent / "kernels")
    open_parent.chmod(0o1777)  # as /tmp: nobody can rename what is another's
    make_own_folder(open_parent / "kernels")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    own, link = tmp_path / "own", tmp_path / "link"
    own.mkdir(mode=0o700)
    link.symlink_to(own)
    assert make_own_folder(link / "kernels") == own.resolve() / "kernels"
    own.chmod(0o777)
    with pytest.raises(OSError, match=r"others than you .*own"):
        make_own_folder(link / "kernels")


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root")
def test_folders_of_other_users(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(OSError, match="others than you"):
        make_own_folder(folder)


def test_nothing_that_others_put_there_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIPSPLAT_KERNEL_CACHE", str(tmp_path / "kernels"))
    monkeypatch.setattr(bitcode, "ARCHIVE", tmp_path / "none.zip")
    slots = view.Slots(*(np.zeros(4, kind) for kind in "fiiiiiii"))
    kernel(number_intersections.py_func)(slots)  # type: ignore[attr-defined]
    (file,) = (tmp_path / "kernels").rglob("*.nbc")
    target = tmp_path / "made"
    hostile = pickle.dumps(Intruder(target))
    for content in (hostile, file.read_bytes()[:32] + hostile):
        file.write_bytes(content)
        assert kernel(number_intersections.py_func)(slots) == (0, 0)  # type: ignore[attr-defined]
        assert not target.exists()
    file.parent.chmod(0o777)
    planted = list(file.parent.iterdir())
    for path in planted:
        path.write_bytes(hostile)
    assert kernel(number_intersections.py_func)(slots) == (0, 0)  # type: ignore[attr-defined]
    assert not target.exists()


def test_a_relative_folder_of_the_system_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIPSPLAT_KERNEL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache_directory().is_absolute()
