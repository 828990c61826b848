"""Files are whole or not there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zipsplat import files
from zipsplat.files import atomic_path, only_writer, user_cache, write_atomically

ROOT = Path(__file__).parents[2]


def test_replaces_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.bin"
    write_atomically(path, lambda file: file.write(b"one"))
    write_atomically(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.bin"]


def test_failure_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    old = os.umask(0o027)
    try:
        write_atomically(path, lambda file: file.write(b"x"))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "file.bin", tmp_path / "link.bin"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path / "store") == ["file.bin"]
    dangling = tmp_path / "dangling.bin"
    dangling.symlink_to(tmp_path / "store" / "later.bin")
    write_atomically(dangling, lambda file: file.write(b"x"))
    assert (tmp_path / "store" / "later.bin").read_bytes() == b"x"


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"

    def write(_file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, write)
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.stat().st_mode & 0o7777 == 0o600


WRITER = """
import sys, time
from zipsplat.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_what_dead_processes_left_goes_and_what_living_ones_write_stays(tmp_path: Path) -> None:
    dead, living = writer(tmp_path / "a.bin"), writer(tmp_path / "b.bin")
    try:
        dead.kill()
        dead.wait()
        other = tmp_path / f"{files.PARTIAL}00000000-1-ab.bin"  # of another machine
        other.write_bytes(b"x")
        assert len(list(tmp_path.iterdir())) == 3
        files._sweep_once.cache_clear()
        write_atomically(tmp_path / "c.bin", lambda file: file.write(b"c"))
        names = {path.name for path in tmp_path.iterdir()}
        assert names >= {"c.bin", other.name}
        assert len(names) == 3
        assert any(f"-{living.pid}-" in name for name in names)
    finally:
        living.kill()
        living.wait()
        for process in (dead, living):
            assert process.stdout is not None
            process.stdout.close()


def test_a_partial_file_of_a_process_that_cannot_be_seen_stays(tmp_path: Path) -> None:
    """In another container, as far as process numbers tell: its lock shows that it lives."""
    path = tmp_path / f"{files.PARTIAL}{files._this_machine()}-{2**22 + 1}-ab.bin"
    with path.open("wb") as file:
        assert files._try_lock(file.fileno())
        files._sweep_once(tmp_path)
        assert path.exists()
    files._sweep_once.cache_clear()
    files._sweep_once(tmp_path)
    assert not path.exists()


def test_one_writer_per_folder(tmp_path: Path) -> None:
    def enter() -> None:
        with only_writer(tmp_path):
            pass

    with only_writer(tmp_path), pytest.raises(ValueError, match="another process is working in"):
        enter()
    enter()


def test_a_relative_cache_folder_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "here", "./cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert user_cache() == Path.home() / ".cache"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ply")
    (tmp_path / "endless.ply").symlink_to("/dev/zero")
    for name in ("pipe.ply", "endless.ply"):
        with pytest.raises(OSError, match=f"pipe or a device.*{name}"):
            files.open_file(tmp_path / name)
    (tmp_path / "real").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("real")
    with files.open_file(tmp_path / "link") as file:
        assert file.read() == b"abc"
    with pytest.raises(IsADirectoryError):
        files.open_file(tmp_path)
